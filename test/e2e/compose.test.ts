/** `arctic compose` on real agents: from bare hosts to applied, twice, interrupted, contested and taken back. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import { arcticCommand } from '../../ops/lab/agent.ts';
import { createLab, type ExecResult, type Lab, type LabAgent } from '../../ops/lab/lab.ts';
import { createIssuer, eventually, type LicenseTerms, obtainToken } from './cluster.ts';

t.setTimeout(600_000);

const FIXTURE = fileURLToPath(new URL('../../fixtures/compose/three-peers.yaml', import.meta.url));
const HOSTS = ['entry', 'exit', 'third'] as const;
const LONG = { timeout: 300_000 } as const;

interface Scene {
  readonly lab: Lab;
  readonly file: string;
  readonly agents: Map<string, LabAgent>;
  /** The command line on a host, in the directory of the file. */
  arctic(host: string, ...argv: readonly string[]): Promise<ExecResult>;
  /** One that has to end with 0. */
  good(host: string, ...argv: readonly string[]): Promise<string>;
  json<T>(host: string, ...argv: readonly string[]): Promise<T>;
  edit(change: (text: string) => string): void;
  /** Gives the operator of another host the credentials of the first. */
  shareConfig(from: string, to: string): void;
}

/** Three bare agents, a license, and the file that makes a cluster of them. */
async function createScene(t: Test, terms: LicenseTerms = {}): Promise<Scene> {
  const lab = await createLab({ agents: HOSTS });
  t.teardown(() => lab.destroy());
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  const agents = new Map<string, LabAgent>();
  await Promise.all(
    HOSTS.map(async (name) => {
      issuer.trustOn(join(lab.host(name).directory, 'config'));
      agents.set(name, await lab.startAgent(name));
    }),
  );
  const file = join(lab.directory, 'cluster.yaml');
  copyFileSync(FIXTURE, file);
  writeFileSync(join(lab.directory, 'license.json'), JSON.stringify(issuer.issue(terms)));
  const arctic: Scene['arctic'] = (host, ...argv) =>
    lab.cli(host, argv, { check: false, timeout: 120_000, cwd: lab.directory });
  const good: Scene['good'] = async (host, ...argv) => {
    const result = await arctic(host, ...argv);
    if (result.code !== 0) throw new Error(`arctic ${argv.join(' ')}: ${result.code}\n${result.stderr}`);
    return result.stdout;
  };
  return {
    lab,
    file,
    agents,
    arctic,
    good,
    json: async (host, ...argv) => JSON.parse(await good(host, ...argv, '--json')),
    edit: (change) => writeFileSync(file, change(readFileSync(file, 'utf8'))),
    shareConfig(from, to) {
      const path = (host: string) => join(lab.host(host).directory, 'home', 'copied.yaml');
      const config = join(lab.host(from).directory, 'home', '.config', 'arctic', 'config.yaml');
      writeFileSync(path(to), readFileSync(config), { mode: 0o600 });
    },
  };
}

/** A server behind the exit that tells each client the address it came from. */
async function answerWhoAsks(lab: Lab): Promise<void> {
  const script = `require('node:http').createServer((request, response) => response.end(request.socket.remoteAddress))
    .listen(8000, '::', () => console.log('ready'))`;
  const server = lab.spawn('server', [process.execPath, '-e', script]);
  await eventually('the server', async () => server.output().includes('ready'));
}

/** Replicated events, which are the configuration and its history. */
async function configEvents(
  scene: Scene,
  host = 'entry',
): Promise<readonly { id: string; type: string; correlation_id: string }[]> {
  const events = await scene.json<{ id: string; stream: string; type: string; correlation_id: string }[]>(
    host,
    'events',
    'list',
  );
  return events.filter(({ stream }) => stream === 'config');
}

interface ServiceRow {
  readonly name: string;
  readonly bandwidth_limit_mbps: number;
  readonly routes: readonly {
    readonly priority: number;
    readonly source_cidr: string | null;
    readonly dest_cidr: string | null;
  }[];
}

