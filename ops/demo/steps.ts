/**
 * What the demo shows, step by step. Every step works as an operator would, by the `arctic` program and by tools of the
 * system (curl, nft, ip), and throws when what it claims is not so.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { preloadTool } from '../lab/build-tools.ts';
import { deleteRule, readRules, type TableRule } from './ruleset.ts';
import {
  arctic,
  arcticJson,
  describe,
  ELSEWHERE,
  engineBytes,
  exitAddress,
  expect,
  FILE_BYTES,
  fetchFile,
  headOf,
  kernelMentions,
  PORT,
  type ReconcilerStatus,
  rateOf,
  SAMPLE_BYTES,
  SERVER_NETWORK,
  type Step,
  statusOf,
  until,
} from './scene.ts';

const withoutArctic: Step = {
  title: 'A client and a server, far apart',
  does: 'Serves random bytes from an ordinary host (cubic) and fetches 1 MiB with curl; no agent runs yet.',
  proves:
    'the path works without Arctic, as slowly as TCP does on it, and the server sees the client itself.',
  async run(state) {
    const { lab, link } = state;
    const { directory } = lab.host('server');
    const file = join(directory, 'file.bin');
    const script = join(directory, 'serve.mjs');
    const content = randomFillSync(Buffer.alloc(FILE_BYTES));
    state.sha256 = createHash('sha256').update(content).digest('hex');
    writeFileSync(file, content);
    writeFileSync(
      script,
      `import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
const SIZES = { '/file.bin': ${FILE_BYTES}, '/sample.bin': ${SAMPLE_BYTES} };
createServer((request, response) => {
  console.log(request.method, request.url, 'asked by', request.socket.remoteAddress);
  response.setHeader('x-seen-from', request.socket.remoteAddress);
  const size = SIZES[request.url];
  if (size === undefined) return response.writeHead(404).end();
  response.setHeader('content-length', size);
  createReadStream(${JSON.stringify(file)}, { end: size - 1 }).pipe(response);
}).listen(${PORT}, '::', () => console.log('ready'));
`,
    );
    // This machine's default may be BBR; an ordinary server's is cubic.
    const cubic = { LD_PRELOAD: await preloadTool('congestion', lab.directory), TCP_CC: 'cubic' };
    const server = lab.spawn('server', [process.execPath, script], cubic);
    await until('the file server starts', async () => server.output().includes('ready'));
    const fetched = await fetchFile(lab, 'sample.bin');
    const sample = createHash('sha256').update(content.subarray(0, SAMPLE_BYTES)).digest('hex');
    expect(fetched.sha256 === sample, 'the sample arrived changed');
    state.directRate = rateOf(fetched);
    expect(
      fetched.seenFrom === lab.host('client').address.ipv4,
      `the server saw ${fetched.seenFrom}, not the client`,
    );
    const path =
      link === undefined
        ? 'a plain wire: without /dev/net/tun there is no emulated link here, and nothing to accelerate'
        : `${link.rateMbit} Mbit/s, ${2 * link.delayMs} ms there and back, ${link.lossPercent} % loss`;
    return [`the path: ${path}`, describe(fetched)];
  },
};

const license: Step = {
  title: 'A license, issued by the organisation itself',
  does: 'Creates a license root, issues a license with it, and puts the public root on both hosts.',
  proves: 'no outside party is needed: agents verify the license offline against their own trust roots.',
  async run({ lab }) {
    const issuer = join(lab.directory, 'issuer');
    await arctic(lab, 'entry', 'license', 'root', 'create', '--out', issuer);
    const root = join(issuer, 'root.key');
    const terms = [
      '--customer',
      'cust_demo',
      '--max-nodes',
      '10',
      '--max-services',
      '20',
      '--expires',
      '90d',
    ];
    const issued = await arctic(lab, 'entry', 'license', 'issue', '--root', root, ...terms);
    writeFileSync(join(lab.directory, 'license.json'), issued);
    for (const host of ['entry', 'exit']) {
      const roots = join(lab.host(host).directory, 'config', 'trust-roots');
      mkdirSync(roots, { recursive: true, mode: 0o755 });
      copyFileSync(join(issuer, 'root.pub'), join(roots, 'demo.pub'));
      chmodSync(join(roots, 'demo.pub'), 0o644);
    }
    const { license_id, customer_id, expires_at } = JSON.parse(issued) as Record<string, string>;
    return [`${license_id} for ${customer_id}, valid until ${expires_at}`];
  },
};

const bootstrap: Step = {
  title: 'Two agents',
  does: 'Starts `arctic agent` on entry and exit and bootstraps each with the license.',
  proves: 'an agent has its own identity and its own log from its first moment.',
  async run(state) {
    const { lab } = state;
    const agents = await Promise.all(
      ['entry', 'exit'].map((host) => lab.startAgent(host, { env: { FIREWALL_OWNER: '0' } })),
    );
    const seen: string[] = [];
    for (const { host, url } of agents) {
      const argv = [
        'bootstrap',
        '--url',
        url,
        '--license-file',
        join(lab.directory, 'license.json'),
        '--name',
        host.name,
      ];
      const answer = await arcticJson<Record<string, string>>(lab, host.name, ...argv);
      state.peerIds[host.name] = answer['peer_id'] ?? '';
      seen.push(`${host.name}: ${answer['peer_id']}, cluster ${answer['cluster_id']}`);
    }
    return seen;
  },
};

const cluster: Step = {
  title: 'One cluster',
  does: 'Adds the exit as a peer of the entry; the two run the signed handshake and merge their states.',
  proves: 'either agent then answers for both, and both name the same cluster.',
  async run(state) {
    const { lab } = state;
    const address = `${lab.host('exit').address.ipv4}:8080`;
    await arctic(lab, 'entry', 'peers', 'add', address, '--name', 'exit', '--json');
    let clusters: string[] = [];
    const took = await until('both agents agree', async () => {
      const views = await Promise.all(
        ['entry', 'exit'].map((host) => arcticJson<{ state: string }[]>(lab, host, 'peers', 'list')),
      );
      const identities = await Promise.all(
        ['entry', 'exit'].map((host) => arcticJson<{ cluster_id: string }>(lab, host, 'cluster', 'identity')),
      );
      clusters = identities.map(({ cluster_id }) => cluster_id);
      const joined = views.every(
        (peers) => peers.length === 2 && peers.every((peer) => peer.state === 'active'),
      );
      return joined && new Set(clusters).size === 1;
    });
    const ready = await until('both agents have compared their logs', async () => {
      const answers = await Promise.all(
        ['entry', 'exit'].map((host) => lab.cli(host, ['health', '--readyz'], { check: false })),
      );
      return answers.every(({ code }) => code === 0);
    });
    return [
      `both see two active peers in ${clusters[0]} after ${took} ms`,
      `both ready after another ${ready} ms`,
    ];
  },
};

const service: Step = {
  title: 'A service with a route',
  does: `Creates a service from entry to exit and routes ${SERVER_NETWORK} into it.`,
  proves: 'an event becomes a view, the view a rule in the kernel, and the service says so.',
  async run(state) {
    const { lab } = state;
    const argv = ['services', 'create', '--target-peer', state.peerIds['exit'] ?? '', '--name', 'demo'];
    state.serviceId = (await arcticJson<{ id: string }>(lab, 'entry', ...argv)).id;
    const route = [
      'routes',
      'add',
      '--service',
      state.serviceId,
      '--priority',
      '100',
      '--dest-cidr',
      SERVER_NETWORK,
    ];
    const answer = await arcticJson<{ route_ids: (string | number)[] }>(lab, 'entry', ...route);
    state.routeId = String(answer.route_ids[0]);
    const kernel = await until('the kernel has the route', () => kernelMentions(lab, SERVER_NETWORK));
    await until('firewall and tproxy are applied', async () => {
      const [near, far] = [await statusOf(state, 'entry'), await statusOf(state, 'exit')];
      const applied = (status: ReconcilerStatus, name: string) => status[name]?.state === 'applied';
      return applied(near, 'firewall') && applied(near, 'tproxy') && applied(far, 'tproxy');
    });
    const status = Object.entries(await statusOf(state, 'entry')).map(
      ([name, { state: how, reason }]) => `${name}: ${how}${reason ? ` (${reason})` : ''}`,
    );
    return [
      `${state.serviceId}: ${status.join(', ')}`,
      `seen in table inet arctic ${kernel} ms after the command ended`,
    ];
  },
};

const accelerated: Step = {
  title: 'The connection, accelerated',
  does: 'Fetches 20 MiB with the same plain curl over the same path; client and server know nothing of Arctic.',
  proves: 'the bytes went through both engines, the server sees the exit, and not one bit changed.',
  async run(state) {
    const { lab, link } = state;
    const hosts = ['entry', 'exit'];
    const before = await Promise.all(hosts.map((host) => engineBytes(lab, host)));
    const fetched = await fetchFile(lab);
    expect(fetched.sha256 === state.sha256, `sha256 is ${fetched.sha256}, not ${state.sha256}`);
    expect(
      fetched.seenFrom === exitAddress(lab),
      `the server saw ${fetched.seenFrom}, not the exit ${exitAddress(lab)}`,
    );
    let carried: number[] = [];
    await until('the counters of both engines', async () => {
      const after = await Promise.all(hosts.map((host) => engineBytes(lab, host)));
      carried = after.map((bytes, index) => bytes - (before[index] ?? 0));
      return carried.every((bytes) => bytes >= FILE_BYTES);
    });
    const times = rateOf(fetched) / state.directRate;
    return [
      describe(fetched),
      ...(link === undefined ? [] : [`${times.toFixed(1)} times the rate without Arctic`]),
      `bytes counted by the engines: ${hosts.map((host, index) => `${host} ${carried[index]}`).join(', ')}`,
      `sha256 ${fetched.sha256}, as served`,
    ];
  },
};

const routeChange: Step = {
  title: 'A route changes, the kernel follows',
  does: `Points the route to ${ELSEWHERE}, fetches again, and points it back.`,
  proves: 'the kernel holds what the log says: traffic leaves Arctic and comes back with one command each.',
  async run(state) {
    const { lab } = state;
    state.before = await headOf(lab);
    const update = ['routes', 'update', state.routeId, '--service', state.serviceId, '--dest-cidr'];
    await arctic(lab, 'entry', ...update, ELSEWHERE, '--json');
    const away = await until('the kernel follows', async () => {
      return (await kernelMentions(lab, ELSEWHERE)) && !(await kernelMentions(lab, SERVER_NETWORK));
    });
    const direct = await fetchFile(lab, 'sample.bin');
    expect(
      direct.seenFrom === lab.host('client').address.ipv4,
      `the server saw ${direct.seenFrom}, not the client`,
    );
    await arctic(lab, 'entry', ...update, SERVER_NETWORK, '--json');
    const back = await until('the kernel follows back', () => kernelMentions(lab, SERVER_NETWORK));
    const again = await fetchFile(lab, 'sample.bin');
    expect(again.seenFrom === exitAddress(lab), `the server saw ${again.seenFrom}, not the exit`);
    return [
      `${SERVER_NETWORK} -> ${ELSEWHERE} in the kernel after ${away} ms: the server saw ${direct.seenFrom}`,
      `${ELSEWHERE} -> ${SERVER_NETWORK} in the kernel after ${back} ms: the server saw ${again.seenFrom}`,
    ];
  },
};

const repair: Step = {
  title: 'Somebody deletes a rule',
  does: 'Deletes the rule that hands connections to the engine, with the nft program, as root.',
  proves: 'drift is seen and repaired at once, without waiting for the 60 s pass, and the log tells of it.',
  async run({ lab }) {
    const victim = (await readRules(lab)).find(({ text }) => text.includes('tproxy'));
    if (victim === undefined) throw new Error('table inet arctic holds no tproxy rule');
    await deleteRule(lab, victim);
    const same = (rule: TableRule): boolean => rule.chain === victim.chain && rule.text === victim.text;
    const took = await until('the rule comes back', async () => (await readRules(lab)).some(same), 10_000);
    const fetched = await fetchFile(lab, 'sample.bin');
    expect(fetched.seenFrom === exitAddress(lab), `the server saw ${fetched.seenFrom}, not the exit`);
    await until('the log tells of it', async () => {
      const events = await arcticJson<{ type: string }[]>(
        lab,
        'entry',
        'events',
        'list',
        '--type',
        'drift.repaired',
      );
      return events.length > 0;
    });
    return [
      `chain ${victim.chain}: "${victim.text}"`,
      `was back ${took} ms later; the next connection went through it`,
    ];
  },
};

const replay: Step = {
  title: 'Back in time',
  does: 'Replays the log to just before the route was changed, and compares that with just after.',
  proves: 'any past state can be had again, and every difference names the event that made it.',
  async run(state) {
    const { lab, before } = state;
    const events = await arcticJson<{ position: number; type: string }[]>(lab, 'entry', 'events', 'list');
    const change = events.find((event) => event.position > before && event.type === 'route.updated');
    if (change === undefined) throw new Error('the log holds no route.updated after the change');
    const then = await arctic(
      lab,
      'entry',
      'replay',
      '--until',
      String(before),
      '--projection',
      'routes',
      '--json',
    );
    expect(then.includes(SERVER_NETWORK), `position ${before} does not have the route to ${SERVER_NETWORK}`);
    const difference = await arctic(
      lab,
      'entry',
      'replay',
      '--until',
      String(change.position),
      '--diff-with',
      String(before),
      '--projection',
      'routes',
    );
    expect(difference.includes(ELSEWHERE), `the difference does not name ${ELSEWHERE}`);
    return difference.trimEnd().split('\n');
  },
};

const history: Step = {
  title: 'What happened, as the log has it',
  does: 'Prints the log of the entry.',
  proves: 'every step above is an event, with its time and its actor.',
  async run({ lab }) {
    const events = await arcticJson<{ type: string }[]>(lab, 'entry', 'events', 'list');
    const types = new Set(events.map(({ type }) => type));
    for (const type of [
      'service.created',
      'route.added',
      'route.updated',
      'reconcile.applied',
      'drift.repaired',
    ]) {
      expect(types.has(type), `the log holds no ${type}`);
    }
    return (await arctic(lab, 'entry', 'events', 'list')).trimEnd().split('\n');
  },
};

export const STEPS: readonly Step[] = [
  withoutArctic,
  license,
  bootstrap,
  cluster,
  service,
  accelerated,
  routeChange,
  repair,
  replay,
  history,
];
