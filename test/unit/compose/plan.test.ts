import fc from 'fast-check';
import t from 'tap';
import type { ClusterState, RouteState, ServiceState } from '../../../cli/compose/cluster-state.ts';
import { renderFile, specOf } from '../../../cli/compose/export.ts';
import { readSpec } from '../../../cli/compose/load.ts';
import { newestGroup, wantedPast } from '../../../cli/compose/past.ts';
import { type Plan, planChanges } from '../../../cli/compose/plan.ts';
import { planData, renderPlan, summaryLine } from '../../../cli/compose/plan-text.ts';
import { type ClusterSpec, routeKey } from '../../../cli/compose/spec.ts';
import { type ChangeStep, type Step, stepsOf, transactionsOf } from '../../../cli/compose/steps.ts';
import { Failure } from '../../../cli/failure.ts';
import { createStyle } from '../../../cli/style.ts';
import type { Cidr } from '../../../events/brand.ts';
import { anySpec, stateOf, twoSpecs } from './arbitrary.ts';

t.setTimeout(180_000);

const planFor = (spec: ClusterSpec, state: ClusterState, prune = true): Plan =>
  planChanges({
    peers: spec.peers,
    services: spec.services,
    state,
    contacts: new Map(),
    removable: () => prune,
  });

t.test('what is exported and read again differs from its cluster in nothing', async () => {
  fc.assert(
    fc.property(anySpec, (spec) => {
      const state = stateOf(spec);
      const { spec: exported, left } = specOf(state);
      const text = renderFile(exported, left);
      const plan = planFor(readSpec('cluster.yaml', text, {}), state);
      return plan.changes.length === 0 && plan.warnings.length === 0;
    }),
    { numRuns: 300 },
  );
});

/** The agents' rules for one step, on a cluster in memory. Throws where an agent would refuse. */
function carryOut(state: ClusterState, step: Step): ClusterState {
  const refuse = (why: string): never => {
    throw new Error(`${step.kind}: ${why}`);
  };
  const checked = (services: readonly ServiceState[]): ClusterState => {
    for (const one of services)
      for (const other of services) {
        if (one.id === other.id) continue;
        if (one.name === other.name) refuse(`the name ${one.name} is taken`);
        if (one.source_peer !== other.source_peer) continue;
        for (const field of ['interface_ipv4', 'interface_ipv6'] as const)
          if (one[field] !== null && one[field] === other[field])
            refuse(`the address ${one[field]} is taken`);
      }
    return { ...state, services };
  };
  const change = (id: string, make: (service: ServiceState) => ServiceState): ClusterState => {
    if (!state.services.some((service) => service.id === id)) refuse(`there is no ${id}`);
    return checked(state.services.map((service) => (service.id === id ? make(service) : service)));
  };
  const withRoutes = (service: ServiceState, routes: readonly RouteState[]): ServiceState => {
    if (new Set(routes.map(routeKey)).size < routes.length) refuse('two routes say the same');
    return { ...service, routes };
  };
  const idOf = (name: string): string =>
    state.services.find((service) => service.name === name)?.id ?? refuse(`there is no service ${name}`);
  switch (step.kind) {
    case 'update peer':
      return {
        ...state,
        members: state.members.map((one) => (one.id === step.id ? { ...one, ...step.body } : one)),
      };
    case 'close api':
      return {
        ...state,
        members: state.members.map((one) =>
          one.name === step.peer ? { ...one, api_access: 'internal' } : one,
        ),
      };
    case 'delete service':
      return { ...state, services: state.services.filter(({ id }) => id !== step.id) };
    case 'update service':
      return change(step.id, (service) => ({ ...service, ...step.changes }));
    case 'create service':
      return checked([
        ...state.services,
        {
          ...step.service,
          id: `new ${step.service.name}`,
          source_peer_id: '',
          target_peer_id: '',
          routes: step.routes.map((one, at) => ({ ...one, id: at + 1 })),
        },
      ]);
    case 'add routes': {
      const id = step.id ?? idOf(step.service);
      return change(id, (service) => {
        const next = Math.max(0, ...service.routes.map((one) => one.id)) + 1;
        return withRoutes(service, [
          ...service.routes,
          ...step.routes.map((one, at) => ({ ...one, id: next + at })),
        ]);
      });
    }
    case 'update route':
      return change(step.id, (service) =>
        withRoutes(
          service,
          service.routes.map((one) => (one.id === step.route ? { ...one, priority: step.priority } : one)),
        ),
      );
    case 'delete route':
      return change(step.id, (service) =>
        withRoutes(
          service,
          service.routes.filter((one) => one.id !== step.route),
        ),
      );
    default:
      return refuse('no step of a cluster that has its peers');
  }
}

