import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { ERRORS } from '../../../events/errors.ts';
import { verifyLicense } from '../../../src/identity/license.ts';
import { loadTrustRoots } from '../../../src/identity/trust-roots.ts';
import { TOKEN } from './fake-api.ts';
import { createHome } from './run-cli.ts';
import { CLUSTER, LOCAL, OTHER, peers, SECRET, SERVICE, scene, service, ULID, writeConfig } from './scene.ts';

t.setTimeout(180_000);

t.test('bootstrap prints its seven fields, saves the cluster and never shows the secret', async (t) => {
  const [home, api] = await scene(t, {
    'POST /v1/bootstrap': {
      status: 201,
      body: {
        peer_id: LOCAL,
        peer_public_key: `${'A'.repeat(43)}=`,
        client_id: `cli_${ULID}`,
        client_secret: SECRET,
        license_id: 'lic_1',
        cluster_id: CLUSTER,
        expires_at: '2027-01-01T00:00:00.000Z',
        max_nodes: 10,
        max_services: 100,
      },
    },
    [`GET /v1/peers/${LOCAL}`]: { body: { ...peers[0], endpoints: ['http://london.example:8080'] } },
  });
  const file = join(home.directory, 'license.json');
  writeFileSync(file, JSON.stringify({ customer_id: 'cust_acme' }));
  const result = await home.spawn(['bootstrap', '--url', api.url, '--license-file', file, '--trace']);
  t.equal(result.code, 0, result.stderr);
  t.same(
    result.stdout.split('\n').map((line) => line.replace(/: .*/, '')),
    ['Peer ID', 'Cluster ID', 'Client ID', 'License ID', 'Expires', 'Max Nodes', 'Max Services', ''],
  );
  t.notMatch(result.stdout + result.stderr, SECRET, 'not even in the trace');
  t.notMatch(result.stderr, TOKEN);
  t.match(result.stderr, /> POST .*\/v1\/bootstrap/);
  t.same(JSON.parse(api.asked.find(({ path }) => path === '/v1/bootstrap')?.body ?? ''), {
    license: { customer_id: 'cust_acme' },
  });

  t.equal(statSync(home.configPath).mode & 0o777, 0o600);
  const saved: unknown = parse(readFileSync(home.configPath, 'utf8'));
  t.same(saved, {
    current_cluster: CLUSTER,
    clusters: {
      [CLUSTER]: {
        cluster_id: CLUSTER,
        customer_id: 'cust_acme',
        client_id: `cli_${ULID}`,
        client_secret: SECRET,
        peers: [{ peer_id: LOCAL, name: 'london', endpoints: [api.url, 'http://london.example:8080'] }],
        default_peer: LOCAL,
        name: 'london',
      },
    },
    preferences: {},
  });
});

