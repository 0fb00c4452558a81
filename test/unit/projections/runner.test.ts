import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Hlc, Position, ServiceId } from '../../../events/brand.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { Fold } from '../../../projections/fold.ts';
import { createProjections, type Projections } from '../../../projections/runner.ts';
import { storeSnapshot } from '../../../projections/snapshot.ts';
import { History, id, peer } from './history.ts';
import { MemoryLog } from './memory-log.ts';

/** Runs what is due at once when told. */
const manualClock = () => {
  const due: (() => void)[] = [];
  return {
    after: (_ms: number, run: () => void) => {
      due.push(run);
      return () => void due.splice(due.indexOf(run), 1);
    },
    runAll: () => {
      for (const run of due.splice(0)) run();
    },
  };
};

const setup = (events: readonly AnyEvent[] = [], snapshotEvery = 10) => {
  const log = new MemoryLog();
  log.append(events);
  const clock = manualClock();
  const problems: string[] = [];
  const make = (local = peer(1)): Projections =>
    createProjections(
      { localPeer: local, snapshotEvery },
      { log, clock, onSnapshotProblem: (reason) => problems.push(reason) },
    );
  return { log, clock, problems, make };
};

const base = (): { h: History; service: string } => {
  const h = new History();
  h.member(1);
  h.member(2);
  h.member(3);
  const service = h.service(peer(1), 1, peer(1), peer(2));
  h.route(peer(1), 1, service, '10.1.0.0/16', '10.2.0.0/16');
  return { h, service };
};

t.test('an append is visible to the next read, and says what it changed', async (t) => {
  const { h, service } = base();
  const { log, make } = setup();
  const projections = make();
  t.equal(projections.caughtUp, false);
  projections.start();
  t.equal(projections.caughtUp, true);
  log.append(h.events);
  t.equal(projections.views.services.get(service as ServiceId)?.name, 'service-1');
  t.equal(projections.desired('firewall').classes.length, 1);

  const changed: string[] = [];
  projections.bus.on('changed', (name) => changed.push(name));
  const elsewhere = h.service(peer(2), 2, peer(2), peer(3));
  log.append(h.events.slice(-1));
  t.strictSame(changed.splice(0), ['services', 'routes'], 'a service of others changes nothing here');
  h.route(peer(2), 2, elsewhere, null, '10.3.0.0/16');
  log.append(h.events.slice(-1));
  t.strictSame(changed.splice(0), ['routes']);
  h.route(peer(1), 3, service, null, '10.3.0.0/16');
  log.append(h.events.slice(-1));
  t.strictSame(changed.splice(0), ['routes', 'firewall']);
  t.equal(projections.desired('firewall').classes.length, 2);
  h.add(peer(1), 'peer.removed', peer(2), { peer_id: peer(2), last_seq: 100 });
  log.append(h.events.slice(-1));
  t.strictSame(changed.splice(0), ['peers', 'interfaces', 'firewall', 'tproxy', 'iptun']);
  t.strictSame(projections.desired('firewall').services, [], 'no member at the other end, nothing desired');
  projections.stop();
  t.equal(projections.caughtUp, false);
});

t.test('the entry and the exit of one service desire their own side of it', async (t) => {
  const { h, service } = base();
  const { make } = setup(h.events);
  const [entry, exit, third] = [make(peer(1)), make(peer(2)), make(peer(3))];
  for (const one of [entry, exit, third]) one.start();
  t.match(entry.desired('tproxy'), { entries: [{ service_id: service, peer_id: peer(2) }], exits: [] });
  t.match(exit.desired('tproxy'), {
    entries: [],
    exits: [{ peer_id: peer(1), destinations: [{ source_cidr: '10.1.0.0/16', dest_cidr: '10.2.0.0/16' }] }],
  });
  t.strictSame(third.desired('tproxy'), { entries: [], exits: [] });
  t.equal(exit.desired('firewall').classes.length, 0);
  t.equal(entry.digest(), exit.digest());
  t.not(entry.desiredDigest('tproxy'), exit.desiredDigest('tproxy'));
});

t.test('a snapshot is written as events come, and the next start uses it', async (t) => {
  const { h, service } = base();
  const { log, clock, make, problems } = setup([], 5);
  const first = make();
  first.start();
  log.append(h.events);
  t.equal(log.stored.size, 0, 'never in the tick of the append');
  clock.runAll();
  t.equal(log.stored.size, 0, 'nor at once');
  for (let wait = 0; wait < 500 && log.stored.size === 0; wait += 1) await sleep(10);
  t.equal(log.stored.get('views')?.position, h.events.length);
  h.add(peer(1), 'service.updated', service, { name: 'tail' });
  log.append(h.events.slice(-1));
  const digest = first.digest();

  let read = 0;
  const pages = log.pages.bind(log);
  log.pages = function* (filter) {
    for (const page of pages(filter)) {
      read += page.length;
      yield page;
    }
  };
  const second = make();
  second.start();
  t.equal(read, 1, 'only the tail');
  t.equal(second.digest(), digest);
  t.equal(second.views.services.get(service as ServiceId)?.name, 'tail');
  t.strictSame(problems, []);
});

