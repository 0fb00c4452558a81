/**
 * Random sequences of changes, foreign changes and restarts against the real kernel: each ends in what is desired, as an
 * independent reader (`nft -j`, `ip -j`) sees it. ARCTIC_SEQUENCES=1000 plays more of them.
 */

import fc from 'fast-check';
import t, { type Test } from 'tap';
import { systemClock } from '../../../events/clock.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import { deriveOne } from '../../../projections/desired/derive.ts';
import { createProjections, type Projections } from '../../../projections/runner.ts';
import { type Kernel, KernelError } from '../../../src/kernel/contract.ts';
import { createKernel } from '../../../src/kernel/kernel.ts';
import { foldOf, History, id, peer } from '../../unit/projections/history.ts';
import { MemoryLog } from '../../unit/projections/memory-log.ts';
import { createKernelReconcilers } from '../../unit/reconcilers/kernel-reconcilers.ts';
import { makeNetns, mayMakeNamespaces, type Netns } from '../netns.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

const SEQUENCES = Number(process.env['ARCTIC_SEQUENCES'] ?? 50);

const step = fc.record({
  what: fc.constantFrom(
    'add route',
    'add route',
    'add route',
    'update route',
    'delete route',
    'create service',
    'delete service',
    'reject',
    'delete element',
    'add element',
    'insert rule',
    'flush chain',
    'delete table',
    'flush ruleset',
    'delete rule',
    'flush local',
    'delete link',
    'delete address',
    'refuse',
    'restart',
  ),
  service: fc.integer({ min: 1, max: 3 }),
  route: fc.integer({ min: 1, max: 8 }),
  dest: fc.constantFrom('172.16.0.0/16', '172.16.1.0/24', '172.17.0.0/16', '172.18.0.0/15', '172.20.1.1/32'),
  priority: fc.integer({ min: 1, max: 2 }),
});
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** The kernel with a fault to come: the next request that changes something is refused. */
function faulty(kernel: Kernel): { readonly kernel: Kernel; refuse(): void } {
  let refused = false;
  const guard = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(held, name) {
        const value: unknown = Reflect.get(held, name);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          if (refused && /^(replace|change|delete|add|create|set|write)/.test(String(name))) {
            refused = false;
            throw new KernelError('ENOMEM', 12, String(name), 'refused by the test');
          }
          return Reflect.apply(value, held, args) as unknown;
        };
      },
    });
  return {
    kernel: { ...kernel, nft: guard(kernel.nft), rt: guard(kernel.rt) },
    refuse: () => {
      refused = true;
    },
  };
}

interface Agent {
  readonly projections: Projections;
  readonly log: MemoryLog;
  refuse(): void;
  sync(): Promise<void>;
  stop(): Promise<void>;
}

async function startAgent(netns: Netns, history: History, owned: boolean): Promise<Agent> {
  const real = createKernel({ netnsPath: netns.path });
  await real.start();
  const { kernel, refuse } = faulty(real);
  const log = new MemoryLog();
  log.append(history.events);
  const projections = createProjections({ localPeer: peer(1) }, { log, clock: systemClock });
  projections.start();
  const reconcilers = createKernelReconcilers({ kernel, projections, owned });
  await reconcilers.start();
  return {
    projections,
    log,
    refuse,
    sync: () => reconcilers.sync(),
    // As a kill would: nothing is cleaned up.
    async stop() {
      await reconcilers.stop();
      projections.stop();
      await real.stop();
    },
  };
}

const SERVICE = (n: number): string => id('svc', n);