const perform = (plan: Plan, state: ClusterState): ClusterState =>
  stepsOf(plan, state.members[0]?.name ?? '').reduce(carryOut, state);

t.test('the steps of any plan are allowed in their order and end at what was wanted', async () => {
  fc.assert(
    fc.property(twoSpecs, ([is, wanted]) => {
      const state = stateOf(is);
      const end = perform(planFor(wanted, state), state);
      return planFor(wanted, end).changes.length === 0 && end.services.length === wanted.services.length;
    }),
    { numRuns: 500 },
  );
});

t.test('a run cut off after any step is finished by the next', async () => {
  fc.assert(
    fc.property(twoSpecs, fc.nat(30), ([is, wanted], cut) => {
      const state = stateOf(is);
      const half = stepsOf(planFor(wanted, state), '').slice(0, cut).reduce(carryOut, state);
      const end = perform(planFor(wanted, half), half);
      return planFor(wanted, end).changes.length === 0;
    }),
    { numRuns: 300 },
  );
});

t.test('steps go into one transaction, unless they are too many for a request', async (t) => {
  const isChange = (step: Step): step is ChangeStep =>
    !['bootstrap', 'join', 'close api'].includes(step.kind);
  fc.assert(
    fc.property(twoSpecs, ([is, wanted]) => {
      const steps = stepsOf(planFor(wanted, stateOf(is)), '').filter(isChange);
      const transactions = transactionsOf(steps);
      return (
        transactions.length === Math.min(1, steps.length) &&
        transactions.flat().every((step, at) => step === steps[at])
      );
    }),
  );
  const route = { priority: 1, source_cidr: null, dest_cidr: '10.0.0.0/8' as Cidr };
  const routes = Array.from({ length: 2_000 }, () => route);
  const add = (id: string | undefined): ChangeStep => ({ kind: 'add routes', service: 'web', id, routes });
  t.same(
    transactionsOf([add('a'), add('a'), add('a'), add('a'), add(undefined)]).map((part) => part.length),
    [3, 1, 1],
  );
});

t.test('a route is added before the one it replaces goes', async () => {
  fc.assert(
    fc.property(twoSpecs, ([is, wanted]) => {
      const steps = stepsOf(planFor(wanted, stateOf(is)), '');
      const ids = new Set(steps.flatMap((step) => (step.kind === 'delete route' ? [step.id] : [])));
      return [...ids].every((id) => {
        const added = steps.findLastIndex((step) => step.kind === 'add routes' && step.id === id);
        const removed = steps.findIndex((step) => step.kind === 'delete route' && step.id === id);
        return added < removed;
      });
    }),
  );
});

t.test('without --prune a service that the file does not have is left alone, and said', async () => {
  fc.assert(
    fc.property(twoSpecs, ([is, wanted]) => {
      const plan = planFor(wanted, stateOf(is), false);
      const extra = is.services.some(({ name }) => !wanted.services.some((one) => one.name === name));
      return (
        plan.changes.every(({ action }) => action !== 'remove') &&
        plan.warnings.some((warning) => warning.includes('--prune')) === extra
      );
    }),
  );
});

t.test('a plan names each change once, counts them, and shows a control character to nobody', async () => {
  fc.assert(
    fc.property(twoSpecs, ([is, wanted]) => {
      const plan = planFor(wanted, stateOf(is));
      const text = renderPlan(plan, createStyle(false));
      const heads = text.split('\n').filter((line) => /^ {2}[+~-] (peer|service) /.test(line));
      const { add, change, remove } = planData(plan).summary;
      return (
        heads.length === plan.changes.length &&
        add + change + remove === plan.changes.length &&
        text.endsWith(`${summaryLine(plan)}\n`) &&
        // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
        !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(text)
      );
    }),
  );
});

