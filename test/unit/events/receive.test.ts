import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import type { Hlc, PeerId } from '../../../events/brand.ts';
import { hashOf, signTransaction } from '../../../events/chain.ts';
import { createSigner } from '../../../events/ed25519.ts';
import type { AnyEvent } from '../../../events/envelope.ts';
import { verifyLog } from '../../../events/verify.ts';
import {
  agentStarted,
  keyOf,
  openHost,
  operator,
  overTheWire,
  routeAdded,
  routeUpdated,
  seedOf,
  setClock,
  temporaryDirectory,
} from './given-log.ts';

/** The history of host 1: transactions of 1, 2, 3 and 1 events. */
function history(directory: string, clock = setClock()) {
  const log = openHost({ path: join(directory, 'one.db'), clock });
  log.append([routeAdded(1)], operator);
  log.append([routeAdded(2), agentStarted, routeAdded(3)], operator);
  clock.advance(5);
  log.append([routeUpdated(1, 2), routeUpdated(2, 3), routeUpdated(3, 4)], operator);
  log.append([routeAdded(4)], operator);
  const events = overTheWire(log.range(log.origin, 1, 100));
  const { origin } = log;
  log.close();
  return { origin, events };
}

/** Makes an event authentic again after a change: hash, link and signature, as its own origin could. */
function forge(n: number, event: AnyEvent, change: Record<string, unknown>): AnyEvent {
  const changed = { ...event, ...change } as AnyEvent;
  const hash = hashOf(changed);
  return { ...changed, hash, signature: signTransaction(createSigner(seedOf(n)), hash) };
}

t.test('any split, repetition and order of delivery ends in the same log', async (t) => {
  const directory = temporaryDirectory(t);
  const { origin, events } = history(directory);
  t.equal(events.length, 7);
  let file = 0;
  const piece = fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 1, max: 7 }));
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      file += 1;
      const log = openHost({ path: join(directory, `two-${file}.db`), n: 2 });
      for (const [from, count] of pieces) {
        const have = log.versionVector()[origin] ?? 0;
        const outcome = log.receive(origin, keyOf(1), events.slice(from, from + count));
        if (from > have ? outcome.kind !== 'gap' : outcome.kind !== 'appended') return false;
        const held = log.range(origin, 1, 100);
        if (held.some((event, i) => event.hash !== events[i]?.hash) || held.at(-1)?.signature === null)
          return false;
      }
      log.receive(origin, keyOf(1), events);
      const same =
        JSON.stringify(log.range(origin, 1, 3).length) === '3' && log.range(origin, 1, 100).length === 7;
      const again = log.receive(origin, keyOf(1), events);
      log.close();
      return same && again.kind === 'appended' && again.events.length === 0 && again.duplicates === 7;
    }),
    { numRuns: 25 },
  );
  t.equal(verifyLog({ path: join(directory, `two-${file}.db`) }).fault, undefined);
});

