/** The command line against the real HTTP API over a real log: what it sends is taken, what it gets is shown. */
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createHarness } from '../api/harness.ts';
import { createHome } from './run-cli.ts';

t.setTimeout(180_000);

t.test('an operator takes a bare agent through its life', async (t) => {
  const agent = createHarness(t);
  const home = createHome();
  t.teardown(() => home.remove());
  const { port } = await agent.api.start();
  const url = `http://127.0.0.1:${port}`;
  const run = (...args: string[]) => home.run(args);
  const good = async (...args: string[]) => {
    const result = await run(...args);
    t.equal(result.code, 0, `arctic ${args.join(' ')}\n${result.stderr}`);
    return result.stdout;
  };

  const bare = await run('peers', 'list', '--url', url);
  t.equal(bare.code, 3, 'not bootstrapped');

  const file = join(home.directory, 'license.json');
  writeFileSync(file, JSON.stringify(agent.license()));
  t.match(
    await good('bootstrap', '--url', url, '--license-file', file, '--name', 'london'),
    /^Peer ID: +peer_/,
  );
  const again = await run('bootstrap', '--url', url, '--license-file', file);
  t.equal(again.code, 1);
  t.match(again.stderr, /^Error: this agent belongs to cluster clu_/);

  t.match(
    await good('license', 'status'),
    /License ID: +lic_[\s\S]*State: +valid[\s\S]*Max Nodes: +5 \(1 in use\)/,
  );
  t.match(await good('peers', 'add', 'paris.example:8080', '--name', 'paris'), /Name: +paris\n/);
  t.match(await good('peers', 'list', '--remote'), /paris +paris\.example:8080 +active/);
  t.match(await good('peers', 'update', 'paris', '--api-access', 'internal'), /API Access: +internal/);

  t.match(
    await good('services', 'create', '--target-peer', 'paris', '--name', 'web', '--bandwidth-limit', '50'),
    /Bandwidth: +50 Mbit\/s[\s\S]*iptun: pending \(waiting for a handshake\)/,
  );
  const twice = await run('services', 'create', '--target-peer', 'paris', '--name', 'web');
  t.match(twice.stderr, /^Error: service svc_.* has the name "web" already\.\n$/, 'one line, said once');
  t.match(await good('services', 'update', 'web', '--bandwidth-limit', '0'), /Bandwidth: +unlimited/);
  t.match(
    await good('routes', 'add', '--service', 'web', '--priority', '100', '--dest-cidr', '192.168.7.0/24'),
    /^Route 1 added/,
  );
  const hostBits = await run(
    'routes',
    'add',
    '--service',
    'web',
    '--priority',
    '1',
    '--dest-cidr',
    '192.168.7.1/24',
  );
  t.equal(hostBits.code, 2);
  t.match(hostBits.stderr, '192.168.7.0/24', 'with the corrected CIDR');
  t.match(
    await good('routes', 'update', '1', '--service', 'web', '--priority', '200'),
    /200 +- +192\.168\.7\.0\/24/,
  );
  t.match(JSON.parse(await good('routes', 'list', '--service', 'web', '--json')), [{ id: 1, priority: 200 }]);
  t.match(JSON.parse(await good('services', 'list', '--json')), [{ name: 'web', route_count: 1 }]);

  const made = JSON.parse(await good('credentials', 'create', '--scopes', 'peers.read', '--json')) as {
    client_id: string;
    scopes: string[];
  };
  t.same(made.scopes, ['peers.read']);
  t.match(await good('credentials', 'list'), made.client_id);
  await good('credentials', 'revoke', made.client_id, '--yes');
  const rotated = await good('credentials', 'rotate', '--update-config');
  t.notMatch(rotated, /sec_/);
  t.match(await good('cluster', 'status'), /PEER +STATE +LAST SEEN +LAG +LOG HEAD +DIGEST\n/);
  t.match(await good('cluster', 'sync'), 'Sync triggered');
  t.match(await good('cluster', 'lock'), 'not locked');
  t.match(await good('cluster', 'identity', '--json'), agent.identity.peerId);

  t.match(await good('events', 'list', '--type', 'route.added'), /london\/client {2}/);
  const [newest] = JSON.parse(`[${(await good('events', 'tail', '-n', '1', '--json')).trim()}]`) as {
    id: string;
  }[];
  t.match(await good('events', 'get', newest?.id ?? ''), /Hash: +[0-9a-f]{64}/);
  let update: Promise<unknown> | undefined;
  const followed = await home.spawn(['events', 'tail', '-f', '-n', '1'], {
    onOutput: () => {
      update = good('services', 'update', 'web', '--bandwidth-limit', '7');
    },
    until: /service web updated: bandwidth_limit_mbps=7\n/,
  });
  await update;
  t.equal(followed.stdout.split('bandwidth_limit_mbps=7\n').length, 2, `streamed once\n${followed.stderr}`);
  t.match(await good('replay', '--projection', 'services'), /name: web/);
  t.match(await good('replay', '--projection', 'services', '--diff-with', '1'), /^ {2}\+ service /m);
  t.equal((await run('drift')).code, 7);

  t.match(await good('health', '--url', url), /: ok\n$/);
  t.equal((await run('health', '--readyz')).code, 0);
  agent.failing.set('firewall', 'the table is owned by another program');
  const unready = await run('health', '--readyz');
  t.equal(unready.code, 1);
  t.match(unready.stdout, /reconciler firewall: +failed \(the firewall reconciler fails: the table is owned/);

  t.match(
    await good('routes', 'delete', '1', '--service', 'web', '--yes'),
    /^Route 1 of service \S+ deleted\.$/m,
  );
  t.match(await good('events', 'list', '--type', 'route.deleted'), / {2}route 1 of web deleted\n/);
  const past = (await good('events', 'tail', '--after', '3')).trimEnd().split('\n');
  t.match(past[0], /^ +4 {2}/, 'a tail goes on after the position it is given');
  t.match(past.at(-1), /route 1 of web deleted$/);
  t.match(await good('services', 'delete', 'web', '--yes'), /^Service web \(svc_.*\) deleted/);
  t.match(await good('peers', 'delete', 'paris', '--yes'), /^Peer paris \(peer_.*\) removed/);
  const self = await run('peers', 'delete', 'london', '--yes');
  t.match(self.stderr, 'arctic peers remove-self');
  t.equal(statSync(home.configPath).mode & 0o777, 0o600);
});
