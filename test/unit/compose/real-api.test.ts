/** `arctic compose` against the real HTTP API over a real log; the other member is played. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { createHarness } from '../api/harness.ts';
import { createHome } from '../cli/run-cli.ts';

t.setTimeout(180_000);

t.test('plan, apply, apply again, lock, export, rollback', async (t) => {
  const agent = createHarness(t);
  const home = createHome();
  t.teardown(() => home.remove());
  const { port } = await agent.listening();
  const at = (name: string) => join(home.directory, name);
  const file = at('cluster.yaml');
  const run = (...args: string[]) => home.run(['compose', ...args]);
  const good = async (...args: string[]) => {
    const result = await run(...args);
    t.equal(result.code, 0, `compose ${args.join(' ')}\n${result.stderr}`);
    return result.stdout;
  };
  const text = (limit: number) => `version: v1
license: license.json
peers:
  - { name: london, address: "127.0.0.1:${port}" }
services: []
# ${limit}
`;
  writeFileSync(at('license.json'), JSON.stringify(agent.license()));
  writeFileSync(file, text(0));

  const bare = await run('diff', file);
  t.equal(bare.code, 7);
  t.match(bare.stdout, '+ peer london  (bootstrap, then join)');
  const made = await run('apply', file, '--yes');
  t.equal(made.code, 0, made.stderr);
  t.match(made.stderr, /done {2}bootstrap london .*its credentials are in/);
  t.equal(statSync(home.configPath).mode & 0o777, 0o600);
  t.match(readFileSync(home.configPath, 'utf8'), /^clusters:\n {2}clu_\w+:\n {4}cluster_id: /m, 'in blocks');

  // Another member, whose reconcilers nobody may ask.
  const paris = agent.admit('paris');
  const peer = (body: unknown, token: string) => agent.send('PUT', `/v1/peers/${paris}`, { body, token });
  const saved = parse(readFileSync(home.configPath, 'utf8')) as {
    current_cluster: string;
    clusters: Record<string, { client_id: string; client_secret: string }>;
  };
  const own = saved.clusters[saved.current_cluster];
  const token = await agent.token(own?.client_id ?? '', own?.client_secret ?? '');
  t.equal((await peer({ address: '127.0.0.1:9', api_access: 'internal' }, token)).status, 200);
  const withService = (limit: number) => `version: v1
peers:
  - { name: london, address: "127.0.0.1:${port}" }
  - { name: paris, address: "127.0.0.1:9", api_access: internal }
services:
  - name: web
    source_peer: london
    target_peer: paris
    qos: { bandwidth_limit_mbps: ${limit} }
    routes:
      - { priority: 100, dest_cidr: 10.1.0.0/16 }
`;
  writeFileSync(file, withService(50));
  const head = () => agent.log.head;

  const plan = JSON.parse((await run('diff', file, '--json')).stdout) as object;
  t.match(plan, {
    changes: [{ kind: 'service', action: 'add', name: 'web', id: null, routes: [{ action: 'add' }] }],
    summary: { add: 1, change: 0, remove: 0 },
    warnings: [],
  });
  const before = head();
  t.equal((await run('apply', file, '--dry-run')).code, 0);
  const declined = await home.run(['compose', 'apply', file], { answers: ['n'] });
  t.equal(declined.code, 1);
  t.match(declined.stderr, /Make this change\? \[y\/N\] .*cancelled; nothing was changed/s);
  t.equal(head(), before, 'neither appended anything');

  const applied = JSON.parse(await good('apply', file, '--yes', '--json')) as object;
  t.match(applied, {
    changed: true,
    correlation_id: /^cor_/,
    steps: [{ step: 'create service web with 1 route', state: 'done' }],
    peers: [
      { peer: 'london', received: true, applied: true },
      { peer: 'paris', received: true, note: /its API is internal/ },
    ],
    error: null,
  });
  const after = head();
  t.match(await good('apply', file, '--yes'), 'No changes: the cluster is as');
  t.equal(head(), after, 'applied twice, it appends nothing');

  writeFileSync(at('exported.yaml'), await good('export'));
  t.match(await good('diff', at('exported.yaml'), '--strict'), 'No difference');

  writeFileSync(file, withService(7));
  const lock = await agent.send('POST', '/v1/cluster/lock', {
    token,
    body: { holder: 'alice@ws-1', purpose: 'a test' },
  });
  t.equal(lock.status, 201);
  const locked = await run('apply', file, '--yes');
  t.equal(locked.code, 1);
  t.match(locked.stderr, 'Error: the cluster is locked by alice@ws-1 (a test) until');
  const { fence } = lock.body.lock;
  await agent.send('DELETE', '/v1/cluster/lock', { token, headers: { 'x-arctic-fence': String(fence) } });
  await good('apply', file, '--yes');
  t.match(
    (await agent.send('GET', '/v1/cluster/lock', { token })).body,
    { locked: false },
    'the lock is given back',
  );

  const back = await run('rollback', '--yes');
  t.equal(back.code, 0, back.stderr);
  t.match(back.stdout, '~ qos.bandwidth_limit_mbps: 7 -> 50');
  t.match(
    await good('rollback', '--to', String(before), '--dry-run'),
    '- service web  (london to paris, 1 route)',
  );
  const beyond = await run('rollback', '--to', 'yesterday');
  t.equal(beyond.code, 2);

  const usage = await home.run(['compose', 'diff', file, '--peer', 'london']);
  t.equal(usage.code, 2);
  t.match(usage.stderr, 'name the agent to ask with --url');
  const nowhere = await run('validate', at('nowhere.yaml'));
  t.equal(nowhere.code, 3);
  t.match(nowhere.stderr, /^Error: cannot read .*nowhere\.yaml: no such file or directory\.\n$/);
});

t.test('init, fmt and validate ask nobody', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const file = join(home.directory, 'cluster.yaml');
  t.equal((await home.run(['compose', 'init', file])).code, 0);
  const again = await home.run(['compose', 'init', file]);
  t.equal(again.code, 3);
  t.match(again.stderr, 'it exists already, and is left as it is');
  t.match(
    (await home.run(['compose', 'validate', '-f', file])).stdout,
    'is valid: 2 peers, 1 service, 1 route.',
  );
  t.equal((await home.run(['compose', 'fmt', file, '--check'])).code, 0);
  writeFileSync(file, readFileSync(file, 'utf8').replace('name: london\n', 'nam: london\n'));
  const broken = await home.run(['compose', 'validate', file, '--json']);
  t.equal(broken.code, 3);
  t.match(JSON.parse(broken.stdout), {
    valid: false,
    errors: [{ line: /^\d+$/, column: 5, message: /Did you mean 'name'/ }],
  });
  const piped = await home.run(['compose', 'fmt', '-'], { stdin: 'version:   v1 # one\n' });
  t.equal(piped.stdout, 'version: v1 # one\n');
  t.equal((await home.run(['compose', 'fmt', '-', '--check'], { stdin: 'a:   b\n' })).code, 7);
  t.equal((await home.run(['compose', 'validate', '-'], { stdin: '\u0000' })).code, 3);
});
