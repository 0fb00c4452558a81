import { readFileSync } from 'node:fs';
import t from 'tap';
import { evaluate, readiness } from '../../../src/health/evaluate.ts';
import type { Facts } from '../../../src/health/facts.ts';
import { CONDITIONS } from '../../../src/health/table.ts';

const NOW = Date.parse('2026-06-01T12:00:00Z');

/** Everything known, and nothing the matter. */
const WELL = {
  now: NOW,
  host: {
    platform: 'linux',
    kernelRelease: '6.1.0',
    node: 'v20.18.1',
    netAdmin: true,
    dataDir: '/opt/tillered',
    freeBytes: 1e12,
    clockSynchronised: true,
  },
  kernel: {
    nftables: true,
    tproxy: true,
    macvlan: true,
    tun: true,
    bbr: true,
    ipv6: true,
    parentInterface: 'eth0',
    ownerFlag: true,
    flowReset: true,
    xtables: [],
    foreignMarks: [],
    closedInputs: [],
  },
  ports: [
    {
      port: 8080,
      protocol: 'tcp',
      setting: 'API_PORT',
      use: 'the API',
      holder: 'arctic',
      program: 'arctic',
    },
  ],
  settings: { fault: undefined, file: '/etc/arctic/arctic.env' },
  agent: {
    url: 'http://localhost:8080',
    silence: undefined,
    caughtUp: true,
    position: 7,
    bootstrapped: true,
    clusterId: 'clu_1',
    version: 'v1.4.0',
    cliVersion: 'v1.4.0',
  },
  license: {
    licenseId: 'lic_1',
    state: 'valid',
    expiresAt: '2027-06-01T00:00:00Z',
    maxNodes: 3,
    maxServices: 3,
    nodes: 2,
    services: 1,
  },
  trust: { directory: '/etc/arctic/trust-roots', roots: 1, fault: undefined },
  membership: { local: 'member', setAside: [] },
  peers: [
    {
      id: 'peer_2',
      name: 'london',
      address: '10.0.0.2:8080',
      state: 'active',
      reason: null,
      closedPorts: [],
      lag: 0,
      clockSkewMs: 3,
      version: 'v1.4.0',
      tried: {
        api: undefined,
        carrier: undefined,
        carrierPort: 61000,
        tunnel: undefined,
        tunnelPort: 51840,
        resolves: true,
      },
    },
  ],
  reconcilers: [{ name: 'firewall', state: 'applied', error: null, failures: 0, condition: null }],
  drift: [{ reconciler: 'firewall', items: [] }],
  services: [
    {
      id: 'svc_1',
      name: 'web',
      fromHere: true,
      routes: 1,
      requiresInterface: false,
      limitMbps: 0,
      failed: [],
      gone: [],
      tunnel: 'handshake 9 s ago, 10.0.0.2:51840, 120 B out, 240 B in, 0 lost',
    },
  ],
  database: {
    path: '/opt/tillered/arctic.db',
    exists: true,
    key: 'present',
    keyPath: '/opt/tillered/peer.key',
    fault: undefined,
    newestEvent: NOW - 1000,
  },
  api: {
    bind: '::',
    tls: true,
    certificate: { expiresAt: NOW + 90 * 86_400_000, selfSigned: false },
  },
  lock: null,
  install: {
    remnants: [],
    systemd: true,
    unit: { path: '/etc/systemd/system/arctic.service', enabled: true, program: '/usr/bin/arctic' },
    program: '/usr/bin/arctic',
    exposed: [],
  },
} as const satisfies Facts;

const [PEER] = WELL.peers;
const [SERVICE] = WELL.services;
const license = (state: string): Partial<Facts> => ({ license: { ...WELL.license, state } });
const peer = (change: object): Partial<Facts> => ({ peers: [{ ...PEER, ...change }] });
const service = (change: object): Partial<Facts> => ({ services: [{ ...SERVICE, ...change }] });
const kernel = (change: object): Partial<Facts> => ({ kernel: { ...WELL.kernel, ...change } });
const host = (change: object): Partial<Facts> => ({ host: { ...WELL.host, ...change } });
const agent = (change: object): Partial<Facts> => ({ agent: { ...WELL.agent, ...change } });
const certificate = (change: object): Partial<Facts> => ({
  api: { ...WELL.api, certificate: { ...WELL.api.certificate, ...change } },
});
const install = (change: object): Partial<Facts> => ({ install: { ...WELL.install, ...change } });