t.test('lists have the columns of the contract and fit 80 columns', async (t) => {
  const [home, api] = await scene(t, {
    'GET /v1/peers': { body: { peers, next_cursor: null } },
    'GET /v1/services': ({ query }) =>
      query.get('cursor') === null
        ? { body: { services: [service], next_cursor: 'more' } }
        : { body: { services: [{ ...service, name: 'a-rather-long-service-name' }], next_cursor: null } },
    [`GET /v1/services/${SERVICE}/routes`]: { body: { routes: service.routes, next_cursor: null } },
  });
  writeConfig(home, [api.url]);

  const listed = await home.run(['peers', 'list']);
  t.match(listed.stdout, /^ID +NAME +ADDRESS +STATE +LAST SEEN\n/);
  t.match(listed.stdout, /active +local\n/);
  const config = readFileSync(home.configPath, 'utf8');
  t.match(config, /# kept comment/, 'a rewritten configuration keeps its comments');
  t.match(config, /paris/, 'the peers of the cluster are learnt from the list');

  const services = await home.run(['service', 'list'], { env: { COLUMNS: '80' } });
  t.match(services.stdout, /^ID +NAME +SOURCE +TARGET +TRANSPORT +FLAGS +STATUS\n/);
  t.match(services.stdout, /web +london +paris +tcp +ITQ +pending\n/);
  t.ok(services.stdout.split('\n').every((line) => [...line].length <= 80));
  const piped = await home.run(['services', 'list']);
  t.match(piped.stdout, 'a-rather-long-service-name', 'nothing is cut in a pipe');

  const json = await home.run(['services', 'list', '--json']);
  t.same((JSON.parse(json.stdout) as unknown[])[0], service, 'the pages as one array');
  const routes = await home.run(['routes', 'list', '--service', SERVICE, '-o', 'yaml']);
  t.same(parse(routes.stdout), service.routes);
  t.equal(api.asked.filter((one) => one.path === '/v1/oauth/token').length, 1, 'one token for all of them');
  t.notMatch(listed.stderr + services.stderr, /Warning/);
});

t.test('services get shows a line for each reconciler', async (t) => {
  const [home, api] = await scene(t, {
    'GET /v1/peers': { body: { peers, next_cursor: null } },
    'GET /v1/services': { body: { services: [service], next_cursor: null } },
    [`GET /v1/services/${SERVICE}`]: { body: service },
  });
  writeConfig(home, [api.url]);
  const result = await home.run(['services', 'get', 'web']);
  t.match(result.stdout, /\n {2}network: applied\n {2}firewall: applied\n {2}tproxy: applied\n/);
  t.match(result.stdout, '  iptun: pending (waiting for a handshake)\n');
  t.match(result.stdout, /Source: +london \(peer_/);
  t.match(result.stdout, /192\.168\.7\.0\/24/);
});

t.test('a refusal is one line on stderr with the exit code of its code', async (t) => {
  let refusal = { status: 422, body: { error: '', code: '' } };
  const [home, api] = await scene(t, { 'POST /v1/peers': () => refusal });
  const add = async (status: number, code: string, error: string, how: 'run' | 'spawn' = 'run') => {
    refusal = { status, body: { error, code } };
    return home[how](['peers', 'add', '10.0.0.2:8080', '--token', 'x', '--url', api.url]);
  };
  const failed = await add(422, 'HANDSHAKE_FAILED', 'handshake failed: connection refused', 'spawn');
  t.equal(failed.stderr, 'Error: handshake failed: connection refused\n');
  t.equal(failed.code, ERRORS.HANDSHAKE_FAILED.exit);
  t.equal(failed.stdout, '');
  t.equal(
    (await add(409, 'ALREADY_EXISTS', 'peer already exists in cluster')).stderr,
    'Error: peer already exists in cluster\n',
  );
  for (const [code, row] of Object.entries(ERRORS)) {
    const result = await add(row.status, code, `${code} it is.`);
    t.equal(result.code, row.exit, code);
    t.match(result.stderr, new RegExp(`^Error: ${code} it is\\..*\\n$`));
  }
  t.equal((await add(400, 'A_CODE_OF_A_NEWER_AGENT', 'no')).code, 2);
});

t.test('services top compares two looks, and ends after one where nobody watches', async (t) => {
  let looks = 0;
  const [home, api] = await scene(t, {
    'GET /v1/traffic': () => {
      looks += 1;
      const side = { service_id: SERVICE, name: 'web', side: 'entry', active: 2, refused: 4, failed: 3 };
      return {
        body: {
          at: new Date(1_700_000_000_000 + looks * 1_000).toISOString(),
          implementation: 'native',
          services: [
            {
              ...side,
              connections: 10 * looks,
              bytes_in: 1_000 * looks,
              bytes_out: 1_250_000 * looks,
              limiter_waits: 3,
              mean_open_ms: 101.2,
            },
          ],
          links: [
            { peer_id: 'p', transport: 'tcp', idle: 8, leased: 2, rtt_ms: 100, loss: 0.01 },
            { peer_id: 'p', transport: 'kcp', idle: 0, leased: 5, rtt_ms: 9, loss: 0 },
          ],
        },
      };
    },
  });
  const top = ['services', 'top', '--interval', '1', '--token', 'x', '--url', api.url];
  const { stdout, code } = await home.run(top);
  t.equal(code, 0);
  t.match(stdout, /^SERVICE +SIDE +ACTIVE +NEW\/S +IN +OUT +OPEN/);
  t.match(stdout, /web +entry +2 +10 +8.0 kbit\/s +10 Mbit\/s +101 ms +3 +7/);
  t.match(stdout, /p +tcp +8 +2 +100 ms +1\.00 %/);
  t.match(stdout, /p +kcp +- +5 +9\.0 ms +0\.00 %/);
  t.notOk(stdout.includes('\u001b'));
  const json = await home.run([...top, '--json']);
  t.match(JSON.parse(json.stdout), {
    services: [{ out_bits_per_second: 10_000_000, connections_per_second: 10 }],
  });
  t.equal((await home.run(['services', 'top', '--interval', '99'])).code, 2);
});

t.test('services flows lists the connections of a service', async (t) => {
  const flow = {
    side: 'exit',
    client: { address: 'fd00::9', port: 40_000 },
    destination: { address: '10.0.1.1', port: 443 },
    state: 'open',
    age_ms: 61_000,
    bytes_in: 1_234_567,
    bytes_out: 12,
    open_ms: 1.25,
    limiter_waits: 0,
    path: { transport: 'tcp', rtt_ms: 100.4, loss: 0.02, congestion_control: 'bbr' },
  };
  const path = { transport: 'kcp', rtt_ms: 9, loss: 0.1, congestion_control: null };
  const [home, api] = await scene(t, {
    'GET /v1/services': { body: { services: [service], next_cursor: null } },
    [`GET /v1/services/${SERVICE}/flows`]: {
      body: { service_id: SERVICE, flows: [flow, { ...flow, path }, { ...flow, path: null }] },
    },
  });
  const { stdout } = await home.run(['services', 'flows', 'web', '--token', 'x', '--url', api.url]);
  t.match(
    stdout,
    /\[fd00::9\]:40000 +10\.0\.1\.1:443 +exit +open +61 s +1\.2 MB +12 B +1\.3 ms +100 ms +2\.00 % +bbr +0/,
  );
  t.match(stdout, /1\.3 ms +9\.0 ms +10\.00 % +kcp +0/);
  t.match(stdout, /1\.3 ms +- +- +- +0/, 'without a link');
});

t.test('usage errors are one line and exit code 2', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  for (const [args, text] of [
    [['peer', 'lst'], "Error: unknown command 'peer lst'. Did you mean 'arctic peer list'?"],
    [['peers', 'list', '--loca'], "unknown flag '--loca' for 'arctic peers list'. Did you mean '--local'?"],
    [['services', 'create'], 'needs --target-peer'],
    [['services', 'get'], 'needs SERVICE'],
    [['peers', 'list', '-o', 'xml'], '--output must be one of table, json, yaml'],
    [['peers', 'list', '--timeout', 'soon'], '--timeout must be a time'],
  ] as const) {
    const result = await home.run(args);
    t.equal(result.code, 2, args.join(' '));
    t.match(result.stderr, text);
    t.equal(result.stderr.split('\n').length, 2, 'one line');
  }
});

t.test('what destroys needs --yes without a terminal', async (t) => {
  const [home, api] = await scene(t, { [`DELETE /v1/peers/${OTHER}`]: { status: 204 } });
  writeConfig(home, [api.url]);
  const refused = await home.run(['peers', 'delete', OTHER]);
  t.equal(refused.code, 2);
  t.match(refused.stderr, /--yes/);
  t.equal(api.asked.filter((one) => one.method === 'DELETE').length, 0);
  const done = await home.run(['peers', 'delete', OTHER, '--yes']);
  t.equal(done.code, 0, done.stderr);
  t.equal(done.stdout, `Peer ${OTHER} removed.\n`);
  const asked = await home.run(['peers', 'delete', OTHER], { answers: ['n'] });
  t.equal(asked.code, 1);
  t.match(asked.stderr, `Remove peer ${OTHER} from the cluster? [y/N] Error: cancelled`);
  t.equal((await home.run(['peers', 'delete', OTHER], { answers: ['y'] })).code, 0);
});

t.test(
  'the configuration: a fault names file and line, an open file is warned of, backups are kept',
  async (t) => {
    const [home, api] = await scene(t);
    writeConfig(home, [api.url]);
    chmodSync(home.configPath, 0o644);
    const used = await home.run(['config', 'rename', 'production', 'live']);
    t.equal(used.code, 0, used.stderr);
    t.match(used.stderr, /Warning: .*others can read it \(mode 0644\)/);
    t.equal(statSync(home.configPath).mode & 0o777, 0o600, 'writing closes it');
    t.same(readdirSync(join(home.directory, 'arctic')).sort(), ['config.yaml', 'config.yaml.1', 'names']);
    const view = await home.run(['config', 'view']);
    t.match(view.stdout, /name: live/);
    t.notMatch(view.stdout, SECRET);
    t.notMatch((await home.run(['config', 'view', '--json'])).stdout, SECRET);

    writeFileSync(home.configPath, 'current_cluster: x\nclusters:\n  x: [1, 2\n');
    const broken = await home.spawn(['peers', 'list']);
    t.equal(broken.code, 3);
    t.match(broken.stderr, /^Error: .*config\.yaml:\d+: the configuration is not valid YAML/m);
    writeFileSync(home.configPath, 'clusters:\n  x:\n    client_id: 1\n', { mode: 0o600 });
    const missing = await home.run(['peers', 'list']);
    t.match(missing.stderr, /^Error: .*config\.yaml:3: clusters\.x\.client_secret is missing\.\n$/);
    t.equal((await home.run(['version'])).code, 0, 'version works whatever state the file is in');
  },
);

t.test('a license root is made and issues a license that verifies', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const out = join(home.directory, 'root');
  t.equal((await home.run(['license', 'root', 'create', '--out', out])).code, 0);
  t.equal(statSync(join(out, 'root.key')).mode & 0o777, 0o600);
  t.not((await home.run(['license', 'root', 'create', '--out', out])).code, 0, 'never replaced');
  const issue = (...more: string[]) =>
    home.run(['license', 'issue', '--root', join(out, 'root.key'), '--customer', 'acme', ...more]);
  const issued = await issue('--max-nodes', '3', '--features', 'kcp,tunnel', '--expires', '90d');
  t.equal(issued.code, 0, issued.stderr);
  const license = verifyLicense(JSON.parse(issued.stdout), loadTrustRoots(out));
  t.match(license, { customer_id: 'cust_acme', max_nodes: 3, features: ['kcp', 'tunnel'] });
  t.equal((await issue('--expires', 'tomorrow')).code, 2);
});

