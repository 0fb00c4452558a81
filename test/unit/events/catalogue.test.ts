import t from 'tap';
import { CATALOGUE, type EventType } from '../../../events/catalogue.ts';
import { describeEvent } from '../../../events/describe.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { dataFaults, envelopeFaults, MAX_DATA_BYTES, streamOf } from '../../../events/schema-check.ts';
import { createUpcast, upcast } from '../../../events/upcast.ts';
import { routeAdded } from './given-log.ts';

const asEvent = (type: string, entity: string, data: unknown, version = 1): AnyEvent =>
  ({ type, entity, data, version }) as unknown as AnyEvent;

t.test('data is held to the schema of its type', async (t) => {
  const { data } = routeAdded(1);
  t.same(dataFaults('route.added', 1, data), []);
  t.match(dataFaults('route.added', 1, { ...data, priority: 65_536 }), [{ pointer: '/data/priority' }]);
  t.ok(dataFaults('route.added', 1, { ...data, extra: 1 }).length > 0);
  t.ok(dataFaults('route.added', 1, []).length > 0);
  t.ok(dataFaults('route.added', 1, null).length > 0);
  t.match(dataFaults('route.added', 0, data), [{ pointer: '/version' }], 'a version that never was');
  t.same(dataFaults('route.added', 2, { anything: 1 }), [], 'a newer version is a newer peer');
  t.same(dataFaults('tariff.changed', 1, { anything: 1 }), []);
  t.match(dataFaults('tariff.changed', 1, { blob: 'x'.repeat(MAX_DATA_BYTES) }), [{ pointer: '/data' }]);
  t.equal(streamOf('route.added'), 'config');
  t.equal(streamOf('agent.started'), 'local');
  t.equal(streamOf('tariff.changed'), undefined);
  t.ok(envelopeFaults({}).length > 0);
});

t.test('date-time is enforced', async (t) => {
  const license = {
    license_id: 'lic_1',
    customer_id: 'cust_1',
    issued_at: '2026-01-01T00:00:00Z',
    expires_at: '2027-01-01T00:00:00Z',
    max_nodes: 3,
    max_services: 10,
    features: [],
    signature: `${'A'.repeat(86)}==`,
  };
  t.same(dataFaults('license.installed', 1, { license }), []);
  t.match(dataFaults('license.installed', 1, { license: { ...license, expires_at: 'tomorrow' } }), [
    { pointer: '/data/license/expires_at' },
  ]);
});

t.test('every schema closes its objects, so that a misspelt field is not lost in silence', async (t) => {
  for (const type of Object.keys(CATALOGUE) as EventType[]) {
    t.ok(dataFaults(type, 1, { no_such_field: 1 }).length > 0, type);
  }
});

t.test('upcasters lift step by step, and a missing step is not guessed', async (t) => {
  const lift = createUpcast(
    {
      'link.added': {
        1: ({ mbit, ...rest }) => ({ ...rest, bandwidth: mbit }),
        2: (data) => ({ ...data, unit: 'mbps' }),
      },
      'link.removed': { 2: (data) => data },
    },
    (type) => (type === 'unknown' ? undefined : 3),
  );
  t.same(lift('link.added', 1, { mbit: 5, name: 'a' }), { name: 'a', bandwidth: 5, unit: 'mbps' });
  t.same(lift('link.added', 2, { bandwidth: 5 }), { bandwidth: 5, unit: 'mbps' });
  t.same(lift('link.added', 4, { x: 1 }), { x: 1 });
  t.same(lift('unknown', 1, { x: 1 }), { x: 1 });
  t.equal(lift('link.removed', 1, {}), undefined);
  t.same(upcast('route.added', 1, { x: 1 }), { x: 1 });
});

t.test('an event is one line for a person', async (t) => {
  const names = (id: string) => (id.startsWith('svc_') ? 'sydney-london' : undefined);
  const { data, entity } = routeAdded(3);
  const route = { ...data, source_cidr: '10.0.0.0/8', dest_cidr: '192.168.100.0/24' };
  t.equal(
    describeEvent(asEvent('route.added', entity, route), names),
    'route 3 added to sydney-london: 10.0.0.0/8 -> 192.168.100.0/24, priority 100',
  );
  t.equal(
    describeEvent(asEvent('service.updated', 'svc_1', { bandwidth_limit_mbps: 50 }), names),
    'service sydney-london updated: bandwidth_limit_mbps=50',
  );
  const moved = { target_peer_id: 'peer_1', desired_ipv4_cidr: null };
  t.equal(
    describeEvent(asEvent('service.updated', 'svc_1', moved), (id) =>
      id === 'peer_1' ? 'london' : undefined,
    ),
    'service svc_1 updated: target_peer_id=london, desired_ipv4_cidr=none',
  );
  const wider = { service_id: 'svc_1', source_cidr: null };
  t.equal(
    describeEvent(asEvent('route.updated', 'rte_1', wider), (id) => (id === 'rte_1' ? '3' : names(id))),
    'route 3 of sydney-london updated: source_cidr=anywhere',
  );
  const drift = { reconciler: 'firewall', differences: [], total: 1, pid: 42, program: 'nft' };
  t.equal(
    describeEvent(asEvent('drift.found', 'x', drift)),
    'firewall drifted by nft (pid 42): 1 difference',
  );
  t.equal(
    describeEvent(asEvent('tariff.changed', 'tar_1', { a: 1 })),
    'tariff.changed of tar_1 (of a newer Arctic): a=1',
  );
  t.equal(
    describeEvent(asEvent('license.installed', 'lic_1', {}, 9)),
    'license.installed of lic_1 (version 9, of a newer Arctic)',
  );
  t.notMatch(
    describeEvent(asEvent('agent.stopped', 'agent', { reason: 'a\u001b[2J\u202eb\n' })),
    /\p{Cc}|\u202e/u,
  );
});