/** For each condition a change of the facts that brings it out. */
const ILL: Readonly<Record<string, Partial<Facts>>> = {
  'host-not-linux': host({ platform: 'darwin' }),
  'host-no-privilege': host({ netAdmin: false }),
  'host-disk-low': host({ freeBytes: 1024 }),
  'kernel-old': host({ kernelRelease: '4.19.0-5' }),
  'kernel-no-nftables': kernel({ nftables: false }),
  'kernel-no-tproxy': kernel({ tproxy: false }),
  'kernel-no-macvlan': kernel({ macvlan: false }),
  'kernel-no-tun': kernel({ tun: false }),
  'kernel-no-bbr': kernel({ bbr: false }),
  'kernel-no-ipv6': kernel({ ipv6: false }),
  'kernel-no-owner-flag': kernel({ ownerFlag: false }),
  'kernel-no-flow-reset': kernel({ flowReset: false }),
  'host-xtables': kernel({ xtables: ['ip filter', 'ip6 mangle'] }),
  'host-foreign-marks': kernel({ foreignMarks: [{ table: 'ip mangle', chain: 'PREROUTING' }] }),
  'parent-interface-missing': kernel({ parentInterface: undefined }),
  'host-firewall-closed': kernel({ closedInputs: [{ table: 'inet filter', chain: 'input' }] }),
  'settings-invalid': { settings: { fault: 'API_PORT="x" is not usable.', file: '/etc/arctic/arctic.env' } },
  'port-taken': { ports: [{ ...WELL.ports[0], holder: 'other', program: 'nginx (12)' }] },
  'agent-silent': agent({ silence: 'connection refused' }),
  'agent-version-differs': agent({ version: 'v1.3.0' }),
  'projections-behind': agent({ caughtUp: false }),
  'not-bootstrapped': agent({ bootstrapped: false }),
  'api-plain-http': { api: { bind: '::', tls: false, certificate: undefined } },
  'api-certificate-expired': certificate({ expiresAt: NOW - 1 }),
  'api-certificate-expiring': certificate({ expiresAt: NOW + 86_400_000 }),
  'api-certificate-self-signed': certificate({ selfSigned: true }),
  'clock-not-synchronised': host({ clockSynchronised: false }),
  'peer-key-missing': { database: { ...WELL.database, key: 'missing' } },
  'private-file-exposed': install({ exposed: [{ path: '/opt/tillered/peer.key', mode: '0644' }] }),
  'database-damaged': { database: { ...WELL.database, fault: 'event 3 was altered.' } },
  'clock-behind-log': { database: { ...WELL.database, newestEvent: NOW + 3_600_000 } },
  'unit-missing': install({ unit: undefined }),
  'unit-of-other-program': install({ program: '/home/me/arctic' }),
  'old-install': install({ remnants: [{ path: '/etc/nftables.d/arctic.nft', what: 'a rules file' }] }),
  'trust-roots-missing': { trust: { ...WELL.trust, roots: 0 } },
  'trust-root-refused': { trust: { ...WELL.trust, fault: 'root.pub has mode 0666.' } },
  'license-missing': { license: null },
  'license-warning': license('warning'),
  'license-grace': license('grace'),
  'license-read-only': license('read_only'),
  'license-suspended': license('suspended'),
  'license-nodes-used': { license: { ...WELL.license, nodes: 3 } },
  'license-services-used': { license: { ...WELL.license, services: 3 } },
  'peer-name-unresolved': peer({ tried: { ...PEER.tried, resolves: false } }),
  'peer-unreachable': peer({ state: 'unreachable', reason: 'handshake failed: connection refused' }),
  'peer-pending': peer({ state: 'pending' }),
  'left-cluster': { membership: { local: 'removed', setAside: [] } },
  'own-history-forked': { membership: { local: 'member', forkedAt: 6, setAside: [] } },
  'peer-set-aside': {
    membership: {
      local: 'member',
      setAside: [{ name: 'west', local: false, reason: 'set aside: it joined last' }],
    },
  },
  'peer-rewrote-past': peer({ rewrote: { size: 7, event: 'evt_01JD0000000000000000000000' } }),
  'peer-forked': peer({
    forkedAt: 7,
    reason: 'signed two histories: from its event 7 on nothing of it counts on any host',
  }),
  'peer-one-sided': peer({ reason: 'only one direction works: the connections of the peer do not arrive' }),
  'peer-ports-closed': peer({
    closedPorts: [{ protocol: 'udp', port: 51_840, direction: 'out', host: '192.0.2.2' }],
  }),
  'peer-api-closed': peer({ tried: { ...PEER.tried, api: 'connection timeout' } }),
  'peer-kcp-silent': peer({ kcpSilent: 61_000 }),
  'peer-carrier-closed': peer({ tried: { ...PEER.tried, carrier: 'connection refused' } }),
  'peer-tunnel-closed': peer({ tried: { ...PEER.tried, tunnel: 'connection refused' } }),
  'peer-lagging': peer({ lag: 50_000 }),
  'peer-clock-skew': peer({ clockSkewMs: 61_000 }),
  'peer-changes-held': peer({ changesHeldUntil: '2026-06-02T12:00:00.000Z' }),
  'peer-clock-off': peer({ clockSkewMs: -6_000 }),
  'cluster-locked': {
    lock: { holder: 'ann', purpose: 'compose apply', expiresAt: '2026-06-01T12:01:00Z' },
  },
  'reconciler-failed': {
    reconcilers: [{ name: 'firewall', state: 'failed', error: 'EPERM', failures: 3, condition: null }],
  },
  'reconciler-restrained': {
    reconcilers: [
      {
        name: 'firewall',
        state: 'applied',
        error: null,
        failures: 0,
        condition: 'another program keeps changing chain apply back; repairs are slowed down',
      },
    ],
  },
  'service-failed': service({ failed: [{ reconciler: 'network', reason: 'the name is taken' }] }),
  'tunnel-one-way': service({ tunnel: 'handshake 9 s ago, 10.0.0.2:51840, 840 B out, 0 B in, 0 lost' }),
  'service-without-peer': service({ gone: [{ name: 'london', state: 'removed' }] }),
  'service-without-route': service({ routes: 0 }),
  'service-elsewhere': service({ fromHere: false }),
  'service-limited': service({ limitMbps: 10 }),
  drift: { drift: [{ reconciler: 'firewall', items: ['rule 1'] }] },
};