t.test('any altered, moved or dropped event is refused and nothing is stored', async (t) => {
  const directory = temporaryDirectory(t);
  const { origin, events } = history(directory);
  const log = openHost({ path: join(directory, 'two.db'), n: 2 });
  const fields = [
    'id',
    'hlc',
    'type',
    'version',
    'entity',
    'actor',
    'correlation_id',
    'data',
    'prev_hash',
    'hash',
    'signature',
    'seq',
  ] as const;
  fc.assert(
    fc.property(fc.nat(6), fc.constantFrom(...fields), fc.nat(6), (index, field, other) => {
      const altered = events.map((event) => ({ ...event }) as Record<string, unknown>);
      const [mine, theirs] = [altered[index], altered[other]];
      if (mine === undefined || theirs === undefined) return false;
      const changes: Record<string, unknown> = {
        version: Number(mine['version']) + 1,
        actor: { kind: 'system', id: null, address: null },
        correlation_id: 'cor_x',
        entity: 'rte_x',
        type: 'route.deleted',
        data: { ...(mine['data'] as object), priority: 99 },
        signature: `${'A'.repeat(86)}==`,
        seq: Number(mine['seq']) + 1,
        hlc: '000000000001.0000',
        id: 'evt_01JD0000000000000000000009',
        hash: 'a'.repeat(64),
        prev_hash: 'b'.repeat(64),
      };
      mine[field] = changes[field];
      return (
        log.receive(origin, keyOf(1), altered as unknown as AnyEvent[]).kind === 'refused' && log.head === 0
      );
    }),
  );
  const without = events.filter((_, i) => i !== 3);
  t.equal(log.receive(origin, keyOf(1), without).kind, 'refused');
  t.equal(log.receive(origin, keyOf(1), events.toReversed()).kind, 'refused');
  t.match(log.receive(origin, keyOf(1), events.slice(3)), { kind: 'gap', have: 0 });
  t.equal(log.receive(origin, keyOf(3), events).kind, 'refused', 'another key');
  t.equal(log.receive(origin, new Uint8Array(32), events).kind, 'refused', 'a key of small order');
  t.equal(
    log.receive('peer_01JD0000000000000000000000' as PeerId, keyOf(1), events).kind,
    'refused',
    'another origin',
  );
  t.equal(
    log.receive(origin, keyOf(1), [{ ...events[0], extra: 1 } as unknown as AnyEvent]).kind,
    'refused',
    'an unknown field',
  );
  t.equal(log.head, 0);
  t.equal(log.receive(origin, keyOf(1), events).kind, 'appended');
  t.match(log.receive(origin, keyOf(3), events), { kind: 'refused', reason: /key/ }, 'the key is pinned');
  log.close();
});

t.test('only whole signed transactions are stored', async (t) => {
  const directory = temporaryDirectory(t);
  const { origin, events } = history(directory);
  const log = openHost({ path: join(directory, 'two.db'), n: 2 });
  t.match(log.receive(origin, keyOf(1), events.slice(0, 5)), { kind: 'appended', ignored: 2, duplicates: 0 });
  t.equal(log.head, 3);
  t.match(log.receive(origin, keyOf(1), events.slice(3, 5)), { kind: 'appended', events: [], ignored: 2 });
  t.equal(log.range(origin, 1, 2).at(-1)?.seq, 1, 'a range is cut at a signature');
  t.match(log.receive(origin, keyOf(1), events.slice(3)), { kind: 'appended', ignored: 0 });
  t.equal(log.range(origin, 4, 1).length, 3, 'a transaction larger than asked for goes whole');
  log.close();
});

t.test(
  'a second history of one origin is caught with both events; an invented one is not believed',
  async (t) => {
    const directory = temporaryDirectory(t);
    const { origin, events } = history(directory);
    const log = openHost({ path: join(directory, 'two.db'), n: 2 });
    log.receive(origin, keyOf(1), events);
    const last = events[6] as AnyEvent;
    const fork = forge(1, last, { data: { ...last.data, priority: 1 } });
    const outcome = log.receive(origin, keyOf(1), [fork]);
    t.match(outcome, {
      kind: 'equivocation',
      seq: 7,
      held: { hash: last.hash },
      offered: { hash: fork.hash },
    });
    t.equal(
      log.receive(origin, keyOf(1), [forge(3, last, { entity: 'rte_x' })]).kind,
      'refused',
      'signed by a relay',
    );
    const onward = forge(1, last, {
      seq: 8,
      prev_hash: fork.hash,
      hlc: `${last.hlc.slice(0, 13)}ffff` as Hlc,
      id: 'evt_01JD0000000000000000000008',
    });
    t.match(log.receive(origin, keyOf(1), [onward]), { kind: 'equivocation', seq: 7, offered: { seq: 8 } });
    t.equal(log.head, 7);
    log.close();
  },
);

