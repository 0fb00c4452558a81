import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { desiredOf, firewallOf, makeLab, type RouteSpec } from './lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

const rulesOf = async (lab: { router: { exec(...args: string[]): Promise<string> } }) => {
  const parsed = JSON.parse(await lab.router.exec('nft', '-j', 'list', 'table', 'inet', 'arctic')) as {
    nftables: { rule?: { comment?: string } }[];
  };
  return parsed.nftables.flatMap((one) => (one.rule ? [one.rule.comment] : []));
};

t.test('every foreign change is found, named and repaired', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await lab.startEngine();
  const specs: RouteSpec[] = [
    { service: 1, source: null, dest: '172.16.0.0/16' },
    { service: 2, source: '192.168.0.0/16', dest: '172.17.0.0/16' },
    { service: 2, source: 'fd55::/16', dest: null },
  ];
  await pass(desiredOf(specs, { 4: 'svc_none' }));
  const before = await lab.router.exec('nft', 'list', 'table', 'inet', 'arctic');
  const rules = await rulesOf(lab);
  t.ok(rules.length >= 20 && rules.every((comment) => comment), 'every rule says what it is for');
  const nft = (...args: string[]) => lab.router.exec('nft', ...args);
  const changes: readonly (readonly [string, () => Promise<unknown>, RegExp])[] = [
    [
      'an element deleted',
      () => nft('delete', 'element', 'inet', 'arctic', 'm4_d16', '{ 172.16.0.0 }'),
      /route 1 of name-of-1: any -> 172\.16\.0\.0\/16/,
    ],
    [
      'an element added',
      () => nft('add', 'element', 'inet', 'arctic', 'm4_d16', '{ 1.2.0.0 : 0x5 }'),
      /element any -> 1\.2\.0\.0\/16 of map m4_d16/,
    ],
    [
      'a rule inserted',
      () => nft('insert', 'rule', 'inet', 'arctic', 'prerouting', 'tcp', 'dport', '22', 'accept'),
      /chain prerouting rule without comment/,
    ],
    [
      'a chain flushed',
      () => nft('flush', 'chain', 'inet', 'arctic', 'apply'),
      /chain apply rule "to the TCP engine"/,
    ],
    ['a chain added', () => nft('add', 'chain', 'inet', 'arctic', 'mine'), /chain mine/],
    [
      'a set added',
      () => nft('add', 'set', 'inet', 'arctic', 'mine', '{ type ipv4_addr; flags interval; }'),
      /map mine/,
    ],
    ['the table deleted', () => nft('delete', 'table', 'inet', 'arctic'), /table inet arctic/],
    ['everything flushed', () => nft('flush', 'ruleset'), /table inet arctic/],
    [
      'an ip rule deleted',
      () => lab.router.exec('ip', 'rule', 'del', 'priority', '4100'),
      /ip rule 4100 ipv4 fwmark 0x41/,
    ],
    [
      'the IPv6 local route deleted',
      () => lab.router.exec('ip', '-6', 'route', 'flush', 'table', '4100'),
      /route local ::\/0 table 4100/,
    ],
    [
      'a sysctl changed',
      () => lab.kernel.sysctl.write('net.ipv4.tcp_fwmark_accept', '0'),
      /sysctl net\.ipv4\.tcp_fwmark_accept/,
    ],
  ];
  for (const [what, change, item] of changes) {
    await change();
    const items = await pass();
    t.ok(
      items.some((one) => item.test(one)),
      `${what}: ${items.join('; ')}`,
    );
    t.strictSame(await pass(), [], `${what}: repaired`);
  }
  t.equal(await nft('list', 'table', 'inet', 'arctic'), before);
  t.match(await lab.ask(lab.client, '192.168.1.1', '172.17.1.1'), /^service 2/);
  await nft('add', 'table', 'inet', 'theirs');
  await lab.router.exec('ip', 'rule', 'add', 'priority', '4100', 'fwmark', '7', 'lookup', '4100');
  t.strictSame(await pass(), [], 'what others add beside ours is theirs');
  t.match(await lab.router.exec('ip', 'rule'), /fwmark 0x7 lookup 4100/);
  t.match(await nft('list', 'tables'), /theirs/);
});

t.test('a change between observing and applying is not overwritten blindly', async (t) => {
  const lab = await makeLab(t);
  const { reconciler } = firewallOf(lab);
  const desired = desiredOf([{ service: 1, source: null, dest: '172.16.0.0/16' }]);
  const plan = reconciler.plan(desired, await reconciler.observe());
  await lab.router.exec('nft', 'add', 'table', 'inet', 'theirs');
  await t.rejects(reconciler.apply(plan), { code: 'ESTALE' });
});

t.test('with the owner flag nobody else can change the table, and it goes with the agent', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab, { firewallOwner: true });
  const specs: RouteSpec[] = [{ service: 1, source: null, dest: '172.16.0.0/16' }];
  await pass(desiredOf(specs));
  await lab.router.exec('nft', 'flush', 'ruleset');
  await t.rejects(
    lab.router.exec('nft', 'flush', 'chain', 'inet', 'arctic', 'apply'),
    /Operation not permitted/,
  );
  t.strictSame(await pass(), []);
  t.strictSame(
    await pass(desiredOf([...specs, { service: 1, source: null, dest: '172.17.0.0/16' }])),
    ['route 2 of name-of-1: any -> 172.17.0.0/16'],
    'we still can',
  );
  await lab.kernel.stop();
  t.equal((await lab.router.exec('nft', 'list', 'ruleset')).trim(), '');
});