t.test('events are a line each; a reader that hangs up ends the command quietly', async (t) => {
  const winning_event = { position: 12, text: 'service web deleted with its routes' };
  const lostTo = (field: string) => ({
    field,
    stands: false,
    winner: `evt_${ULID}`,
    reason: 'concurrent delete wins',
    winning_event,
  });
  const events = Array.from({ length: 500 }, (_, at) => ({
    id: `evt_${ULID}`,
    position: at + 1,
    origin: LOCAL,
    stream: 'config',
    seq: at + 1,
    hlc: '0199d2f3a000.0000',
    type: 'service.created',
    version: 1,
    entity: SERVICE,
    actor: { kind: 'client', id: `cli_${ULID}`, address: '10.0.0.9' },
    correlation_id: 'c',
    data: { name: 'web' },
    prev_hash: '0'.repeat(64),
    hash: '1'.repeat(64),
    signature: null,
    text: 'service web created',
    lost: at === 497 ? ['name', 'transport_type'].map(lostTo) : [],
    overridden: at === 498 ? [{ ...lostTo('name'), reason: 'written later' }] : [],
    overrides: at === 499 ? [{ field: 'name', event: { ...winning_event, position: 499 } }] : [],
  }));
  const [home, api] = await scene(t, {
    'GET /v1/peers': { body: { peers, next_cursor: null } },
    'GET /v1/events': ({ query }) => ({
      body: {
        events: query.get('order') === 'desc' ? events.toReversed() : events,
        next_cursor:
          Number(query.get('cursor') ?? 0) < 200 ? String(Number(query.get('cursor') ?? 0) + 1) : null,
      },
    }),
  });
  writeConfig(home, [api.url]);
  const tail = await home.run(['events', 'tail', '-n', '3']);
  t.equal(tail.stdout.trimEnd().split('\n').length, 3);
  t.match(
    tail.stdout,
    /^ +498 {2}2025-\d\d-\d\d \d\d:\d\d:\d\d {2}london\/client {2}service web created \(name, transport_type lost to event 12, service web deleted with its routes: concurrent delete wins\)\n/,
  );
  t.match(tail.stdout, /web created \(name overridden by event 12, service web deleted with its routes\)\n/);
  t.match(tail.stdout, /web created \(overrides name of event 499, service web deleted with its routes\)\n/);
  t.match(
    (await home.run(['events', 'tail', '--after', '5', '-n', '3'])).stderr,
    /either --after or --lines/,
  );
  const json = await home.run(['events', 'list', '--json', '-n', '2']);
  t.same(JSON.parse(json.stdout), events.slice(0, 2));
  const hungUp = await home.spawn(['events', 'list'], { hangUp: true });
  t.equal(hungUp.stderr, '');
  t.equal(hungUp.code, 0);
});

