/**
 * The agent is killed between any two netlink messages: after a restart the kernel is as desired, judged by `nft -j` and
 * `ip -j`. What the kernel sees of a killed process is that its messages end and its sockets close; so the n-th message here
 * is never sent, nor any later one, and then the sockets are closed.
 */
import t, { type Test } from 'tap';
import type { Cidr } from '../../../events/brand.ts';
import { type DesiredFirewall, type DesiredInterface, MARK } from '../../../projections/desired/contract.ts';
import type { Kernel } from '../../../src/kernel/contract.ts';
import { createKernel } from '../../../src/kernel/kernel.ts';
import { loadAddon, type NativeAddon } from '../../../src/native/addon.ts';
import { createFirewallReconciler } from '../../../src/reconcilers/firewall.ts';
import { createNetworkReconciler } from '../../../src/reconcilers/network.ts';
import { makeNetns, mayMakeNamespaces, type Netns } from '../netns.ts';
import { desiredOf, LISTEN_PORT, serviceId } from './lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

/** Every message in a long run; some of them otherwise. */
const STEP = process.env['ARCTIC_LONG'] === '1' ? 1 : 9;
const MOST_MESSAGES = 400;
const ESHUTDOWN = 108;

interface Wanted {
  readonly firewall: DesiredFirewall;
  readonly interfaces: readonly DesiredInterface[];
}

const NAME = 'svc_1';
const one: DesiredInterface = {
  service_id: serviceId(1),
  name: NAME,
  mac: '02:00:00:00:00:01',
  mark: (MARK.service | 1) >>> 0,
  ipv4_cidr: '10.77.0.1/24' as Cidr,
  ipv6_cidr: 'fd77::1/64' as Cidr,
};
const FIRST: Wanted = {
  firewall: desiredOf(
    [
      { service: 1, source: null, dest: '172.16.0.0/16' },
      { service: 2, source: '10.0.0.0/8', dest: '172.17.0.0/16' },
    ],
    { 1: NAME },
    [2],
  ),
  interfaces: [one],
};
/** A route less, a class more, another address, no interface of the firewall's, nobody refused. */
const SECOND: Wanted = {
  firewall: desiredOf([
    { service: 1, source: null, dest: '172.18.0.0/16' },
    { service: 2, source: null, dest: '172.19.1.0/24' },
  ]),
  interfaces: [{ ...one, ipv4_cidr: '10.78.0.1/24' as Cidr, ipv6_cidr: null }],
};
const NOTHING: Wanted = { firewall: desiredOf([]), interfaces: [] };

/** An add-on whose n-th message is the first that does not leave. */
function mortal(
  addon: NativeAddon,
  lives: number,
): { readonly addon: NativeAddon; readonly sent: () => number } {
  let sent = 0;
  const may = (): boolean => {
    sent += 1;
    return sent <= lives;
  };
  return {
    sent: () => sent,
    addon: {
      ...addon,
      send: (...args: Parameters<NativeAddon['send']>) => (may() ? addon.send(...args) : -ESHUTDOWN),
      sendAsync: async (...args: Parameters<NativeAddon['sendAsync']>) =>
        may() ? addon.sendAsync(...args) : -ESHUTDOWN,
    } as NativeAddon,
  };
}

function agent(kernel: Kernel, wanted: Wanted, memory: Map<string, string>) {
  const firewall = createFirewallReconciler(
    { listenPort: () => LISTEN_PORT, firewallOwner: false },
    {
      kernel,
      desired: () => wanted.firewall,
      serviceName: (id) => id,
      memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
    },
  );
  const network = createNetworkReconciler(
    { parentInterface: 'lan0' },
    { kernel, desired: () => wanted.interfaces },
  );
  return {
    /** As the runner does it: each by itself, whatever becomes of the other. */
    async pass(): Promise<readonly string[]> {
      const items: string[] = [];
      const networkPlan = network.plan(wanted.interfaces, await network.observe());
      items.push(...networkPlan.differences.map(({ item }) => item));
      if (networkPlan.differences.length > 0) await network.apply(networkPlan);
      const firewallPlan = firewall.plan(wanted.firewall, await firewall.observe());
      items.push(...firewallPlan.differences.map(({ item }) => item));
      if (firewallPlan.differences.length > 0) await firewall.apply(firewallPlan);
      return items;
    },
  };
}