t.test('a clock too far ahead holds the events back until time catches up', async (t) => {
  const directory = temporaryDirectory(t);
  const theirs = setClock();
  const one = openHost({ path: join(directory, 'one.db'), clock: theirs });
  one.append([routeAdded(1)], operator);
  theirs.advance(90_000);
  one.append([routeAdded(2)], operator);
  const events = overTheWire(one.range(one.origin, 1, 10));
  const clock = setClock();
  const log = openHost({ path: join(directory, 'two.db'), n: 2, clock });
  t.match(log.receive(one.origin, keyOf(1), events), { kind: 'appended', events: { length: 1 }, ignored: 1 });
  t.match(log.receive(one.origin, keyOf(1), events.slice(1)), { kind: 'ahead', seq: 2, aheadMs: 90_000 });
  clock.advance(40_000);
  t.match(log.receive(one.origin, keyOf(1), events.slice(1)), { kind: 'appended', events: { length: 1 } });
  t.ok(
    (log.append([routeAdded(3)], operator)[0]?.hlc ?? '') > (events[1]?.hlc ?? ''),
    'what we write now comes after',
  );
  one.close();
  log.close();
});

t.test(
  'unknown types and newer versions from a newer peer are kept and relayed; what breaks our schema is not',
  async (t) => {
    const directory = temporaryDirectory(t);
    const { origin, events } = history(directory);
    const log = openHost({ path: join(directory, 'two.db'), n: 2 });
    const first = events[0] as AnyEvent;
    const unknown = forge(1, first, { type: 'tariff.changed', data: { anything: [1, { deep: true }] } });
    t.equal(log.receive(origin, keyOf(1), [unknown]).kind, 'appended');
    const newer = forge(1, first, {
      seq: 2,
      prev_hash: unknown.hash,
      hlc: `${first.hlc.slice(0, 13)}0a00` as Hlc,
      version: 9,
      data: { other: 1 },
    });
    t.equal(log.receive(origin, keyOf(1), [newer]).kind, 'appended');
    t.same(
      overTheWire(log.range(origin, 1, 5)).map((e) => e.hash),
      [unknown.hash, newer.hash],
    );
    const next = { seq: 3, prev_hash: newer.hash, hlc: `${first.hlc.slice(0, 13)}0b00` as Hlc };
    for (const bad of [
      { ...next, data: { ...first.data, priority: -1 } },
      { ...next, type: 'agent.started', data: agentStarted.data },
      { ...next, type: 'tariff.changed', data: { blob: 'x'.repeat(300_000) } },
      { ...next, type: 'tariff.changed', data: [] },
      { ...next, stream: 'local' },
    ]) {
      t.equal(log.receive(origin, keyOf(1), [forge(1, first, bad)]).kind, 'refused');
    }
    t.equal(log.head, 2);
    log.close();
  },
);

t.test('an agent restored from a backup gets its own later events back and goes on after them', async (t) => {
  const directory = temporaryDirectory(t);
  const clock = setClock();
  const { origin, events } = history(directory, clock);
  const restored = openHost({ path: join(directory, 'restored.db'), origin, clock });
  t.match(restored.receive(origin, keyOf(1), events), { kind: 'appended', events: { length: 7 } });
  t.equal(restored.receive(origin, keyOf(2), events).kind, 'refused', 'with the own key only');
  const [next] = restored.append([routeAdded(9)], operator);
  t.match(next, { seq: 8, prev_hash: events[6]?.hash });
  t.ok((next?.hlc ?? '') > (events[6]?.hlc ?? ''));
  restored.close();
  openHost({ path: join(directory, 'restored.db'), verify: 'full' }).close();
});

t.test('an id copied from another origin blocks nobody', async (t) => {
  const directory = temporaryDirectory(t);
  const { origin, events } = history(directory);
  const log = openHost({ path: join(directory, 'two.db'), n: 2 });
  const first = events[0] as AnyEvent;
  log.append([{ ...routeAdded(1), id: first.id }], operator);
  t.equal(log.receive(origin, keyOf(1), events).kind, 'appended');
  log.close();
});