t.test('a plan reads like this', async (t) => {
  const file = (services: string) => `version: v1
peers:
  - { name: london, address: 10.0.0.1:8080 }
  - { name: paris, address: 10.0.0.2:8080 }
services:
${services}`;
  const before = readSpec(
    'before.yaml',
    file(`  - name: web
    source_peer: london
    target_peer: paris
    routes:
      - { priority: 100, dest_cidr: 10.1.0.0/16 }
      - { priority: 50, dest_cidr: 10.2.0.0/16 }
      - { priority: 50, source_cidr: 10.9.0.0/24 }
  - name: old
    source_peer: paris
    target_peer: london
    routes: [{ priority: 1, dest_cidr: 10.3.0.0/16 }]
`),
    {},
  );
  const after = readSpec(
    'after.yaml',
    `${file(`  - name: web
    source_peer: london
    target_peer: paris
    transport_type: kcp
    qos: { bandwidth_limit_mbps: 50 }
    routes:
      - { priority: 200, dest_cidr: 10.1.0.0/16 }
      - { priority: 50, dest_cidr: 10.2.0.0/16 }
      - { priority: 5, dest_cidr: 10.4.0.0/16 }
  - name: new
    source_peer: london
    target_peer: paris
    fully_transparent: true
    interface: { enabled: true, ipv4: 10.1.0.5/24 }
`)}`,
    {},
  );
  const plan = planFor(
    { ...after, peers: [...after.peers, { name: 'rome', address: '10.0.0.3:8080', api_access: 'open' }] },
    stateOf(before),
  );
  t.equal(
    renderPlan(plan, createStyle(false)),
    `  + peer rome  (cannot be reached: it was not asked)
      + address:    10.0.0.3:8080
      + api_access: open

  ~ service web
      ~ transport_type: tcp -> kcp
      ~ qos.bandwidth_limit_mbps: 0 -> 50
      + route any -> 10.4.0.0/16, priority 5
      ~ route any -> 10.1.0.0/16, priority 100 -> 200
      - route 10.9.0.0/24 -> any, priority 50

  + service new
      + source_peer:       london
      + target_peer:       paris
      + transport_type:    tcp
      + fully_transparent: true
      + interface.enabled: true
      + interface.ipv4:    10.1.0.5/24

  - service old  (paris to london, 1 route)

Plan: 2 to add, 1 to change, 1 to remove.
`,
  );
});

t.test('names that are no key of the cluster are refused, not guessed', async (t) => {
  const spec = readSpec(
    'cluster.yaml',
    'version: v1\npeers:\n  - { name: a, address: "10.0.0.1:1" }\n  - { name: b, address: "10.0.0.2:1" }\n',
    {},
  );
  const state = stateOf(spec);
  const twins = { ...state, members: state.members.map((one) => ({ ...one, name: 'a' })) };
  t.throws(() => planFor(spec, twins), {
    message: /2 peers of the cluster have the name 'a' \(peer_0, peer_1\)/,
  });
  t.throws(() => specOf(twins), Failure);
  const renamed = { ...state, members: state.members.map((one) => ({ ...one, name: `${one.name}-old` })) };
  t.match(planFor(spec, renamed).changes, [
    { action: 'change', fields: [{ field: 'name', before: 'a-old', after: 'a' }] },
    { action: 'change', fields: [{ field: 'name', before: 'b-old', after: 'b' }] },
  ]);
});

t.test('the past is taken back for what a change touched, and for nothing else', async () => {
  fc.assert(
    fc.property(twoSpecs, ([then, now]) => {
      const past = stateOf(then);
      const present = stateOf(now);
      // As the log has it: a service that was deleted and made again is another one.
      const ids = new Map(past.services.map(({ name }, at) => [name, `svc_${at}`]));
      const current = {
        ...present,
        services: present.services.map((one) => ({ ...one, id: ids.get(one.name) ?? `svc_new_${one.name}` })),
      };
      const rows = {
        peers: past.members.map((one) => ({ ...one })),
        services: past.services.map((one) => ({
          id: one.id,
          name: one.name,
          source_peer_id: one.source_peer_id,
          target_peer_id: one.target_peer_id,
          transport_type: one.transport_type,
          requires_interface: one.interface_enabled,
          desired_ipv4_cidr: one.interface_ipv4,
          desired_ipv6_cidr: one.interface_ipv6,
          fully_transparent: one.fully_transparent,
          bandwidth_limit_mbps: one.bandwidth_limit_mbps,
          on_failure: one.on_failure,
        })),
        routes: past.services.flatMap((one) => one.routes.map((route) => ({ ...route, service_id: one.id }))),
      };
      const request = { ...wantedPast(rows, current, undefined), state: current, contacts: new Map() };
      const end = perform(planChanges(request), current);
      const nothing = wantedPast(rows, current, new Set<string>());
      return (
        planFor(then, end).changes.length === 0 &&
        planChanges({ ...nothing, state: current, contacts: new Map() }).changes.length === 0
      );
    }),
    { numRuns: 300 },
  );
});

t.test('the newest group is what one run or request changed', async (t) => {
  const row = (position: number, correlation_id: string, entity: string, data: unknown = {}) => ({
    position,
    correlation_id,
    entity,
    data,
  });
  t.equal(newestGroup([]), undefined);
  t.same(
    newestGroup([
      row(9, 'cor_b', 'rte_1', { service_id: 'svc_2' }),
      row(8, 'cor_b', 'svc_1'),
      row(5, 'cor_a', 'svc_3'),
    ]),
    { correlationId: 'cor_b', before: 7, touched: new Set(['svc_2', 'svc_1']), count: 2 },
  );
});
