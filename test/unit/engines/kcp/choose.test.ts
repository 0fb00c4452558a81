import fc from 'fast-check';
import t from 'tap';
import { carriageOf } from '../../../../src/engines/kcp/carriage.ts';
import {
  type Choice,
  chooseTransport,
  DWELL_MS,
  ENTER_LOSS,
  ENTER_ROUND_TRIP_MS,
  LEAST_SAMPLES,
  LEAVE_LOSS,
  LEAVE_ROUND_TRIP_MS,
  type PathMeasure,
} from '../../../../src/engines/kcp/choose.ts';
import { createSelection } from '../../../../src/engines/kcp/selection.ts';
import { readKcpStats, withoutKcp } from '../../../../src/engines/kcp/stats.ts';
import { createVirtualClock } from '../tproxy/virtual-clock.ts';

const path = fc.record({
  state: fc.constantFrom<PathMeasure['state']>('trying', 'up', 'up', 'up', 'unreachable', 'unsupported'),
  roundTripMs: fc.double({ min: 0, max: 400, noNaN: true }),
  loss: fc.double({ min: 0, max: 0.4, noNaN: true }),
  lossSamples: fc.nat(4 * LEAST_SAMPLES),
});
const steps = fc.array(fc.tuple(path, fc.nat(2 * DWELL_MS)), { minLength: 1, maxLength: 60 });
const up = (loss: number, roundTripMs = 100): PathMeasure => ({
  state: 'up',
  loss,
  roundTripMs,
  lossSamples: 10_000,
});

/** Every choice of a life, with what it was made from. */
function live(life: readonly (readonly [PathMeasure, number])[]) {
  let last: Choice | undefined;
  let now = 0;
  return life.map(([measure, wait]) => {
    now += wait;
    const before = last;
    last = chooseTransport(measure, before, now);
    return { measure, before, choice: last, now };
  });
}

t.test('whatever happens', async () => {
  fc.assert(
    fc.property(steps, (life) => {
      for (const { measure, before, choice, now } of live(life)) {
        const changed = before !== undefined && before.transport !== choice.transport;
        // Nothing goes over KCP that cannot.
        if (measure.state !== 'up' && choice.transport !== 'tcp') return false;
        // A choice made by figures is made by enough of them, and has had its time before it changes.
        if (changed && measure.state === 'up') {
          const settled = before.since !== undefined && now - before.since < DWELL_MS;
          if (measure.lossSamples < LEAST_SAMPLES || settled) return false;
        }
        if (changed !== (before !== undefined && choice.since === now && before.since !== now) && changed)
          return false;
        // The first figures confirm what stood without any, or change it.
        const first = before?.since === undefined && choice.since === now && measure.state === 'up';
        if (!changed && before !== undefined && choice.since !== before.since && !first) return false;
        if (choice.reason === '') return false;
      }
      return true;
    }),
  );
});

t.test('between the bounds nothing changes, whatever it is', async () => {
  const between = fc.record({
    loss: fc.double({ min: LEAVE_LOSS, max: ENTER_LOSS, noNaN: true, minExcluded: true, maxExcluded: true }),
    roundTripMs: fc.double({ min: LEAVE_ROUND_TRIP_MS, max: 400, noNaN: true, minExcluded: true }),
  });
  fc.assert(
    fc.property(between, fc.constantFrom<Choice['transport']>('tcp', 'kcp'), (measure, transport) => {
      const last: Choice = { transport, reason: 'x', since: 0 };
      const measured: PathMeasure = { state: 'up', lossSamples: LEAST_SAMPLES, ...measure };
      return chooseTransport(measured, last, 10 * DWELL_MS).transport === transport;
    }),
  );
});

t.test('more loss never turns to TCP what less loss left to KCP', async () => {
  fc.assert(
    fc.property(path, fc.double({ min: 0, max: 0.5, noNaN: true }), (measure, more) => {
      const last: Choice = { transport: 'tcp', reason: 'x', since: 0 };
      const now = 10 * DWELL_MS;
      const before = chooseTransport(measure, last, now).transport;
      const after = chooseTransport({ ...measure, loss: measure.loss + more }, last, now).transport;
      return before === 'tcp' || after === 'kcp';
    }),
  );
});

