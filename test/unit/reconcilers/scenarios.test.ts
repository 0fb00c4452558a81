/** Plays `fixtures/scenarios`: events in; desired state and plan out. */
import { readdirSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import type { AnyEvent } from '../../../events/envelope.ts';
import type { DesiredFirewall } from '../../../projections/desired/contract.ts';
import { deriveDesired } from '../../../projections/desired/derive.ts';
import type { Fold } from '../../../projections/fold.ts';
import { createFakeKernel } from '../../../src/kernel/kernel.fake.ts';
import { describeClass } from '../../../src/reconcilers/firewall/select.ts';
import { createFirewallReconciler } from '../../../src/reconcilers/firewall.ts';
import { createNetworkReconciler } from '../../../src/reconcilers/network.ts';
import { foldOf, History, id, peer } from '../projections/history.ts';

const FIXTURES = new URL('../../../fixtures/scenarios/', import.meta.url);

interface Step {
  readonly title: string;
  readonly events: readonly Readonly<Record<string, unknown>>[];
  readonly desired?: {
    readonly classes?: readonly string[];
    readonly services?: number;
    readonly interfaces?: readonly string[];
    readonly entries?: readonly string[];
    readonly exits?: readonly string[];
  };
  readonly differences?: readonly string[];
  readonly apply?: boolean;
}
interface Scenario {
  readonly title: string;
  readonly local: number;
  readonly steps: readonly Step[];
}

/** Appends what one line of a scenario stands for. */
function happen(history: History, line: Readonly<Record<string, unknown>>): void {
  const number = (key: string): number => Number(line[key]);
  const by = peer(number('by'));
  const at = line['at'] === undefined ? undefined : number('at');
  const cidr = (key: string): string | null => (line[key] as string | undefined) ?? null;
  const set = (line['set'] ?? {}) as Record<string, never>;
  if ('member' in line) history.member(number('member'));
  else if ('license' in line) history.license(by, number('license'));
  else if ('remove_peer' in line) {
    const gone = peer(number('remove_peer'));
    history.add(by, 'peer.removed', gone, { peer_id: gone, last_seq: 100 }, at);
  } else if ('service' in line)
    history.service(by, number('service'), peer(number('source')), peer(number('target')), set);
  else if ('update_service' in line)
    history.add(by, 'service.updated', id('svc', number('update_service')), set, at);
  else if ('delete_service' in line)
    history.add(by, 'service.deleted', id('svc', number('delete_service')), {}, at);
  else if ('route' in line)
    history.route(by, number('route'), id('svc', number('of')), cidr('source'), cidr('dest'), {
      number: line['number'] === undefined ? number('route') : number('number'),
      priority: line['priority'] === undefined ? 100 : number('priority'),
      ...(at === undefined ? {} : { at }),
    });
  else if ('delete_route' in line)
    history.add(
      by,
      'route.deleted',
      id('rte', number('delete_route')),
      { service_id: id('svc', number('of')) },
      at,
    );
  else throw new Error(`no such line: ${JSON.stringify(line)}`);
}

const classesOf = ({ classes }: DesiredFirewall): readonly string[] =>
  classes.map((one) => {
    const routes = one.routes.map(
      (route) => `${route.source_cidr ?? 'any'} -> ${route.dest_cidr ?? 'any'} by route ${route.number}`,
    );
    return `${describeClass(one)}: ${routes.join(', ')}`;
  });

const numberIn = (text: string): number => Number.parseInt(text.slice(text.indexOf('_') + 1), 10);

async function play(
  t: Test,
  scenario: Scenario,
  arrange: (events: readonly AnyEvent[]) => readonly AnyEvent[],
) {
  const kernel = createFakeKernel({ sysctl: { 'net.ipv4.tcp_fwmark_accept': '0' } });
  await kernel.start();
  kernel.addDevice({ name: 'eth0', mac: '02:00:00:00:01:00' });
  const local = peer(scenario.local);
  const history = new History();
  let fold: Fold = foldOf([]);
  const desired = () => deriveDesired(fold, local);
  const memory = new Map<string, string>();
  const firewall = createFirewallReconciler(
    { listenPort: () => 17_000 },
    {
      kernel,
      desired: () => desired().firewall,
      serviceName: (service) => fold.services.list().find((row) => row.id === service)?.name ?? service,
      memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
    },
  );
  const network = createNetworkReconciler(
    { parentInterface: 'eth0' },
    { kernel, desired: () => desired().interfaces },
  );
  for (const step of scenario.steps) {
    for (const line of step.events) happen(history, line);
    fold = foldOf(arrange(history.events));
    const state = desired();
    const expected = step.desired ?? {};
    if (expected.classes) t.strictSame(classesOf(state.firewall), expected.classes, `${step.title}: classes`);
    if (expected.services !== undefined)
      t.equal(state.firewall.services.length, expected.services, `${step.title}: services`);
    if (expected.interfaces)
      t.strictSame(
        state.interfaces.map((one) => `${one.name} ${one.ipv4_cidr}`),
        expected.interfaces,
        `${step.title}: interfaces`,
      );
    for (const side of ['entries', 'exits'] as const)
      if (expected[side])
        t.strictSame(
          state.tproxy[side].map(
            (one) => `service ${numberIn(one.service_id)} with peer ${numberIn(one.peer_id)}`,
          ),
          expected[side],
          `${step.title}: ${side}`,
        );
    const plans = {
      network: network.plan(network.desired(), await network.observe()),
      firewall: firewall.plan(firewall.desired(), await firewall.observe()),
    };
    const items = [...plans.network.differences, ...plans.firewall.differences].map((one) => one.item);
    if (step.differences) t.strictSame(items.sort(), [...step.differences].sort(), `${step.title}: plan`);
    if (step.apply === false) continue;
    await network.apply(plans.network);
    await firewall.apply(plans.firewall);
    t.strictSame(
      firewall.plan(firewall.desired(), await firewall.observe()).differences,
      [],
      `${step.title}: in place`,
    );
  }
}

for (const file of readdirSync(FIXTURES).filter((name) => name.endsWith('.yaml'))) {
  const scenario = parse(readFileSync(new URL(file, FIXTURES), 'utf8')) as Scenario;
  t.test(`${scenario.title}, in order`, (t) => play(t, scenario, (events) => events));
  t.test(`${scenario.title}, in the opposite order of arrival`, (t) =>
    play(t, scenario, (events) => [...events].reverse()),
  );
}