/** What the cluster is, without what differs from run to run. */
async function shape(scene: Scene, host = 'entry'): Promise<unknown> {
  const services = await scene.json<ServiceRow[]>(host, 'services', 'list');
  const peers = await scene.json<{ name: string; address: string; state: string }[]>(host, 'peers', 'list');
  const route = (one: ServiceRow['routes'][number]) => `${one.priority} ${one.source_cidr} ${one.dest_cidr}`;
  return {
    peers: peers.map(({ name, address }) => `${name} ${address}`).sort(),
    services: services
      .map(({ name, bandwidth_limit_mbps, routes }) => ({
        name,
        bandwidth_limit_mbps,
        routes: routes.map(route).sort(),
      }))
      .sort((a, b) => a.name.localeCompare(b.name)),
  };
}

t.test('from three bare agents to applied by one command, and what follows', LONG, async (t) => {
  const began = performance.now();
  const scene = await createScene(t);
  const { lab, good, arctic, edit } = scene;
  const started = performance.now();

  const planned = await arctic('entry', 'compose', 'diff');
  t.equal(planned.code, 7, planned.stderr);
  t.match(
    planned.stdout,
    /\+ peer entry {2}\(bootstrap, then join\)[\s\S]*Plan: 5 to add, 0 to change, 0 to remove\.\n$/,
  );
  const dry = await arctic('entry', 'compose', 'apply', '--dry-run');
  t.equal(dry.code, 0);
  t.equal((await arctic('entry', 'cluster', 'identity')).code, 3, 'a dry run bootstraps nobody');
  const unasked = await arctic('entry', 'compose', 'apply');
  t.equal(unasked.code, 2, 'without a terminal it needs --yes');
  t.match(unasked.stderr, '--yes');

  const asked = performance.now();
  const applied = await arctic('entry', 'compose', 'apply', '--yes');
  t.equal(applied.code, 0, applied.stderr);
  t.match(applied.stdout, /^Applied in \d+\.\d s: 5 added, 0 changed, 0 removed\.$/m);
  for (const host of HOSTS)
    t.match(
      applied.stderr,
      new RegExp(`^  ${host} +network applied, .*firewall applied`, 'm'),
      `${host} has a line of its reconcilers`,
    );
  const table = await lab.exec('entry', ['nft', 'list', 'table', 'inet', 'arctic']);
  t.match(table.stdout, /10\.91\.3\.0[ /]/, 'the kernel has the route when the command ends');
  t.match(
    (await lab.exec('third', ['ip', 'address'])).stdout,
    '10.91.22.77/24',
    'and the interface its address',
  );

  await t.test('a connection goes through what two commands made', async (t) => {
    await answerWhoAsks(lab);
    const run = await lab.exec('client', ['curl', '-sS', '--max-time', '20', 'http://10.91.3.2:8000/']);
    const exitLan = lab.host('exit').interfaces.find(({ name }) => name === 'lan0')?.ipv4;
    t.equal(run.code, 0, run.stderr);
    t.equal(run.stdout.replace('::ffff:', ''), exitLan, 'the exit dialled it');
    const seconds = (started - began + (performance.now() - asked)) / 1_000;
    t.comment(
      `bare hosts to a proven connection: 2 commands (arctic agent on each, arctic compose apply on one), ${seconds.toFixed(1)} s`,
    );
  });

  await t.test('one correlated group of events', async (t) => {
    const events = await configEvents(scene);
    const group = events.filter(({ type }) => type.startsWith('service.') || type.startsWith('route.'));
    t.equal(group.length, 5);
    t.equal(new Set(group.map(({ correlation_id }) => correlation_id)).size, 1);
  });

  await t.test('applied again, it changes nothing and appends nothing', async (t) => {
    const before = await configEvents(scene);
    const again = await arctic('entry', 'compose', 'apply', '--yes');
    t.equal(again.code, 0, again.stderr);
    t.equal(again.stdout, 'No changes: the cluster is as cluster.yaml says.\n');
    t.same(await configEvents(scene), before);
    t.equal((await arctic('entry', 'compose', 'diff')).code, 0);
  });

  await t.test('exported, it differs in nothing', async (t) => {
    writeFileSync(join(lab.directory, 'exported.yaml'), await good('entry', 'compose', 'export'));
    const difference = await arctic('entry', 'compose', 'diff', 'exported.yaml', '--strict');
    t.equal(difference.code, 0, difference.stdout + difference.stderr);
  });

  await t.test('a change, with --prune, and both ways of taking it back', async (t) => {
    const first = await shape(scene);
    edit((text) =>
      text.replace('limit_mbps: 500', 'limit_mbps: 50').replace(/\n {2}- name: backup[\s\S]*/, ''),
    );
    const kept = await arctic('entry', 'compose', 'diff');
    t.equal(kept.code, 7);
    t.match(
      kept.stderr,
      "Warning: a service of the cluster is not in the file and stays (--prune would delete it): 'backup'.",
    );
    t.equal((await arctic('entry', 'compose', 'diff', '--strict')).code, 1);
    await good('entry', 'compose', 'apply', '--prune', '--yes');
    t.match(await shape(scene), { services: [{ name: 'to-server', bandwidth_limit_mbps: 50 }] });
    t.notMatch(
      (await lab.exec('third', ['ip', 'address'])).stdout,
      '10.91.22.77/24',
      'the interface is gone',
    );
    const second = await shape(scene);

    await good('entry', 'compose', 'rollback', '--yes');
    t.same(await shape(scene), first, 'the last change is taken back');
    await good('entry', 'compose', 'rollback', '--yes');
    t.same(await shape(scene), second, 'and that again');
    const [newest] = await scene.json<{ position: number }[]>('entry', 'events', 'list', '--limit', '1');
    t.ok(newest);
    const positions = await scene.json<{ position: number; type: string }[]>(
      'entry',
      'events',
      'list',
      '--type',
      'route.added',
    );
    const third = Math.max(...positions.slice(0, 3).map(({ position }) => position));
    await good('entry', 'compose', 'rollback', '--to', String(third), '--yes');
    t.same(await shape(scene), first, 'a position of the log stands again');
    const nothing = await arctic('entry', 'compose', 'rollback', '--to', String(third), '--yes');
    t.match(nothing.stdout, 'No changes: everything is as it was then.');
  });

  await t.test('a peer that does not answer', async (t) => {
    const more = `  - name: fourth\n    address: 10.91.22.1:9\n`;
    edit((text) => text.replace('\nservices:', `\n${more}\nservices:`));
    const before = await configEvents(scene);
    const refused = await arctic('entry', 'compose', 'apply', '--yes');
    t.equal(refused.code, 4);
    t.match(
      refused.stderr,
      /nothing was changed, because not every peer can be reached: 'fourth' \(10\.91\.22\.1:9\): connection refused/,
    );
    t.same(await configEvents(scene), before);
    const without = await arctic('entry', 'compose', 'diff', '--ignore-unreachable');
    t.match(without.stderr, /Warning: 'fourth' .*left out/);
    edit((text) => text.replace(more, ''));
  });
});