t.test('a lossy long path goes over KCP, and back when it is mended', async (t) => {
  const tcp = chooseTransport(up(0), undefined, 0);
  t.match(tcp, { transport: 'tcp', reason: '0.0 % loss, 100 ms' });
  t.match(chooseTransport(up(0.05), tcp, 1_000), { transport: 'tcp', reason: /last change/ });
  const unmeasured = chooseTransport({ ...up(0.05), lossSamples: 0 }, undefined, 0);
  t.match(unmeasured, { transport: 'tcp', reason: 'the path is being measured', since: undefined });
  t.match(
    chooseTransport(up(0.05), unmeasured, 1_000),
    { transport: 'kcp', since: 1_000 },
    'the first figures decide',
  );
  const kcp = chooseTransport(up(0.05), tcp, DWELL_MS);
  t.match(kcp, { transport: 'kcp', reason: '5.0 % loss, 100 ms', since: DWELL_MS });
  t.equal(chooseTransport(up(0.015), kcp, 3 * DWELL_MS).transport, 'kcp');
  t.equal(chooseTransport(up(0.005), kcp, 3 * DWELL_MS).transport, 'tcp');
  t.equal(
    chooseTransport(up(0.05, ENTER_ROUND_TRIP_MS - 1), tcp, DWELL_MS).transport,
    'tcp',
    'on a short one TCP repairs',
  );
  const gone = chooseTransport({ ...up(0.05), state: 'unreachable' }, kcp, DWELL_MS + 1);
  t.match(gone, { transport: 'tcp', reason: 'the peer does not answer over UDP' });
});

t.test('what is carried now, and why', async (t) => {
  const choice: Choice = { transport: 'kcp', reason: '5.0 % loss, 100 ms', since: 0 };
  t.same(carriageOf('auto', up(0.05), choice), {
    transport: 'kcp',
    reason: '5.0 % loss, 100 ms',
    roundTripMs: 100,
    loss: 0.05,
  });
  t.match(carriageOf('auto', undefined, undefined), { transport: 'tcp', reason: /not answered/, loss: null });
  t.match(carriageOf('kcp', { ...up(0), state: 'unreachable' }, undefined), {
    transport: 'tcp',
    reason: /does not/,
  });
  t.match(carriageOf('kcp', up(0), undefined), { transport: 'kcp', reason: 'transport_type is kcp' });
  t.match(carriageOf('tcp', undefined, undefined), { transport: 'tcp', reason: 'transport_type is tcp' });
  const without = withoutKcp([
    { peerId: 'a', transport: 'kcp' },
    { peerId: 'b', transport: 'tcp' },
  ]);
  t.strictSame(Object.keys(without), ['a']);
  t.match(carriageOf('kcp', without['a'], undefined), { transport: 'tcp', reason: 'this host has no KCP' });
});

t.test('the relay says one line for each peer', async (t) => {
  const stats = readKcpStats('2 100500 51000 400 3 187000000 4 10 20 30 40 5 6 7'.split(' '));
  t.match(stats, {
    state: 'up',
    roundTripMs: 100.5,
    loss: 0.051,
    lossSamples: 400,
    flows: 3,
    parity: 4,
    repeated: 7,
  });
  t.equal(readKcpStats([]).state, 'trying');
});

t.test('a selection looks from time to time, and says only changes', async (t) => {
  const clock = createVirtualClock();
  const said: string[] = [];
  let measured = up(0);
  let peers = ['a', 'a'];
  const selection = createSelection({
    clock,
    peers: () => peers,
    pathTo: () => measured,
    changed: (peer, choice) => said.push(`${peer} ${choice.transport}`),
  });
  selection.start();
  clock.advance(10_000);
  t.equal(selection.of('a')?.transport, 'tcp');
  t.strictSame(said, []);
  measured = up(0.08);
  clock.advance(DWELL_MS + 4_000);
  t.strictSame(said, ['a kcp']);
  peers = [];
  selection.review();
  t.equal(selection.of('a'), undefined);
  selection.stop();
});
