/** What the native relay's thread says in text, read back. */
import t from 'tap';
import { systemClock } from '../../../../events/clock.ts';
import { createFlowViews, parseFlows } from '../../../../src/engines/tproxy/native-flows.ts';
import { parseStats } from '../../../../src/engines/tproxy/native-stats.ts';

const LINE =
  'svc_1\tentry\t10.0.0.9\t40000\t10.0.1.1\t443\tclosing\t1500000\t7\t9\t103500\t1\t2\t4500\t100100\t99900\t1000\t10\t1\ttcp\t10000\tbbr';

t.test('flows: times in milliseconds, no path without a round trip, not opened yet', async (t) => {
  const [flow, early] = parseFlows(
    `${LINE}\nsvc_1\texit\tfd00::9\t1\tfd00::1\t2\twaiting\t5\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\t0\n`,
  );
  t.match(flow, {
    side: 'entry',
    client: { address: '10.0.0.9', port: 40_000 },
    state: 'closing',
    ageMs: 1_500,
    openMs: 103.5,
    reused: true,
    limiterWaitMs: 4.5,
    path: {
      rttMs: 100.1,
      leastRttMs: 99.9,
      bytesSent: 1_000,
      bytesRetransmitted: 10,
      retransmissions: 1,
      transport: 'tcp',
      loss: 0.01,
      congestionControl: 'bbr',
    },
  });
  t.match(
    parseFlows(LINE.replace('tcp\t10000\tbbr', 'kcp\t50000\t')),
    [{ path: { transport: 'kcp', loss: 0.05, congestionControl: null } }],
    'KCP has no name for its control',
  );
  t.match(
    parseFlows(LINE.replace('10000\tbbr', '\tbbr')),
    [{ path: { loss: null } }],
    'no loss is known yet',
  );
  t.match(early, { side: 'exit', state: 'waiting', openMs: null, path: null });
  t.same(parseFlows(''), []);
});

t.test('a view goes to who asked for it; one nobody waits for is dropped', async (t) => {
  const asked: [number, string][] = [];
  const views = createFlowViews(
    systemClock,
    (token, service) => asked.push([token, service]),
    (token) => (token === 2 ? LINE : ''),
  );
  const [first, second] = [views.ask(undefined), views.ask('svc_1')];
  t.same(asked, [
    [1, ''],
    [2, 'svc_1'],
  ]);
  views.ready(9);
  views.ready(2);
  views.ready(1);
  t.equal((await second).length, 1);
  t.same(await first, []);
});

t.test('counters of a service and a peer', async (t) => {
  const numbers = Array.from({ length: 25 }, (_, index) => index + 1);
  const { services, carriers } = parseStats(
    `service\tsvc_1\texit\t${numbers.join('\t')}\npeer\tp\t1\t2\t3\t4\t5\t6\t7000\t8\t9\t6500\n`,
  );
  const detail = services['svc_1']?.exit.detail;
  t.match(detail, { reused: 7, timedOut: 8, limiterWaits: 9, limiterWaitMs: 0.01, openMs: 0.011 });
  t.same(detail?.opened, numbers.slice(11, 25));
  t.same(carriers['p']?.path, { rttMs: 7, leastRttMs: 6.5, bytesSent: 8, bytesRetransmitted: 9 });
});
