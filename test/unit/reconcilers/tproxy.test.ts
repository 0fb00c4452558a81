import t from 'tap';
import type { Cidr, PeerId } from '../../../events/brand.ts';
import type { DesiredTproxy, DesiredTproxyService } from '../../../projections/desired/contract.ts';
import type { TproxyConfig } from '../../../src/engines/tproxy/contract.ts';
import { createTproxyReconciler } from '../../../src/reconcilers/tproxy.ts';
import { serviceId } from './harness.ts';

const peer = (n: number): PeerId => `peer_${String(n).padStart(26, '0')}` as PeerId;
const service = (n: number, settings: Partial<DesiredTproxyService> = {}): DesiredTproxyService => ({
  service_id: serviceId(n),
  name: `s${n}`,
  mark: 0x4100_0000 + n,
  peer_id: peer(n),
  transport_type: 'tcp',
  fully_transparent: false,
  bandwidth_limit_mbps: 0,
  ...settings,
});

function setup(desired: DesiredTproxy) {
  let config: TproxyConfig = { entries: [], exits: [], peers: [] };
  const hosts = new Map([
    [peer(1), '10.0.0.1'],
    [peer(2), '10.0.0.2'],
  ]);
  const state = { desired };
  const reconciler = createTproxyReconciler({
    engine: {
      configure: (next) => {
        config = next;
      },
      configured: () => config,
    },
    desired: () => state.desired,
    endpointOf: (id) => {
      const host = hosts.get(id);
      return host === undefined ? undefined : { host, port: 61_000 };
    },
  });
  const pass = async () => {
    const plan = reconciler.plan(state.desired, await reconciler.observe());
    await reconciler.apply(plan);
    return plan;
  };
  return { reconciler, state, hosts, pass, configured: () => config };
}

t.test('tells the engine its entries, its exits and where the peers are', async (t) => {
  const { pass, configured } = setup({
    entries: [service(1, { bandwidth_limit_mbps: 2.5 })],
    exits: [
      {
        ...service(2, { transport_type: 'kcp' }),
        destinations: [{ source_cidr: null, dest_cidr: '10.0.0.0/8' as Cidr }],
      },
    ],
  });
  t.match((await pass()).differences, [
    { item: `entry ${serviceId(1)}`, desired: /s1 with .* over tcp, mark 0x41000001, limit 2500000 bit\/s/ },
    { item: `exit ${serviceId(2)}`, desired: /1 destinations/ },
    { item: `peer ${peer(1)}`, desired: '10.0.0.1:61000' },
    { item: `peer ${peer(2)}`, desired: '10.0.0.2:61000' },
  ]);
  t.match(configured(), {
    entries: [{ serviceId: serviceId(1), limitBitsPerSecond: 2_500_000 }],
    exits: [{ transport: 'kcp', allowed: [{ source: null, destination: '10.0.0.0/8' }] }],
  });
  t.strictSame((await pass()).differences, []);
});

t.test('a peer that moves is a change of what is desired', async (t) => {
  const { pass, hosts, reconciler, configured } = setup({ entries: [service(1)], exits: [] });
  await pass();
  const digest = reconciler.digest();
  hosts.set(peer(1), '10.9.9.9');
  t.not(reconciler.digest(), digest);
  t.match((await pass()).differences, [
    { item: `peer ${peer(1)}`, desired: '10.9.9.9:61000', observed: '10.0.0.1:61000' },
  ]);
  t.equal(configured().peers[0]?.host, '10.9.9.9');
});

t.test('a service whose peer has no known address is a problem of that service', async (t) => {
  const { pass } = setup({ entries: [service(1), service(3)], exits: [] });
  t.match((await pass()).problems, [{ service_id: serviceId(3), reason: /not known/ }]);
});

t.test('services that go are told too, and a stop takes everything away', async (t) => {
  const { pass, state, configured, reconciler } = setup({ entries: [service(1), service(2)], exits: [] });
  await pass();
  state.desired = { entries: [service(2)], exits: [] };
  t.match((await pass()).differences, [
    { item: `entry ${serviceId(1)}`, desired: null },
    { item: `peer ${peer(1)}`, desired: null },
  ]);
  await reconciler.cleanup('shutdown');
  t.strictSame(configured(), { entries: [], exits: [], peers: [] });
});