t.test('a followed tail asks for what comes after the last line it has shown, each time', async (t) => {
  const row = (position: number) => ({ id: `evt_${ULID}`, position, hlc: '0199d2f3a000.0000', type: 'x' });
  const streams: string[] = [];
  const [home, api] = await scene(t, {
    'GET /v1/events': ({ headers, query }) => {
      if (headers.accept !== 'text/event-stream')
        return { body: { events: [row(4), row(5)], next_cursor: null } };
      streams.push(query.get('after') ?? '');
      // The first ends as that of an agent that stops; at the second the credential has been revoked.
      if (streams.length > 1) return { status: 403, body: { error: 'no more.', code: 'FORBIDDEN' } };
      const text = [6, 7].map((n) => `id: ${n}\nevent: x\ndata: ${JSON.stringify(row(n))}\n\n`).join('');
      return { text, type: 'text/event-stream' };
    },
  });
  writeConfig(home, [api.url]);
  const tail = await home.run(['events', 'tail', '-f', '--after', '3', '--json']);
  t.same(streams, ['5', '7']);
  t.same(
    tail.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).position),
    [4, 5, 6, 7],
  );
  t.match(tail, { code: 5, stderr: /the agent ended the stream; asking it again/ });
});

t.test('drift --at exits 0 when all matched then', async (t) => {
  const at = '2026-11-23T05:52:15.000Z';
  const matched = {
    state: 'matched',
    text: 'matched: applied at noon',
    until: null,
    by: null,
    differences: [],
  };
  const [home, api] = await scene(t, {
    'GET /v1/drift': {
      body: { at, position: 9, drift: false, reconcilers: [{ reconciler: 'firewall', ...matched }] },
    },
  });
  writeConfig(home, [api.url]);
  t.match(await home.run(['drift', '--at', at]), {
    code: 0,
    stdout: 'At 2026-11-23 05:52:15 UTC (position 9):\nfirewall: matched\n  matched: applied at noon\n',
  });
});

