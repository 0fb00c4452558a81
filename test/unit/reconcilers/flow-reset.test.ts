/** Connections that were asked to be ended are, once the firewall has followed. */
import t from 'tap';
import type { Position } from '../../../events/brand.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import { KernelError } from '../../../src/kernel/contract.ts';
import { createFakeKernel } from '../../../src/kernel/kernel.fake.ts';
import { createFlowReset } from '../../../src/reconcilers/flow-reset.ts';
import { History, id, peer } from '../projections/history.ts';
import { VirtualClock } from './virtual-clock.ts';

const BETWEEN = [{ source_cidr: null, dest_cidr: '10.1.0.0/16' }];
const settle = () => new Promise((resolve) => setImmediate(resolve));

async function make(marks: Readonly<Record<string, number>>) {
  const kernel = createFakeKernel();
  await kernel.start();
  const clock = new VirtualClock();
  const lines: string[] = [];
  const state = { applied: 0 };
  const reset = createFlowReset({
    kernel,
    clock,
    markOf: (service) => marks[service],
    appliedPosition: () => state.applied as Position,
    logger: {
      info: (_, text) => void lines.push(text),
      warn: (_, text) => void lines.push(text),
    },
  });
  return { kernel, clock, lines, state, reset };
}

t.test('waits for the firewall, and tells the service by its mark', async (t) => {
  const { kernel, clock, state, reset, lines } = await make({ [id('svc', 1)]: MARK.service | 7 });
  const history = new History();
  history.add(peer(1), 'route.deleted', id('rte', 1), { service_id: id('svc', 1) });
  history.add(peer(1), 'service.flows_reset', id('svc', 1), { between: BETWEEN });
  history.add(peer(1), 'service.flows_reset', id('svc', 2), { between: BETWEEN });
  reset.follow(history.events);
  await clock.advance(100);
  t.strictSame(kernel.resets, [], 'the rules are as they were');
  state.applied = history.events.length;
  await clock.advance(100);
  t.strictSame(
    kernel.resets,
    [
      {
        mark: MARK.own | 7,
        mask: 0xffff_ffff,
        between: [{ source: null, destination: '10.1.0.0/16' }],
      },
    ],
    'once, and nothing of a service that is none of ours',
  );
  await settle();
  t.strictSame(lines, ['connections reset']);
});

t.test('a firewall that is late is waited for, which is said once', async (t) => {
  const { kernel, clock, state, reset, lines } = await make({ [id('svc', 1)]: MARK.service | 7 });
  const history = new History();
  history.add(peer(1), 'service.flows_reset', id('svc', 1), { between: BETWEEN });
  reset.follow(history.events);
  await clock.advance(60_000);
  t.strictSame(kernel.resets, [], 'the client would come back the old way');
  t.strictSame(lines, ['the firewall has not followed yet; connections are reset once it has']);
  state.applied = history.events.length;
  await clock.advance(1_000);
  await settle();
  t.equal(kernel.resets.length, 1);
  t.strictSame(lines.slice(1), ['connections reset']);
});

t.test('a refusal is not fatal, and nothing is reset after the stop', async (t) => {
  const { kernel, clock, state, reset, lines } = await make({ [id('svc', 1)]: MARK.service | 7 });
  const refusal = new KernelError('EOPNOTSUPP', 95, 'reset a TCP flow', 'the kernel does not support this');
  kernel.failNext('flows.reset', refusal);
  const history = new History();
  history.add(peer(1), 'service.flows_reset', id('svc', 1), { between: BETWEEN });
  state.applied = history.events.length;
  reset.follow(history.events);
  await settle();
  t.strictSame(lines, ['could not reset connections; they go on until they end']);
  state.applied = 0;
  reset.follow(history.events);
  reset.stop();
  state.applied = history.events.length;
  await clock.advance(60_000);
  t.strictSame(kernel.resets, []);
});
