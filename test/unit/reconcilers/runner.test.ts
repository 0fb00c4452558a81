import t from 'tap';
import { makeRunner, makeShelf, serviceId } from './harness.ts';

t.test('nothing is touched before the log was read and the agent bootstrapped', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry], { ready: false });
  await run.reconcilers.start();
  await run.clock.advance(1_000);
  await run.reconcilers.sync();
  t.equal(shelf.observed, 0);
  t.match(run.reconcilers.serviceStatus(serviceId(1)), {
    firewall: { state: 'pending', reason: 'waiting for the event log to be read' },
  });
  run.state.caughtUp = true;
  run.changed('cluster');
  await run.clock.advance(10);
  t.equal(shelf.observed, 0);
  t.match(run.reconcilers.serviceStatus(serviceId(1)).firewall.reason, 'waiting for bootstrap');
  run.state.bootstrapped = true;
  run.changed('cluster');
  await run.clock.advance(10);
  t.equal(shelf.there, 'a');
  t.match(run.reconcilers.serviceStatus(serviceId(1)), { firewall: { state: 'applied', reason: null } });
});

t.test('transitions become events, passes do not', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  t.match(run.recorded, [
    {
      type: 'reconcile.applied',
      entity: 'reconciler:firewall',
      data: { reconciler: 'firewall', position: 7, changes: 1 },
    },
  ]);
  run.types();
  await run.clock.advance(600_000);
  t.equal(shelf.observed, 11, 'a resync each minute');
  t.strictSame(run.types(), []);
  shelf.desired = 'b';
  run.changed('firewall');
  run.changed('firewall');
  run.changed('routes');
  await run.clock.advance(10);
  t.equal(shelf.there, 'b');
  t.equal(shelf.observed, 12, 'wakes of one transaction are one pass');
  t.strictSame(run.types(), ['reconcile.applied']);
  t.match(
    run.lines.map((line) => `${line.level} ${line.reconciler} ${line.text}`),
    ['info firewall applied', 'info firewall applied'],
  );
});

t.test('a host that needs nothing says once that it is in place', async (t) => {
  const { shelf, entry } = makeShelf();
  shelf.there = 'a';
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  t.match(run.recorded, [{ type: 'reconcile.applied', data: { changes: 0 } }]);
});

t.test('a foreign change is drift: found with its culprit, repaired within milliseconds', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  run.types();
  shelf.there = 'z';
  run.notice({ subsystem: 'route' });
  run.notice({ own: true });
  await run.clock.advance(1_000);
  t.equal(shelf.there, 'z', 'neither what it does not watch nor its own doing wakes it');
  run.notice({ pid: 4711, program: 'nft' });
  run.notice({ subsystem: 'rule' });
  await run.clock.advance(5);
  t.equal(shelf.there, 'a');
  t.match(run.recorded, [
    {
      type: 'drift.found',
      data: {
        differences: [{ item: 'shelf', desired: 'a', observed: 'z' }],
        total: 1,
        pid: 4711,
        program: 'nft',
      },
    },
    { type: 'drift.repaired', data: { total: 1 } },
    { type: 'reconcile.applied' },
  ]);
  run.types();
  shelf.there = 'y';
  run.notice({ subsystem: 'link', overrun: true });
  await run.clock.advance(5);
  t.match(run.recorded[0], { type: 'drift.found', data: { pid: null, program: null } });
});

t.test('a desired state that changes while observing is no drift', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  run.types();
  shelf.meanwhile = () => {
    shelf.desired = 'b';
  };
  await run.clock.advance(60_000);
  t.equal(shelf.there, 'b');
  t.strictSame(run.types(), ['reconcile.applied']);
});

