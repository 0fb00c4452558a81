import t from 'tap';
import { createCluster, eventually } from './cluster.ts';
import { operator } from './operator.ts';

t.test('cleanup takes everything of ours out of the kernel, after a crash too', async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const entry = cluster.member(0);
  const exit = cluster.member(1);
  const run = operator(cluster, 0);
  const kernel = async () => {
    const seen = [
      ['nft', 'list', 'tables'],
      ['ip', 'rule', 'show'],
      ['ip', '-6', 'rule', 'show'],
      ['ip', '-details', 'link', 'show'],
    ].map((argv) => lab.exec('entry', argv));
    return (await Promise.all(seen)).map(({ stdout }) => stdout).join('');
  };
  const links = (text: string) => text.split('\n').filter((line) => /alias arctic:svc_/.test(line)).length;

  const before = await kernel();
  const send = (path: string, body: object) =>
    entry.agent.request('POST', path, { body, token: entry.token });
  const service = await send('/v1/services', {
    name: 'web',
    target_peer_id: exit.identity.peer_id,
    requires_interface: true,
    desired_ipv4_cidr: '10.91.2.77/24',
  });
  t.equal(service.status, 201, service.text);
  const { id } = service.json<{ id: string }>();
  t.equal(
    (await send(`/v1/services/${id}/routes`, { routes: [{ priority: 1, dest_cidr: '10.91.3.0/24' }] }))
      .status,
    201,
  );
  await eventually('the kernel follows', async () => {
    const now = await kernel();
    return now.includes('table inet arctic') && links(now) === 1;
  });

  const refused = await run('agent', '--cleanup');
  t.equal(refused.code, 3, 'not under a running agent, which would put it all back');
  t.match(refused.stderr, /stop it first/);

  entry.agent.kill();
  await entry.agent.process.ended;
  const cleaned = await run('agent', '--cleanup');
  t.equal(cleaned.code, 0, cleaned.stderr);
  const after = await kernel();
  t.notMatch(after, /table inet arctic|arctun|alias arctic:/);
  t.equal(links(after), 0);
  const rules = (text: string) =>
    text
      .split('\n')
      .filter((line) => /^\d+:\t?.*lookup/.test(line))
      .sort();
  t.same(rules(after), rules(before), 'policy routing is as it was');
  t.equal((await run('agent', '--cleanup')).code, 0, 'and again there is nothing to do');
});