t.test('a snapshot of another fold, damaged, or of a longer log is not used', async (t) => {
  const { h } = base();
  const { log, make, problems } = setup(h.events);
  const first = make();
  first.start();
  h.license(peer(1), 9);
  log.append(h.events.slice(-1));
  first.stop();
  const digest = first.digest();
  const good = log.stored.get('views');
  if (!good) throw new Error('no snapshot');
  const flipped = Uint8Array.from(good.state);
  flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] ?? 0) ^ 1;
  // Whole, and of another state: whoever believed one would show nothing.
  storeSnapshot(log.snapshots, new Fold(), good.position);
  const other = log.stored.get('views') ?? good;
  for (const bad of [
    { ...other, foldVersion: good.foldVersion + 1 },
    { ...other, foldVersion: good.foldVersion - 1 },
    { ...good, state: flipped },
    { ...good, state: new Uint8Array(0) },
    { ...good, position: 10_000 as Position },
  ]) {
    log.stored.set('views', bad);
    const next = make();
    next.start();
    t.equal(next.digest(), digest);
  }
  t.match(problems, [/damaged/, /damaged/, /newer than the log/]);
});

t.test('replay shows any moment, live or not, and changes nothing', async (t) => {
  const { h, service } = base();
  const before = h.events.length;
  const renamed = h.add(peer(1), 'service.updated', service, { name: 'renamed' });
  h.add(peer(1), 'service.deleted', service, {});
  const { make } = setup(h.events);
  const projections = make();
  projections.start();
  const names = async (until: Parameters<Projections['replay']>[0]) =>
    (await projections.replay(until)).state.services?.map((row) => row.name);
  t.strictSame(await names({ until: { position: before as Position } }), ['service-1']);
  t.strictSame(await names({ until: { hlc: renamed.hlc as Hlc } }), ['renamed']);
  t.strictSame(await names({}), []);
  const firewall = await projections.replay({
    until: { position: before as Position },
    projection: 'firewall',
  });
  t.strictSame(Object.keys(firewall.state), ['firewall']);
  t.equal(firewall.state.firewall?.classes[0]?.routes[0]?.dest_cidr, '10.2.0.0/16');
  t.equal(firewall.position, before);
  const none = await projections.replay({ until: { hlc: '000000000000.0000' as Hlc } });
  t.match(none, { position: 0, hlc: null, last_change: null, events: 0 });
  t.equal(projections.views.services.size, 0);
});

t.test('a moment is named by the position asked for, with the change before it', async (t) => {
  const { h } = base();
  const change = h.events.at(-1);
  const fact = h.add(peer(1), 'peer.reachable', peer(2), { peer_id: peer(2) });
  const later = h.add(peer(2), 'peer.reachable', peer(1), { peer_id: peer(1) });
  const { make } = setup(h.events);
  const projections = make();
  projections.start();
  const last_change = { id: change?.id, position: change?.position, type: change?.type };
  const until = { position: fact.position };
  t.match(await projections.replay({ until }), { position: fact.position, hlc: change?.hlc, last_change });
  t.match(await projections.replay({ until: { hlc: fact.hlc } }), { position: fact.position, last_change });
  t.match(await projections.replay({ until: { position: 9_999 as Position } }), { position: later.position });
  const { from, to, changes } = await projections.compare({ from: until, to: undefined });
  t.match(from, { position: fact.position, last_change });
  t.match(to, { position: later.position, last_change });
  t.strictSame(changes, []);
});

t.test('a replayed credential shows no hash', async (t) => {
  const h = new History();
  h.add(peer(1), 'credential.created', id('cli', 1), {
    client_id: id('cli', 1),
    secret_hash: `sha256:${'s'.repeat(43)}`,
    scopes: ['admin'],
    license_id: 'lic_a',
    shared: true,
  });
  const { make } = setup(h.events);
  const projections = make();
  projections.start();
  t.notMatch(JSON.stringify((await projections.replay()).state), /sha256/);
});

t.test('verify folds the log anew; rebuild puts the result in place', async (t) => {
  const { h, service } = base();
  const { log, make } = setup(h.events);
  const projections = make();
  projections.start();
  t.match(await projections.verify(), { matches: true, differing: [], events: h.events.length });
  // A view that went wrong: the log now says something the fold has not heard.
  const held = log.events.find((event) => event.entity === service) as { data: { name: string } } | undefined;
  if (held) held.data.name = 'as the log says';
  t.match(await projections.verify(), { matches: false, differing: ['services'] });
  const entry = () => projections.desired('tproxy').entries[0]?.name;
  const digests = () => [projections.digest('services'), projections.desiredDigest('tproxy')];
  t.equal(entry(), 'service-1');
  const [views, desired] = digests();
  const changed: string[] = [];
  projections.bus.on('changed', (name) => changed.push(name));
  t.equal((await projections.rebuild()).matches, false);
  t.equal(projections.views.services.get(service as ServiceId)?.name, 'as the log says');
  t.ok(changed.includes('services') && changed.includes('firewall'));
  t.equal(entry(), 'as the log says', 'and what was derived from it is made anew');
  t.not(digests()[0], views);
  t.not(digests()[1], desired);
  t.equal((await projections.verify()).matches, true);
});