t.test('a failure backs off from 100 ms to a minute, and is told once', async (t) => {
  const { shelf, entry } = makeShelf();
  shelf.failWith = new Error('EPERM');
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(99);
  t.equal(shelf.observed, 1);
  await run.clock.advance(2);
  t.equal(shelf.observed, 2);
  await run.clock.advance(200);
  t.equal(shelf.observed, 3);
  await run.clock.advance(600_000);
  t.ok(shelf.observed > 15 && shelf.observed < 25, `${shelf.observed} attempts in ten minutes`);
  t.strictSame(run.types(), ['reconcile.failed']);
  t.match(run.reconcilers.status(), [
    { state: 'failed', last_error: 'EPERM', applied_digest: null, next_run_at: /^20/ },
  ]);
  t.match(run.reconcilers.serviceStatus(serviceId(1)).firewall, { state: 'failed', reason: 'EPERM' });
  shelf.failWith = new Error('ENOMEM');
  await run.clock.advance(120_000);
  t.strictSame(run.types(), ['reconcile.failed'], 'another reason is another event');
  shelf.failWith = undefined;
  await run.reconcilers.sync();
  t.strictSame(run.types(), ['reconcile.applied']);
  t.match(run.reconcilers.status(), [{ state: 'applied', last_error: null, consecutive_failures: 0 }]);
  shelf.failWith = new Error('ENOMEM');
  shelf.desired = 'c';
  run.changed('firewall');
  await run.clock.advance(5);
  t.strictSame(run.types(), ['reconcile.failed'], 'after a success the same reason is news again');
});

t.test('a stale generation is looked at again at once, not failed', async (t) => {
  const { shelf, entry } = makeShelf();
  shelf.staleTimes = 3;
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(5);
  t.equal(shelf.there, 'a');
  t.equal(shelf.observed, 4);
  t.strictSame(run.types(), ['reconcile.applied']);
});

t.test('a problem of one service fails that service alone', async (t) => {
  const { shelf, entry } = makeShelf();
  shelf.problems = [{ service_id: serviceId(1), reason: 'name taken' }];
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(5);
  t.equal(shelf.there, 'a');
  t.match(run.reconcilers.serviceStatus(serviceId(1)).firewall, { state: 'failed', reason: 'name taken' });
  t.match(run.reconcilers.serviceStatus(serviceId(2)).firewall, { state: 'applied' });
  t.strictSame(run.types(), ['reconcile.applied', 'reconcile.failed']);
  shelf.problems = [];
  await run.clock.advance(1_000);
  t.strictSame(run.types(), ['reconcile.applied']);
  t.match(run.reconcilers.serviceStatus(serviceId(1)).firewall, { state: 'applied' });
});

t.test('somebody who fights back is answered more slowly', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  for (let round = 0; round < 300; round += 1) {
    shelf.there = 'z';
    run.notice({});
    await run.clock.advance(100);
  }
  const repairs = run.types().filter((type) => type === 'drift.repaired').length;
  t.ok(repairs >= 6 && repairs <= 15, `${repairs} repairs in 30 s of fight`);
  const [report] = await run.reconcilers.drift();
  const [status] = run.reconcilers.status();
  t.match(report, { differences: [{ item: 'shelf' }], repair_at: status?.next_run_at });
  t.ok(Date.parse(report?.repair_at ?? '') > run.clock.now(), 'repair waits, and is said to');
  await run.clock.advance(300_000);
  t.match(await run.reconcilers.drift(), [{ differences: { length: 0 }, repair_at: null }], 'in peace');
});

t.test('drift is reported without being touched; a full log stops no repair', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  shelf.there = 'z';
  t.match(await run.reconcilers.drift(), [
    {
      reconciler: 'firewall',
      differences: [{ item: 'shelf', desired: 'a', observed: 'z' }],
      repair_at: null,
    },
  ]);
  t.equal(shelf.there, 'z');
  run.state.logFails = true;
  await run.reconcilers.sync();
  t.equal(shelf.there, 'a');
  t.ok(run.lines.some((line) => line.text === 'could not record events'));
});

t.test('stop ends every timer; cleanup still works', async (t) => {
  const { shelf, entry } = makeShelf();
  const run = makeRunner([entry]);
  await run.reconcilers.start();
  await run.clock.advance(10);
  await run.reconcilers.stop();
  const { observed } = shelf;
  run.changed('firewall');
  run.notice({});
  await run.clock.advance(600_000);
  t.equal(shelf.observed, observed);
  await run.reconcilers.cleanup('shutdown');
  t.strictSame(shelf.cleaned, ['shutdown']);
});