function change(history: History, { what, service, route, dest, priority }: Step): boolean {
  const svc = SERVICE(service);
  const rte = id('rte', route);
  if (what === 'add route') history.route(peer(1), route, svc, null, dest, { priority });
  else if (what === 'update route')
    history.add(peer(1), 'route.updated', rte, { service_id: svc, dest_cidr: dest, priority });
  else if (what === 'delete route') history.add(peer(1), 'route.deleted', rte, { service_id: svc });
  else if (what === 'create service')
    // One with an interface: names are cut to 15 characters, alike for these small ids.
    history.service(
      peer(1),
      service,
      peer(1),
      peer(2),
      service === 1 ? { requires_interface: true, desired_ipv4_cidr: '10.77.0.1/24' } : {},
    );
  else if (what === 'delete service' && priority === 2) history.add(peer(1), 'service.deleted', svc, {});
  else if (what === 'reject')
    history.add(peer(1), 'service.updated', svc, { on_failure: priority === 1 ? 'reject' : 'direct' });
  else return false;
  return true;
}

async function meddle(netns: Netns, { what, dest }: Step): Promise<void> {
  const [address = '', length = ''] = dest.split('/');
  const nft = (...args: string[]) => netns.exec('nft', ...args);
  const ip = (...args: string[]) => netns.exec('ip', ...args);
  const map = `m4_d${length}`;
  const works: Readonly<Record<string, () => Promise<unknown>>> = {
    'delete element': () => nft('delete', 'element', 'inet', 'arctic', map, `{ ${address} }`),
    'add element': () => nft('add', 'element', 'inet', 'arctic', map, '{ 9.9.0.0 : 0x7 }'),
    'insert rule': () => nft('insert', 'rule', 'inet', 'arctic', 'prerouting', 'accept'),
    'flush chain': () => nft('flush', 'chain', 'inet', 'arctic', 'apply'),
    'delete table': () => nft('delete', 'table', 'inet', 'arctic'),
    'flush ruleset': () => nft('flush', 'ruleset'),
    'delete rule': () => ip('rule', 'delete', 'priority', '4100'),
    'flush local': () => ip('route', 'flush', 'table', '4100'),
    'delete link': () => ip('link', 'delete', 'svc_00000000000'),
    'delete address': () => ip('address', 'delete', '10.77.0.1/24', 'dev', 'svc_00000000000'),
  };
  // There may be nothing to break, or the owner flag may forbid it.
  await works[what]?.().catch(() => undefined);
}

interface NftObject {
  readonly map?: { readonly table: string; readonly name: string; readonly elem?: [string, number][] };
  readonly rule?: { readonly table: string; readonly chain: string; readonly comment?: string };
}

/** What `nft list ruleset` shows, as `nft -j` would: 1.0.6 at times breaks off its JSON at the flags of an owned table. */
function objectsOf(listing: string): readonly NftObject[] {
  return [...listing.matchAll(/^table inet (\S+) \{[^\n]*\n(.*?)^\}/gms)].flatMap(
    ([, table = '', body = '']) =>
      [...body.matchAll(/^\t(map|chain) (\S+) \{\n(.*?)^\t\}/gms)].flatMap(
        ([, kind, name = '', inner = '']): NftObject[] => {
          if (kind === 'map')
            return [
              {
                map: {
                  table,
                  name,
                  elem: [...inner.matchAll(/([\d.]+) : (0x[0-9a-f]+)/g)].map(([, to = '', mark]) => [
                    to,
                    Number(mark),
                  ]),
                },
              },
            ];
          const rules = inner.split('\n').filter((line) => line.trim() !== '' && !/^\s*type /.test(line));
          return rules.map((line) => {
            const comment = /comment "(.*)"$/.exec(line)?.[1];
            return { rule: { table, chain: name, ...(comment === undefined ? {} : { comment }) } };
          });
        },
      ),
  );
}