t.test('a host on which all is well has no finding, and every condition was judged', async (t) => {
  const { findings, judged } = evaluate(WELL);
  t.same(findings, []);
  t.equal(judged.size, CONDITIONS.length);
});

t.test('each condition is brought out by its facts, and by nothing else', async (t) => {
  t.same(Object.keys(ILL).sort(), CONDITIONS.map(({ code }) => code).sort(), 'each has a case');
  for (const [code, change] of Object.entries(ILL)) {
    const { findings } = evaluate({ ...WELL, ...change });
    t.ok(
      findings.some((one) => one.code === code),
      `${code}: ${JSON.stringify(findings)}`,
    );
    for (const { text, remedy } of findings) {
      t.match(text, /[.]$|FILE$|FILE\)$/, `a sentence: ${text}`);
      t.ok(remedy.length > 10, `with a remedy: ${remedy}`);
      t.notMatch(`${text}${remedy}`, /undefined|null|NaN|\[object/);
    }
  }
});

t.test('what is not known is not judged', async (t) => {
  t.same(evaluate({ now: NOW }), { findings: [], judged: new Set() });
});

t.test('a consequence is not shown beside its cause', async (t) => {
  const codes = (change: Partial<Facts>) => evaluate({ ...WELL, ...change }).findings.map(({ code }) => code);
  t.same(codes({ ...ILL['port-taken'], ...ILL['agent-silent'] }), ['port-taken']);
  t.same(
    codes(peer({ state: 'unreachable', tried: { ...PEER.tried, api: 'refused', carrier: 'refused' } })),
    ['peer-unreachable'],
  );
  const other = { ...PEER, name: 'paris', tried: { ...PEER.tried, carrier: 'refused' } };
  t.same(
    codes({ peers: [{ ...PEER, state: 'unreachable' }, other] }),
    ['peer-unreachable', 'peer-carrier-closed'],
    'of the same peer only',
  );
});

