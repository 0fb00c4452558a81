import t from 'tap';
import type { PeerId, Position, ServiceId } from '../../../events/brand.ts';
import type { LogReader } from '../../../events/log-contract.ts';
import { createChanges } from '../../../projections/change.ts';
import { deriveOne, desiredDigest } from '../../../projections/desired/derive.ts';
import { compareMoments } from '../../../projections/difference.ts';
import {
  driftAt,
  driftSince,
  itemsSince,
  lastEventBehind,
  undoings,
} from '../../../projections/drift-history.ts';
import { foldOf, History, id, peer } from './history.ts';

/** The part of a log these read, over a list. */
function logOf(history: History): LogReader {
  const { events } = history;
  const pages: LogReader['pages'] = function* (filter, options = {}) {
    const fits = events.filter(
      (event) =>
        event.position > (filter.after ?? 0) &&
        event.position <= (filter.until ?? Number.POSITIVE_INFINITY) &&
        (filter.types === undefined || filter.types.includes(event.type)) &&
        (filter.entity === undefined || event.entity === filter.entity),
    );
    yield options.reverse === true ? fits.reverse() : fits;
  };
  return {
    pages,
    positionAt: (ms: number) =>
      (events.findLast((event) => Number.parseInt(event.hlc, 16) <= ms)?.position ?? 0) as Position,
    recordedAt: (position: Position) => Number.parseInt(events[position - 1]?.hlc ?? '0', 16),
  } as unknown as LogReader;
}

t.test('a difference names the thing, the field and the event, in both directions', async (t) => {
  const history = new History();
  const one = history.member(1);
  const two = history.member(2);
  const service = history.service(one, 1, one, two);
  const route = history.route(one, 1, service, null, '10.0.0.0/8');
  const gone = history.route(one, 2, service, null, '10.1.0.0/16');
  const from = history.events.length as Position;
  const renamed = history.add(one, 'service.updated', service, { name: 'other' });
  const limited = history.add(two, 'service.updated', service, { bandwidth_limit_mbps: 5 });
  const deleted = history.add(one, 'route.deleted', gone, { service_id: service as never });
  // Written earlier by the clock, arrived later: it lost, so nothing is different because of it.
  history.add(two, 'service.updated', service, { name: 'late' }, 1_700_000_000_000);
  const log = logOf(history);
  const difference = await compareMoments(log, one, { from: { position: from }, to: undefined });
  t.match(
    difference.changes.filter(({ projection }) => projection === 'services' || projection === 'routes'),
    [
      {
        kind: 'changed',
        label: 'service other',
        fields: [
          { field: 'name', before: 'service-1', after: 'other', event: { id: renamed.id } },
          { field: 'bandwidth_limit_mbps', before: 0, after: 5, event: { id: limited.id, origin: two } },
        ],
      },
      {
        kind: 'removed',
        item: gone,
        event: { id: deleted.id, position: deleted.position, type: 'route.deleted' },
      },
    ],
  );
  t.match(
    difference.changes.filter(({ projection }) => projection === 'firewall'),
    [{ kind: 'removed', item: gone, event: { id: deleted.id } }],
  );
  t.notOk(
    difference.changes.some(({ item }) => item === route),
    'what is the same is not mentioned',
  );
  const back = await compareMoments(log, one, {
    from: undefined,
    to: { position: from },
    projection: 'routes',
  });
  t.match(back.changes, [{ kind: 'added', item: gone, event: { id: deleted.id } }]);
  t.same((await compareMoments(log, one, { from: undefined, to: undefined })).changes, []);
  history.service(two, 2, two, one);
  const more = await compareMoments(logOf(history), one, { from: { position: from }, to: undefined });
  const sections = more.changes.map(({ projection }) => projection);
  t.same(
    sections.filter((name, at) => sections.indexOf(name) !== at && sections[at - 1] !== name),
    [],
    'changed, removed or added: all of one projection stands together',
  );
});

