import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { clusterYaml, equivalentCommands, planLines } from '../../../cli/setup/answers.ts';
import { cidrFault, customerFault, insideFault, nameFault, parseAddress } from '../../../cli/setup/checks.ts';
import { flowCounts, judge } from '../../../cli/setup/prove.ts';
import { forgetState, readState, writeState } from '../../../cli/setup/state.ts';

t.test('answers are checked, and the fault says what would do', async (t) => {
  t.equal(nameFault('entry'), undefined);
  t.match(nameFault(''), /1 to 63/);
  t.equal(customerFault('cust_acme'), undefined);
  t.match(customerFault('ac me'), /letters/);
  t.equal(cidrFault('10.0.0.0/8'), undefined);
  t.equal(cidrFault('2001:db8::/32'), undefined);
  t.equal(cidrFault('10.1.2.3/8'), '10.1.2.3/8 has host bits set; the network is 10.0.0.0/8.');
  for (const bad of ['', '10.0.0.0', '10.0.0.0/33', 'x/8', '1/8']) t.ok(cidrFault(bad), bad);
  t.same(parseAddress('http://[2001:db8::1]:8080/'), { host: '2001:db8::1', port: 8080 });
  for (const bad of ['host', 'host:0', 'host:70000', ':1', 'a b:1'])
    t.equal(parseAddress(bad), undefined, bad);
  t.equal(insideFault('10.1.2.3:22', '10.0.0.0/8'), undefined);
  t.match(insideFault('11.1.2.3:22', '10.0.0.0/8'), /not in 10\.0\.0\.0\/8/);
  t.match(insideFault('example.com:22', '10.0.0.0/8'), /An IP address/);
});

t.test('the state file is private and goes on where it was', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-setup-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'sub', 'setup.json');
  t.equal(readState(path), undefined);
  const state = { startedAt: '2026-01-01T00:00:00Z', answers: { name: 'entry', join: null } };
  writeState(path, state);
  t.same(readState(path), state);
  t.equal(statSync(path).mode & 0o777, 0o600);
  writeFileSync(path, '{"half');
  t.equal(readState(path), undefined, 'a half-written one is none');
  forgetState(path);
  forgetState(path);
});

t.test('the same by hand, and as a file', async (t) => {
  const answers = {
    license: { kind: 'issue', customer: 'cust_acme', directory: '/root/my roots' },
    name: 'entry',
    parent: 'eth0',
    join: '10.0.0.2:8080',
    service: { name: 'entry-exit', target: 'peer_2', targetName: 'exit', destination: '10.9.0.0/16' },
  } as const;
  t.same(equivalentCommands(answers, 'http://localhost:8080', '/etc/arctic', true), [
    "arctic license root create --out '/root/my roots'",
    "install -D -m 0644 '/root/my roots/root.pub' /etc/arctic/trust-roots/root.pub",
    "arctic license issue --root '/root/my roots/root.key' --customer cust_acme > /etc/arctic/license.json",
    'arctic agent install --set PARENT_INTERFACE=eth0',
    'arctic bootstrap --url http://localhost:8080 --license-file /etc/arctic/license.json --name entry',
    'arctic peers add 10.0.0.2:8080',
    'arctic services create --name entry-exit --target-peer exit',
    'arctic routes add --service entry-exit --priority 100 --dest-cidr 10.9.0.0/16',
  ]);
  const rows = [
    { name: 'entry', address: '10.0.0.1:8080', is_local: true, state: 'active' },
    { name: 'exit', address: '10.0.0.2:8080', is_local: false, state: 'active' },
    { name: 'gone', address: '10.0.0.3:8080', is_local: false, state: 'removed' },
  ];
  t.match(parse(await clusterYaml(answers, rows, '/etc/arctic/license.json')), {
    version: 'v1',
    peers: [{ name: 'entry' }, { name: 'exit' }],
    services: [{ source_peer: 'entry', target_peer: 'exit', routes: [{ dest_cidr: '10.9.0.0/16' }] }],
  });
  const plan = planLines({
    answers,
    unit: true,
    configDir: '/etc/arctic',
    dataDir: '/opt/tillered',
    running: false,
    bootstrapped: false,
  });
  t.ok(plan.some((line) => line.includes('systemd unit')));
});

t.test('a connection proves a service only when the engine took it and it got through', async (t) => {
  const metrics = (connections: number, failed: number) =>
    `arctic_tproxy_connections_total{service="svc_1",name="web",side="exit"} 99\n` +
    `arctic_tproxy_connections_total{service="svc_1",name="web",side="entry"} ${connections}\n` +
    `arctic_tproxy_failed_total{service="svc_1",name="web",side="entry"} ${failed}\n`;
  const none = flowCounts('', 'svc_1');
  t.same(none, { connections: 0, failed: 0, refused: 0 });
  const one = flowCounts(metrics(1, 0), 'svc_1');
  const verdict = (after: typeof one, refusal?: string, bytes = 10) =>
    judge('10.9.0.1:80', 'web', none, after, { refusal, bytes }).proved;
  t.equal(verdict(one), true);
  t.equal(verdict(one, undefined, 0), true, 'a silent server');
  t.equal(verdict(none), false, 'it went another way');
  t.equal(verdict(one, 'connection refused', 0), false);
  t.equal(verdict(flowCounts(metrics(1, 1), 'svc_1')), false);
});