t.test('the table is sound', async (t) => {
  const codes = CONDITIONS.map(({ code }) => code);
  t.equal(new Set(codes).size, codes.length, 'codes are unique');
  for (const { code, dependsOn } of CONDITIONS) {
    t.match(code, /^[a-z0-9]+(-[a-z0-9]+)*$/);
    for (const cause of dependsOn) t.ok(codes.includes(cause), `${code} depends on ${cause}`);
  }
  const causesOf = (code: string): readonly string[] =>
    CONDITIONS.find((one) => one.code === code)?.dependsOn ?? [];
  const reaches = (from: string, to: string, seen = new Set<string>()): boolean =>
    causesOf(from).some((next) => next === to || (!seen.has(next) && reaches(next, to, seen.add(next))));
  for (const code of codes) t.notOk(reaches(code, code), `${code} is no consequence of itself`);
});

t.test('the table answers every symptom of the troubleshooting page', async (t) => {
  const page = readFileSync(new URL('../../../ops/docs/troubleshooting.md', import.meta.url), 'utf8');
  const answered = new Set(CONDITIONS.flatMap(({ symptoms }) => symptoms));
  const ours = [...page.matchAll(/^### (.+)$/gm)].map(([, heading = '']) => heading);
  const theirs = [
    'Connection refused',
    'Connection timeout',
    'License mismatch',
    'Invalid signature',
    'Peer already exists',
    'Node limit exceeded',
    'Firewall rules missing',
    'TProxy engine not applying config',
    'IP tunnel not applying config',
    'MACVLAN interface missing',
    'Applied state does not match the database',
  ];
  const noSymptom = ['Collecting debug information', 'Recovery steps'];
  const wanted = [...ours.filter((heading) => !noSymptom.includes(heading)), ...theirs];
  t.ok(ours.includes('Agent not responding'), 'the page was read');
  for (const symptom of wanted) t.ok(answered.has(symptom), symptom);
  for (const symptom of answered) t.ok(wanted.includes(symptom), `${symptom} is on the page`);
});

t.test('readyz: one check a part, not ok while a condition holds it back', async (t) => {
  t.same(readiness(WELL), [
    { name: 'projections', ok: true, detail: 'at position 7' },
    { name: 'bootstrap', ok: true, detail: 'clu_1' },
    { name: 'license', ok: true, detail: 'lic_1 is valid' },
    { name: 'reconciler firewall', ok: true, detail: 'applied' },
  ]);
  const failed = (change: Partial<Facts>) =>
    readiness({ ...WELL, ...change }).flatMap(({ name, ok }) => (ok ? [] : [name]));
  t.same(failed(ILL['reconciler-failed'] ?? {}), ['reconciler firewall']);
  t.same(failed(license('suspended')), ['license']);
  t.same(failed(license('read_only')), [], 'the data plane runs');
  t.same(failed(agent({ caughtUp: false })), ['projections']);
  t.same(failed(peer({ state: 'unreachable' })), [], 'another host does not make this one unready');
  const { license: _, ...bare } = WELL;
  t.same(
    readiness({ ...bare, agent: { ...WELL.agent, bootstrapped: false } }).map(({ ok }) => ok),
    [true, false, false, true],
  );
});