t.test('what an event changed is what the views show before and after it', async (t) => {
  const history = new History();
  const one = history.member(1);
  const service = history.service(one, 1, one, peer(2));
  const update = history.add(one, 'service.updated', service, { name: 'b', bandwidth_limit_mbps: 5 });
  const late = history.add(peer(2), 'service.updated', service, { name: 'a' }, 1_600_000_000_000);
  const remove = history.add(one, 'service.deleted', service, {});
  const changes = createChanges();
  const told = new Map(history.events.map((event) => [event.id, changes.take(event as never)]));
  t.same(told.get(update.id), {
    before: { name: 'service-1', bandwidth_limit_mbps: 0 },
    after: { name: 'b', bandwidth_limit_mbps: 5 },
  });
  t.same(told.get(late.id), { before: {}, after: {} }, 'a write that lost changes nothing');
  t.match(told.get(remove.id), { before: { name: 'b' }, after: null });
});

t.test(
  'the last event behind a difference is that of its route, else of its service, by the names people use',
  (t) => {
    const history = new History();
    const one = history.member(1);
    const two = history.member(2);
    const service = history.service(one, 1, one, two) as ServiceId;
    const route = history.route(one, 7, service, null, '10.0.0.0/8');
    const moved = history.add(two, 'route.updated', route, { service_id: service, priority: 9 });
    const renamed = history.add(one, 'service.updated', service, { name: 'web' });
    const behind = (item: string, service_id?: ServiceId) =>
      lastEventBehind(logOf(history), foldOf(history.events), {
        item,
        ...(service_id === undefined ? {} : { service_id }),
      });
    t.match(behind('route 7 of web: any -> 10.0.0.0/8', service), {
      id: moved.id,
      position: moved.position,
      actor: moved.actor,
      text: /^route 7 of web updated: priority=9$/,
    });
    t.equal(behind('route 8 of web: any -> 10.1.0.0/16', service)?.id, renamed.id, 'a route the log has not');
    t.equal(behind('chain apply', service)?.id, renamed.id);
    t.equal(behind('table inet arctic'), null, 'no service stands behind it');
    t.end();
  },
);

t.test('the local stream says whether the kernel matched, since when not, and who did it', async (t) => {
  const history = new History();
  const one = history.member(1);
  const two = history.member(2);
  const local = (
    type: 'reconcile.applied' | 'drift.repaired' | 'drift.found' | 'reconcile.failed',
    data: object,
  ) => history.add(one, type, 'reconciler:firewall', { reconciler: 'firewall', ...data } as never);
  const digest = () => desiredDigest('firewall', deriveOne('firewall', foldOf(history.events), one));
  const applied = () =>
    local('reconcile.applied', { digest: digest(), position: history.events.length, changes: 1 });
  const at = async (position: number) => {
    const then = await driftAt(logOf(history), one as PeerId, { position: position as Position });
    // Of the others nothing is recorded, and one of whom it is not known whether it matched is enough.
    t.equal(then.drift, true);
    return then.reconcilers.find(({ reconciler }) => reconciler === 'firewall');
  };
  t.match(await at(2), { state: 'unknown' });
  const first = applied();
  const service = history.service(one, 1, one, two);
  history.route(one, 1, service, null, '10.0.0.0/8');
  const asked = history.events.length;
  const second = applied();
  const found = local('drift.found', {
    differences: [{ item: 'table inet arctic', desired: 'present', observed: null }],
    total: 1,
    pid: 42,
    program: 'nft',
  });
  t.match(driftSince(logOf(history), 'firewall', null), {
    exact: true,
    event_id: found.id,
    by: { pid: 42, program: 'nft' },
  });
  const repaired = local('drift.repaired', { digest: digest(), total: 1 });
  const third = applied();
  t.match(await at(first.position), { state: 'matched' });
  t.match(await at(asked), { state: 'pending', until: { event_id: second.id } });
  t.match(await at(second.position), {
    state: 'matched',
    until: { event_id: found.id },
    by: { program: 'nft' },
  });
  t.match(await at(found.position), {
    state: 'drifted',
    by: { pid: 42 },
    differences: [{ item: 'table inet arctic' }],
    until: { event_id: repaired.id },
  });
  t.match(await at(third.position), { state: 'matched', until: null });
  t.match(driftSince(logOf(history), 'firewall', '2026-01-01T00:00:00.000Z'), {
    exact: false,
    event_id: null,
  });
  const failed = local('reconcile.failed', { reason: 'no permission', position: 1 });
  t.match(await at(failed.position), { state: 'failed', text: /no permission/ });
  t.match(driftSince(logOf(history), 'firewall', null), { exact: true, reason: 'no permission' });
  const stopped = history.add(one, 'agent.stopped', 'agent', { reason: 'SIGTERM' });
  t.match(await at(stopped.position), { state: 'stopped' });
  t.equal(id('svc', 1), service);
});

