import t from 'tap';
import {
  DWELL_MS,
  judgePath,
  LEAST_SENT,
  type PathVerdict,
} from '../../../../src/engines/tproxy/path-kind.ts';
import { createPathKinds } from '../../../../src/engines/tproxy/path-kinds.ts';
import { createVirtualClock } from './virtual-clock.ts';

const seen = (leastRttMs: number, loss = 0, bytesSent = LEAST_SENT) => ({
  leastRttMs,
  bytesSent,
  bytesRetransmitted: bytesSent * loss,
});
const short: PathVerdict = { kind: 'short', reason: 'r', since: 0 };
const long: PathVerdict = { kind: 'long', reason: 'r', since: 0 };

t.test('the first verdict follows the round trip', async (t) => {
  t.equal(judgePath(seen(0), undefined, 1), undefined, 'nothing is known');
  t.match(judgePath(seen(0.1), undefined, 1), { kind: 'short', since: 1 });
  t.match(judgePath(seen(1.5), undefined, 1), { kind: 'long' });
});

t.test('between the bounds the last verdict stays', async (t) => {
  t.equal(judgePath(seen(1.5), short, 1), short);
  t.equal(judgePath(seen(1.5), long, DWELL_MS), long);
  t.match(judgePath(seen(2), short, 1), { kind: 'long', since: 1 });
  t.equal(judgePath(seen(0.1, 0.001), short, 1), short);
  t.equal(judgePath(seen(0.1, 0.001), long, DWELL_MS), long);
});

t.test('a short path that loses is a long one for a while', async (t) => {
  t.match(judgePath(seen(0.1, 0.01), short, 5), { kind: 'long', reason: '1.00 % sent again' });
  t.equal(judgePath(seen(0.1, 0.5, 1_000), short, 5), short, 'too little was sent to say so');
  t.equal(judgePath(seen(0.1), long, DWELL_MS - 1), long);
  t.match(judgePath(seen(0.1), long, DWELL_MS), { kind: 'short' });
});

t.test('each peer is judged by what happened since the look before', async (t) => {
  const clock = createVirtualClock();
  const told: string[] = [];
  let path = seen(0.1);
  const kinds = createPathKinds({
    clock,
    paths: () => [['peer', path]],
    changed: (peerId, { kind }) => told.push(`${peerId} ${kind}`),
  });
  kinds.review();
  path = { ...path, bytesSent: path.bytesSent + 1_000, bytesRetransmitted: 500 };
  kinds.review();
  t.same(told, ['peer short']);
  path = { ...path, bytesSent: path.bytesSent + LEAST_SENT, bytesRetransmitted: LEAST_SENT / 100 };
  kinds.review();
  kinds.review();
  t.same(told, ['peer short', 'peer long']);
});

t.test('nothing is kept of a peer that is gone', async (t) => {
  const told: string[] = [];
  const path = seen(0.1);
  let paths: readonly (readonly [string, typeof path])[] = [['gone', path]];
  const kinds = createPathKinds({
    clock: createVirtualClock(),
    paths: () => paths,
    changed: (peerId, { kind }) => told.push(`${peerId} ${kind}`),
  });
  kinds.review();
  paths = [];
  kinds.review();
  // Back after a restart of its counters: judged as one never seen.
  paths = [['gone', seen(0.1, 0, 1_000)]];
  kinds.review();
  t.same(told, ['gone short', 'gone short']);
});
