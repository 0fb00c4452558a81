/** The projections on the SQLite log itself: what they ask of it is what it gives. */
import { join } from 'node:path';
import t from 'tap';
import type { PeerId, Position, ServiceId } from '../../../events/brand.ts';
import { systemClock } from '../../../events/clock.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import { createProjections } from '../../../projections/runner.ts';
import { verifyFolds } from '../../../projections/verify-log.ts';
import { openHost, operator, temporaryDirectory } from '../events/given-log.ts';
import { id, peer, serviceSettings } from './history.ts';

const service = id('svc', 1);
const route = (n: number): AnyNewEvent => ({
  type: 'route.added',
  entity: id('rte', n),
  data: {
    service_id: service,
    number: n,
    priority: 100,
    source_cidr: null,
    dest_cidr: `10.0.${n % 250}.0/24`,
  },
});

t.test('follows, snapshots, starts again from the snapshot and replays', async (t) => {
  const path = join(temporaryDirectory(t), 'arctic.db');
  const problems: string[] = [];
  const open = () => {
    const log = openHost({ path, origin: peer(1) as PeerId });
    const projections = createProjections(
      { localPeer: log.origin },
      { log, clock: systemClock, onSnapshotProblem: (reason) => problems.push(reason) },
    );
    projections.start();
    return { log, projections };
  };
  const first = open();
  first.log.append(
    [{ type: 'service.created', entity: service, data: serviceSettings(1, peer(1), peer(2)) }],
    operator,
  );
  for (let n = 1; n <= 1_200; n += 100)
    first.log.append(
      Array.from({ length: 100 }, (_, k) => route(n + k)),
      operator,
    );
  t.equal(first.projections.views.routes.size, 1_200);
  t.equal(
    first.projections.views.services.get(service as ServiceId)?.version,
    first.log.entityVersion(service),
  );
  const digest = first.projections.digest();
  t.match(await first.projections.verify(), { matches: true, events: 1_201 });
  first.projections.stop();
  first.log.close();

  const second = open();
  t.equal(second.projections.digest(), digest);
  second.log.append([{ type: 'service.deleted', entity: service, data: {} }], operator);
  t.equal(second.projections.views.routes.size, 0);
  const then = await second.projections.replay({
    until: { position: 601 as Position },
    projection: 'routes',
  });
  t.equal(then.state.routes?.length, 600);
  const middle = second.log.read({ after: 300 as Position, limit: 1 })[0];
  const byClock = await second.projections.replay({ until: { hlc: middle?.hlc ?? ('' as never) } });
  t.equal(byClock.position, 301);
  t.match(await second.projections.verify(), { matches: true, events: 1_202 });
  t.strictSame(problems, []);
  second.projections.stop();
  second.log.close();
});

t.test('a rebuild answers from what was until all is folded, with what came meanwhile', async (t) => {
  const log = openHost({ path: join(temporaryDirectory(t), 'arctic.db'), origin: peer(1) as PeerId });
  const projections = createProjections({ localPeer: log.origin }, { log, clock: systemClock });
  projections.start();
  log.append(
    [{ type: 'service.created', entity: service, data: serviceSettings(1, peer(1), peer(2)) }],
    operator,
  );
  let routes = 700;
  log.append(
    Array.from({ length: routes }, (_, k) => route(k + 1)),
    operator,
  );
  let over = false;
  const missing: number[] = [];
  const change = (): void => {
    if (over) return;
    routes += 1;
    log.append([route(routes)], operator);
    missing.push(routes - projections.views.routes.size);
    setImmediate(change);
  };
  // Before the first turn of the rebuild, so that the last change comes between its last page and its end.
  setImmediate(change);
  const rebuilt = await projections.rebuild();
  over = true;
  t.match(rebuilt, { matches: true, position: log.head, events: routes + 1 });
  t.ok(missing.length >= 3, 'it was asked in between');
  t.same([...new Set(missing)], [0]);
  t.equal(projections.views.routes.size, routes);
  t.equal(log.snapshots.latest('views')?.position, log.head, 'and the next start has it');
  projections.stop();
  log.close();
});

t.test(
  'without an agent, what one would start from is compared: the snapshot, and what came after it',
  async (t) => {
    const log = openHost({ path: join(temporaryDirectory(t), 'arctic.db'), origin: peer(1) as PeerId });
    const projections = createProjections({ localPeer: log.origin }, { log, clock: systemClock });
    projections.start();
    log.append(
      [{ type: 'service.created', entity: service, data: serviceSettings(1, peer(1), peer(2)) }],
      operator,
    );
    projections.stop();
    t.match(await verifyFolds(log), { matches: true, snapshot_position: 1, problems: { length: 0 } });
    log.append([route(1)], operator);
    t.match(await verifyFolds(log), { matches: true, position: 2, snapshot_position: 1 });
    const stored = log.snapshots.latest('views');
    if (stored === undefined) throw new Error('no snapshot');
    log.snapshots.put('views', { ...stored, digest: 'f'.repeat(64) });
    t.match(await verifyFolds(log), { matches: false, problems: [/position 1 does not have the digest/] });
    log.close();
  },
);