t.test('drift exits 7 when the kernel differs, and says since when', async (t) => {
  const by = { pid: 42, program: 'nft' };
  const [older, newer] = ['05:52:15', '05:52:34'].map((time, at) => ({
    time: `2026-11-23T${time}.000Z`,
    event_id: `evt_${at}`,
    by: at === 0 ? null : by,
  }));
  const differences = [older, newer].map((since, at) => ({
    item: `table ${at}`,
    desired: 'present',
    observed: null,
    since,
    repair: { waits_until: '2026-11-23T05:53:14.500Z', undone: at * 6, by },
  }));
  const [, fought] = differences;
  differences.push({ ...fought, repair: { ...fought?.repair, by: null } } as never);
  const since = { ...newer, exact: true, reason: null };
  const [home, api] = await scene(t, {
    'GET /v1/drift': {
      body: { drift: true, reconcilers: [{ reconciler: 'firewall', since, differences }] },
    },
  });
  writeConfig(home, [api.url]);
  const result = await home.run(['drift']);
  t.equal(result.code, 7);
  t.equal(
    result.stdout,
    `firewall: 3 differences
  since: 2026-11-23 05:52:34 UTC, by nft (pid 42) (evt_1)
  table 0
    desired:  present
    observed: nothing
    since:    2026-11-23 05:52:15 UTC (evt_0)
    repair waits until 05:53:14 UTC: somebody keeps undoing what this reconciler does
  table 1
    desired:  present
    observed: nothing
    repair waits until 05:53:14 UTC: undone 6 times, last by nft (pid 42)
  table 1
    desired:  present
    observed: nothing
    repair waits until 05:53:14 UTC: undone 6 times; the kernel did not tell by whom
`,
  );
});