/** Everything another program sees, without what the kernel counts or numbers. */
async function seen(netns: Netns): Promise<string> {
  const read = async (...command: [string, ...string[]]): Promise<unknown> =>
    JSON.parse((await netns.exec(...command)) || '[]');
  const strip = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(strip);
    if (typeof value !== 'object' || value === null) return value;
    const unsteady = new Set([
      'handle',
      'index',
      'ifindex',
      'metainfo',
      'valid_life_time',
      'preferred_life_time',
    ]);
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => !unsteady.has(key) && key !== 'tentative' && key !== 'link_index')
        .map(([key, inner]) => [key, strip(inner)]),
    );
  };
  const lines = async (value: Promise<unknown>): Promise<string[]> =>
    ((strip(await value) as unknown[]) ?? []).map((row) => JSON.stringify(row)).sort();
  const ruleset = (await read('nft', '-j', 'list', 'ruleset')) as { nftables: unknown[] };
  // The order of rules is theirs; objects come in the order they were made.
  const order = new Map<string, number>();
  const rules = ruleset.nftables.flatMap((object) => {
    const [[kind = '', body] = []] = Object.entries(object as Record<string, Record<string, unknown>>);
    const place = `${body?.['table'] ?? body?.['name']} ${body?.['chain'] ?? ''}`;
    order.set(place, (order.get(place) ?? 0) + 1);
    return kind === 'metainfo'
      ? []
      : [JSON.stringify([place, kind === 'rule' ? order.get(place) : 0, strip(object)])];
  });
  const links = (await lines(read('ip', '-d', '-j', 'link'))).filter((line) => line.includes('svc_'));
  const addresses = (await lines(read('ip', '-j', 'address'))).filter((line) => line.includes('svc_'));
  return JSON.stringify(
    {
      rules: rules.sort(),
      links: links.length,
      addresses: addresses.map((line) =>
        line.match(/"local":"[^"]+"/g)?.filter((one) => !one.includes('fe80')),
      ),
      rules4: await lines(read('ip', '-j', 'rule')),
      rules6: await lines(read('ip', '-6', '-j', 'rule')),
      routes: (await lines(read('ip', '-j', 'route', 'show', 'table', 'all'))).filter(
        (line) => !line.includes('fe80'),
      ),
    },
    undefined,
    1,
  );
}

async function setup(t: Test): Promise<Netns> {
  const netns = await makeNetns('killed');
  t.teardown(() => netns.remove());
  const ip = (...args: string[]): Promise<string> => netns.exec('ip', ...args);
  // An address that waits for duplicate address detection has no local route yet: what is seen would depend on when.
  await netns.exec('sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad');
  await ip('link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
  await ip('link', 'set', 'lan1', 'up');
  await ip('link', 'set', 'lan0', 'up');
  await ip('address', 'add', '10.77.0.2/24', 'dev', 'lan0');
  await ip('route', 'add', 'default', 'via', '10.77.0.254', 'dev', 'lan0');
  // Other people's.
  await ip('rule', 'add', 'priority', '4200', 'from', '10.99.0.1', 'lookup', '99');
  await netns.exec(
    'nft',
    'add table inet guest; add chain inet guest c { type filter hook input priority 0; }',
  );
  return netns;
}

async function withKernel<T>(
  netns: Netns,
  addon: NativeAddon,
  work: (kernel: Kernel) => Promise<T>,
): Promise<T> {
  const kernel = createKernel({ netnsPath: netns.path, addon });
  await kernel.start();
  try {
    return await work(kernel);
  } finally {
    await kernel.stop();
  }
}

/** Passes until nothing differs. */
async function settle(kernel: Kernel, wanted: Wanted, memory: Map<string, string>): Promise<void> {
  const { pass } = agent(kernel, wanted, memory);
  for (let tries = 0; tries < 5; tries += 1) if ((await pass()).length === 0) return;
  throw new Error(`never settled: ${await pass()}`);
}

for (const [what, before, after] of [
  ['from nothing', NOTHING, FIRST],
  ['from one configuration to another', FIRST, SECOND],
  ['to nothing', FIRST, NOTHING],
] as const)
  t.test(`killed between any two messages: ${what}`, { timeout: 600_000 }, async (t) => {
    const netns = await setup(t);
    const addon = loadAddon();
    const memory = new Map<string, string>();
    const bring = (wanted: Wanted): Promise<void> =>
      withKernel(netns, addon, (kernel) => settle(kernel, wanted, memory));
    await bring(before);
    await bring(after);
    const wanted = await seen(netns);
    t.match(wanted, /guest/);
    let kills = 0;
    let finished = false;
    for (let lives = 1; lives < MOST_MESSAGES && !finished; lives += STEP) {
      await bring(NOTHING);
      await bring(before);
      const dying = mortal(addon, lives);
      await withKernel(netns, dying.addon, (kernel) => settle(kernel, after, memory)).catch(() => undefined);
      finished = dying.sent() <= lives;
      if (!finished) kills += 1;
      await bring(after);
      const now = await seen(netns);
      if (now !== wanted) {
        t.equal(now, wanted, `killed before message ${lives + 1}`);
        return;
      }
    }
    t.ok(finished && kills > 0, `${kills} kills; each time all was as desired after the restart`);
  });
