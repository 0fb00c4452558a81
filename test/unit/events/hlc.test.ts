import fc from 'fast-check';
import t from 'tap';
import type { Hlc } from '../../../events/brand.ts';
import {
  createHlc,
  createHostClocks,
  endOfMs,
  formatHlc,
  isHlc,
  isoTime,
  MAX_SKEW_MS,
  parseHlc,
  timeOf,
  ZERO_HLC,
} from '../../../events/hlc.ts';
import {
  createIds,
  isEventId,
  isPeerId,
  newEventId,
  newPeerId,
  parsePeerId,
  parseRouteKey,
} from '../../../events/ids.ts';
import { seededRandom, setClock } from './given-log.ts';

t.test('ticks grow strictly whatever the wall clock and the peers do, and over restarts', async (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('wall' as const), ms: fc.integer({ min: -100_000, max: 100_000 }) }),
    fc.record({ kind: fc.constant('tick' as const) }),
    fc.record({ kind: fc.constant('restart' as const) }),
    fc.record({
      kind: fc.constant('observe' as const),
      ms: fc.integer({ min: -70_000, max: 70_000 }),
      counter: fc.integer({ min: 0, max: 0xffff }),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const clock = setClock(1_000_000_000);
      let hlc = createHlc({}, { clock });
      let last = '' as Hlc;
      for (const step of steps) {
        if (step.kind === 'wall') clock.advance(step.ms);
        if (step.kind === 'restart') hlc = createHlc({ last: hlc.last() }, { clock });
        if (step.kind === 'observe') {
          const remote = formatHlc(clock.now() + step.ms, step.counter);
          const before = hlc.last();
          const outcome = hlc.observe(remote);
          if ((outcome.kind === 'ahead') !== step.ms > MAX_SKEW_MS) return false;
          if (outcome.kind === 'ahead' && hlc.last() !== before) return false;
          if (outcome.kind === 'observed' && remote > last) last = remote;
        }
        if (step.kind === 'tick') {
          const tick = hlc.tick();
          if (!isHlc(tick) || tick <= last) return false;
          last = tick;
        }
      }
      return true;
    }),
  );
  t.pass('monotonic');
});

t.test('a tick comes after what it is told to follow', async (t) => {
  const hlc = createHlc({}, { clock: setClock(1_000) });
  t.equal(hlc.tick(formatHlc(5_000, 3)), formatHlc(5_000, 4));
  t.equal(hlc.tick(formatHlc(2_000, 9)), formatHlc(5_000, 5), 'what is past does not matter');
});

t.test(
  'events of both streams follow each other; after a clock that was far ahead local ones stand alone',
  async (t) => {
    const clock = setClock(1_000_000);
    const { tick, config } = createHostClocks({ config: ZERO_HLC, local: ZERO_HLC }, { clock });
    const streams = ['config', 'local', 'local', 'config', 'local', 'config'] as const;
    const times = streams.map(tick);
    t.same(times, [...new Set(times)].sort(), 'within one millisecond');

    clock.advance(MAX_SKEW_MS);
    const slightly = tick('local');
    clock.advance(-MAX_SKEW_MS);
    t.ok(tick('config') > slightly, 'what peers would take as it is is followed');

    clock.advance(3_600_000);
    const future = tick('local');
    clock.advance(-3_600_000);
    const change = tick('config');
    t.ok(timeOf(change) <= clock.now() + MAX_SKEW_MS, 'a change is dated by the clock as it is now');
    t.ok(tick('local') > future, 'the local stream goes on after its last');

    const again = createHostClocks({ config: config.last(), local: future }, { clock });
    t.ok(again.tick('config') > change, 'and so after a restart');
    t.ok(timeOf(config.last()) <= clock.now() + MAX_SKEW_MS);
  },
);

t.test('the counter carries into the next millisecond, and text order is time order', async (t) => {
  const clock = setClock(5);
  const hlc = createHlc({ last: formatHlc(5, 0xffff) }, { clock });
  t.equal(hlc.tick(), formatHlc(6, 0));
  t.same(parseHlc(formatHlc(1_700_000_000_000, 7)), { ms: 1_700_000_000_000, counter: 7 });
  t.equal(timeOf(endOfMs(1234)), 1234);
  t.ok(formatHlc(9, 0xffff) < formatHlc(10, 0));
  t.notOk(isHlc('1.2'));
});

t.test('ids are unique, sorted and known by their prefix', async (t) => {
  const clock = setClock();
  const ids = createIds({ clock, random: seededRandom(4) });
  const made: string[] = [];
  for (let i = 0; i < 500; i += 1) {
    if (i % 7 === 0) clock.advance(i % 2 === 0 ? 3 : -2);
    made.push(newEventId(ids));
  }
  t.same(made, [...made].sort());
  t.equal(new Set(made).size, made.length);
  t.ok(made.every(isEventId));
  const peer = newPeerId(ids);
  t.ok(isPeerId(peer));
  t.equal(parsePeerId(peer), peer);
  t.equal(parseRouteKey(peer), undefined);
  t.notOk(isPeerId('peer_81JD0000000000000000000000'), 'a time of more than 48 bits');
  t.notOk(isPeerId(`${peer}\n`));
});

t.test('a time as text is what Date makes of it', async () => {
  const anyTime = fc.oneof(fc.integer({ min: 0, max: 2 ** 42 }), fc.integer({ min: -8.64e15, max: 8.64e15 }));
  fc.assert(
    fc.property(anyTime, fc.integer({ min: 0, max: 100_000_000 }), (ms, later) =>
      [ms, Math.min(ms + later, 8.64e15)].every((at) => isoTime(at) === new Date(at).toISOString()),
    ),
    { numRuns: 1_000 },
  );
});