/** Maps, rules and interfaces as nft and ip show them. */
async function seen(netns: Netns, owned: boolean) {
  const nftables = owned
    ? objectsOf(await netns.exec('nft', 'list', 'ruleset'))
    : (JSON.parse(await netns.exec('nft', '-j', 'list', 'ruleset')) as { nftables: NftObject[] }).nftables;
  const tables = [...new Set(nftables.flatMap(({ rule }) => (rule ? [rule.table] : [])))].sort();
  const maps = (table: string) =>
    nftables
      .flatMap(({ map }) =>
        map?.table === table && map.name.startsWith('m')
          ? (map.elem ?? []).map(([to, mark]) => `${map.name} ${to} ${mark}`)
          : [],
      )
      .sort();
  const rules = (JSON.parse(await netns.exec('ip', '-j', 'rule')) as { priority: number }[]).filter(
    ({ priority }) => priority === 4100,
  ).length;
  const links = JSON.parse(await netns.exec('ip', '-j', 'address')) as {
    ifname: string;
    addr_info: { local: string }[];
  }[];
  const stray = nftables.some(({ rule }) => rule?.table.startsWith('arctic') && rule.comment === undefined);
  const ours = links
    .filter(({ ifname }) => ifname.startsWith('svc_'))
    .map(({ ifname, addr_info }) => `${ifname} ${addr_info.map(({ local }) => local).includes('10.77.0.1')}`);
  return { tables, main: maps('arctic'), guard: maps('arctic_guard'), rules, ours, stray };
}

/** The same from a fold of everything, derived from nothing. */
function expected(history: History) {
  const fold = foldOf(history.events);
  const firewall = deriveOne('firewall', fold, peer(1));
  const marks = new Map(firewall.services.map((service) => [service.service_id, service.mark]));
  const elements = firewall.classes
    .flatMap((one) =>
      one.routes.map(
        (route) =>
          `m4_d${one.dest_length} ${route.dest_cidr?.split('/')[0]} ${marks.get(route.service_id) ?? 0}`,
      ),
    )
    .sort();
  const wanted = firewall.services.length > 0;
  const guarded = firewall.services.some((service) => service.on_failure === 'reject');
  const interfaces = deriveOne('interfaces', fold, peer(1));
  return {
    tables: [...(wanted ? ['arctic'] : []), ...(guarded ? ['arctic_guard'] : []), 'theirs'],
    main: elements,
    guard: guarded ? elements : [],
    rules: wanted ? 2 : 0,
    ours: interfaces.map(({ name }) => `${name} true`),
    stray: false,
  };
}

async function play(t: Test, owned: boolean, count: number): Promise<void> {
  const netns = await makeNetns('sequences');
  t.teardown(() => netns.remove());
  await netns.exec('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
  await netns.exec('ip', 'link', 'set', 'lan0', 'up');
  const sequences = fc.sample(fc.array(step, { minLength: 4, maxLength: 14 }), count);
  for (const [index, steps] of sequences.entries()) {
    const history = new History();
    history.member(1);
    history.member(2);
    for (const service of [1, 2])
      change(history, { what: 'create service', service, route: 1, dest: '172.16.0.0/16', priority: 1 });
    let agent = await startAgent(netns, history, owned);
    for (const one of steps) {
      if (one.what === 'restart') {
        await agent.stop();
        agent = await startAgent(netns, history, owned);
      } else if (one.what === 'refuse') agent.refuse();
      else if (change(history, one)) agent.log.append(history.events.slice(agent.log.events.length));
      else await meddle(netns, one);
    }
    // Somebody else's, which everything has to leave alone (a flush of the ruleset may have taken it).
    await netns.exec(
      'nft',
      'add table inet theirs; add chain inet theirs c; flush chain inet theirs c; add rule inet theirs c accept',
    );
    await agent.sync();
    const want = JSON.stringify(expected(history));
    let have = '';
    for (let tries = 0; have !== want && tries < 300; tries += 1) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, 20));
      have = await seen(netns, owned).then(JSON.stringify, (error: unknown) => {
        // nft prints nothing when a commit comes into its reading.
        if (error instanceof SyntaxError) return '{}';
        throw error;
      });
    }
    if (have !== want)
      t.strictSame(JSON.parse(have), JSON.parse(want), `sequence ${index}: ${JSON.stringify(steps)}`);
    await agent.stop();
  }
  t.equal(MARK.service, 0x4100_0000);
}

t.test('each ends in what is desired', { timeout: 1_800_000 }, (t) => play(t, false, SEQUENCES));

t.test('and with the owner flag, which keeps others off', { timeout: 1_800_000 }, (t) =>
  play(t, true, SEQUENCES),
);