t.test('two operators at once: one wins, the other is told who holds the lock', LONG, async (t) => {
  const scene = await createScene(t);
  await scene.good('entry', 'compose', 'apply', '--yes');
  scene.shareConfig('entry', 'exit');
  const config = join(scene.lab.host('exit').directory, 'home', 'copied.yaml');
  const fileOf = (name: string, limit: number) => {
    const path = join(scene.lab.directory, name);
    writeFileSync(path, readFileSync(scene.file, 'utf8').replace('limit_mbps: 500', `limit_mbps: ${limit}`));
    return name;
  };
  const address = (name: string) => scene.agents.get(name)?.url ?? '';
  const first = fileOf('one.yaml', 11);
  const more = Array.from(
    { length: 10 },
    (_, at) =>
      `  - name: extra-${at}\n    source_peer: entry\n    target_peer: third\n    routes:\n      - { priority: ${at}, dest_cidr: 10.${100 + at}.0.0/16 }\n`,
  );
  const path = join(scene.lab.directory, first);
  writeFileSync(path, readFileSync(path, 'utf8') + more.join(''));
  // The first is held still in the middle of its changes, as a slow link would hold it.
  const one = scene.lab.spawn('entry', [...arcticCommand(), 'compose', 'apply', path, '--yes']);
  await eventually(
    'it changes services',
    async () => /done {2}create service extra-0/.test(one.output()),
    60_000,
  );
  one.kill('SIGSTOP');
  const held = await configEvents(scene);
  const elsewhere = ['--url', address('exit'), '--config', config];
  const other = await scene.arctic(
    'exit',
    'compose',
    'apply',
    fileOf('other.yaml', 22),
    '--yes',
    ...elsewhere,
  );
  t.equal(other.code, 1, other.stderr);
  t.match(other.stderr, /Error: the cluster is locked by .+@.+ \(compose apply .*one\.yaml, run cor_/);
  t.same(await configEvents(scene), held, 'the other has changed nothing');
  one.kill('SIGCONT');
  t.equal((await one.ended).code, 0, one.output());
  const limit = async (host: string, ...more: string[]) =>
    (await scene.json<ServiceRow[]>(host, 'services', 'list', ...more)).find(
      ({ name }) => name === 'to-server',
    )?.bandwidth_limit_mbps;
  t.equal(await limit('entry'), 11);
  await eventually('both agree', async () => (await limit('exit', ...elsewhere)) === 11);

  await t.test('while a lock is held', async (t) => {
    const agent = scene.agents.get('third');
    const saved = parse(readFileSync(config, 'utf8')) as {
      current_cluster: string;
      clusters: Record<string, { client_id: string; client_secret: string }>;
    };
    const credentials = saved.clusters[saved.current_cluster];
    if (credentials === undefined) throw new Error('no credentials');
    if (agent === undefined) throw new Error('no third agent');
    const token = await obtainToken(agent, credentials.client_id, credentials.client_secret);
    const taken = await agent.request('POST', '/v1/cluster/lock', {
      token,
      body: { holder: 'alice@ws-1', purpose: 'a test' },
    });
    t.equal(taken.status, 201, taken.text);
    await eventually('the lock is known', async () =>
      (await scene.good('entry', 'cluster', 'lock')).includes('alice@ws-1'),
    );
    const before = await configEvents(scene);
    const refused = await scene.arctic('entry', 'compose', 'apply', fileOf('one.yaml', 33), '--yes');
    t.equal(refused.code, 1);
    t.match(refused.stderr, 'Error: the cluster is locked by alice@ws-1 (a test) until');
    t.same(await configEvents(scene), before, 'nothing was changed');
    await scene.good('entry', 'cluster', 'unlock', '--yes');
    await scene.good('entry', 'compose', 'apply', 'one.yaml', '--yes');
    t.equal(await limit('entry'), 33);
  });
});

t.test('kill -9 of the command line in the middle, then a rerun', LONG, async (t) => {
  const scene = await createScene(t);
  // In the middle of bootstrapping, of joining, of changing services: by what the log of the first agent says.
  for (const [at, mark] of [
    /done {2}bootstrap entry/,
    /done {2}join exit/,
    /done {2}create service to-server/,
  ].entries()) {
    const run = scene.lab.spawn('entry', [...arcticCommand(), 'compose', 'apply', scene.file, '--yes']);
    await eventually(`${mark}`, async () => mark.test(run.output()) || (!run.running && at > 0), 60_000);
    run.kill();
    await run.ended;
    t.comment(run.output().trimEnd().split('\n').at(-1) ?? '');
  }
  const finished = await scene.arctic('entry', 'compose', 'apply', '--yes');
  t.equal(finished.code, 0, finished.stderr);
  t.match(await shape(scene), {
    peers: ['entry 10.91.20.1:8080', 'exit 10.91.21.1:8080', 'third 10.91.22.1:8080'],
    services: [
      { name: 'backup', routes: ['10 10.91.22.0/24 10.91.3.0/24'] },
      {
        name: 'to-server',
        bandwidth_limit_mbps: 500,
        routes: ['100 null 10.91.3.0/24', '100 null fd91:3::/64'],
      },
    ],
  });
  t.equal((await scene.arctic('entry', 'compose', 'diff', '--strict')).code, 0);
  t.match(await scene.good('entry', 'cluster', 'lock'), 'not locked');
});

t.test('kill -9 of an agent in the middle', LONG, async (t) => {
  const scene = await createScene(t);
  await scene.good('entry', 'compose', 'apply', '--yes');
  const before = await shape(scene);
  const many = Array.from(
    { length: 30 },
    (_, at) => `      - { priority: ${at}, dest_cidr: 10.${100 + at}.0.0/16 }`,
  ).join('\n');
  const services = Array.from(
    { length: 8 },
    (_, at) =>
      `  - name: extra-${at}\n    source_peer: entry\n    target_peer: third\n    routes:\n${many}\n`,
  ).join('');
  scene.edit((text) => `${text}${services}`);

  await t.test('of the one that is asked: it comes back, and the same run goes on', async (t) => {
    const run = scene.lab.spawn('entry', [...arcticCommand(), 'compose', 'apply', scene.file, '--yes']);
    await eventually('it has begun', async () => /create service extra-2/.test(run.output()), 60_000);
    scene.agents.get('entry')?.kill();
    await scene.agents.get('entry')?.process.ended;
    await sleep(300);
    scene.agents.set('entry', await scene.lab.startAgent('entry'));
    const { code } = await run.ended;
    const again = await scene.arctic('entry', 'compose', 'apply', '--yes');
    t.equal(again.code, 0, again.stderr);
    t.equal(code, 0, run.output());
    t.equal((await scene.arctic('entry', 'compose', 'diff', '--strict')).code, 0);
    const rows = await scene.json<ServiceRow[]>('entry', 'services', 'list');
    t.equal(rows.length, 10, 'no service was made twice');
    t.ok(rows.filter(({ name }) => name.startsWith('extra')).every(({ routes }) => routes.length === 30));
  });

  await t.test('of another: an account, and a rerun finishes', async (t) => {
    writeFileSync(scene.file, readFileSync(FIXTURE));
    scene.agents.get('third')?.kill();
    await scene.agents.get('third')?.process.ended;
    const run = await scene.arctic('entry', 'compose', 'apply', '--prune', '--yes', '--timeout', '2s');
    t.ok([4, 6].includes(run.code ?? 0), `${run.code}: ${run.stderr}`);
    t.match(run.stderr, /Error: .*'third'/);
    scene.agents.set('third', await scene.lab.startAgent('third'));
    const again = await eventually(
      'the cluster has contact again',
      async () => {
        const result = await scene.arctic('entry', 'compose', 'apply', '--prune', '--yes');
        return result.code === 0 ? result : undefined;
      },
      60_000,
    );
    t.equal(again.code, 0);
    t.same(await shape(scene), before);
  });
});

t.test('what cannot end well is refused before it begins', LONG, async (t) => {
  const scene = await createScene(t, { maxNodes: 2 });
  const refused = await scene.arctic('entry', 'compose', 'apply', '--yes');
  t.equal(refused.code, 1);
  t.match(
    refused.stderr,
    /nothing was changed: the cluster would have 3 peers, and license lic_\w+ allows 2\./,
  );
  const missing = await scene.arctic('entry', 'compose', 'apply', '--yes', '--license-file', 'nowhere.json');
  t.equal(missing.code, 2);
  t.match(missing.stderr, 'cannot read the license file nowhere.json: no such file or directory');
  t.equal((await scene.arctic('entry', 'cluster', 'identity')).code, 3, 'nobody was bootstrapped');
  const credentials = join(scene.lab.directory, 'ci.json');
  scene.edit((text) =>
    text.replace(/ {2}- name: third\n.*\n/, '').replace(/\n {2}- name: backup[\s\S]*/, ''),
  );
  const made = await scene.arctic('entry', 'compose', 'apply', '--yes', '--credentials-file', credentials);
  t.equal(made.code, 0, made.stderr);
  t.match(JSON.parse(readFileSync(credentials, 'utf8')), {
    client_id: /^cli_/,
    client_secret: /^sec_/,
    cluster_id: /^clu_/,
  });
  t.notMatch(made.stdout + made.stderr, /sec_/, 'a secret is never shown');
  t.equal((await scene.arctic('entry', 'peers', 'list')).code, 5, 'the configuration does not have them');
  const same = await scene.arctic(
    'exit',
    'compose',
    'apply',
    '--yes',
    '--credentials-file',
    credentials,
    '--save-config',
  );
  t.equal(same.code, 0, same.stderr);
  t.equal((await scene.arctic('exit', 'peers', 'list')).code, 0, 'now it has');
});