t.test('each item has the event that found it first, in an unbroken row', async (t) => {
  const history = new History();
  const one = history.member(1);
  const found = (items: readonly string[], program: string | null, total = items.length) =>
    history.add(one, 'drift.found', 'reconciler:firewall', {
      reconciler: 'firewall',
      differences: items.map((item) => ({ item, desired: 'present', observed: null })),
      total,
      pid: null,
      program,
    });
  const since = (...items: string[]) =>
    Object.fromEntries(
      [...itemsSince(logOf(history), 'firewall', items)].map(([item, { event_id }]) => [item, event_id]),
    );
  t.same(since('a'), {}, 'nothing is written down');
  found(['a'], null);
  history.add(one, 'drift.repaired', 'reconciler:firewall', {
    reconciler: 'firewall',
    digest: 'x',
    total: 1,
  });
  t.same(since('a'), {}, 'what was repaired is another story');
  const first = found(['a', 'b'], null);
  const second = found(['b', 'c'], 'nft');
  t.same(since('a', 'b', 'c', 'd'), { b: first.id, c: second.id }, 'a was in place in between');
  t.match(itemsSince(logOf(history), 'firewall', ['c']).get('c'), { by: { program: 'nft' } });
  const many = found(['e'], null, 60);
  const again = found(['a', 'b', 'c', 'e'], null);
  t.same(
    since('a', 'b', 'c', 'e'),
    { a: again.id, b: first.id, c: second.id, e: many.id },
    'of more than are listed nothing is concluded',
  );
});

t.test('how often an item was undone, and by whom last', async (t) => {
  const history = new History();
  const one = history.member(1);
  const undo = (items: readonly string[], pid: number | null, seconds: number) => {
    const total = items.length;
    const at = 1_800_000_000_000 + seconds * 1_000;
    const differences = items.map((item) => ({ item, desired: 'present', observed: null }));
    const program = pid === null ? null : 'nft';
    const found = { reconciler: 'firewall', differences, total, pid, program } as const;
    history.add(one, 'drift.found', 'reconciler:firewall', found, at);
    const repaired = { reconciler: 'firewall', digest: 'x', total } as const;
    history.add(one, 'drift.repaired', 'reconciler:firewall', repaired, at);
  };
  const of = (...items: string[]) => undoings(logOf(history), 'firewall', items);
  t.equal(of('a').size, 0);
  undo(['a'], 1, 0);
  undo(['a', 'b'], 2, 121);
  undo(['a', 'c'], 3, 240);
  undo(['a'], null, 241);
  t.match(
    of('a').get('a'),
    { times: 3, by: { pid: 3, program: 'nft' } },
    'after a long peace it is counted anew',
  );
  t.match(of('b', 'd').get('b'), { times: 1, by: { pid: 2 } });
  t.notOk(of('b', 'd').has('d'));
});
