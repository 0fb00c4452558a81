/** Each errno at each request to the kernel: it is told, and got over by the next pass that meets none. */
import t from 'tap';
import { KernelError } from '../../../src/kernel/contract.ts';
import type { KernelOperation } from '../../../src/kernel/kernel.fake.ts';
import { id, peer } from '../projections/history.ts';
import { ERRNOS, held, makeHost } from './fake-host.ts';

const OPERATIONS: readonly KernelOperation[] = [
  'features',
  'nft.generation',
  'nft.compareTable',
  'nft.replaceTable',
  'nft.changeTable',
  'rt.links',
  'rt.addresses',
  'rt.routes',
  'rt.rules',
  'rt.createMacvlan',
  'rt.setLink',
  'rt.addAddress',
  'rt.addRoute',
  'rt.addRule',
  'sysctl.read',
  'sysctl.write',
];
t.test('each errno at each request', async (t) => {
  const quiet = await makeHost();
  await quiet.runner.reconcilers.start();
  await quiet.runner.clock.advance(1_000);
  t.ok(quiet.runner.reconcilers.status().every(({ state }) => state === 'applied'));
  const started = await held(quiet.kernel);
  quiet.history.route(peer(1), 18, quiet.service, null, '10.10.0.0/16' as never, { number: 18 });
  quiet.append();
  await quiet.runner.clock.advance(1_000);
  const changed = await held(quiet.kernel);
  t.not(changed, started);

  let told = 0;
  for (const operation of OPERATIONS)
    for (const [code, errno] of ERRNOS) {
      const { kernel, runner, history, service, append } = await makeHost();
      const refusal = (): KernelError =>
        new KernelError(code, errno, `request ${operation}`, 'says the kernel');
      kernel.failNext(operation, refusal(), 2);
      await runner.reconcilers.start();
      await runner.clock.advance(200);
      kernel.failNext(operation, refusal(), 1);
      await runner.clock.advance(200_000);
      const name = `${code} at ${operation}`;
      if ((await held(kernel)) !== started) t.equal(await held(kernel), started, name);
      history.route(peer(1), 18, service, null, '10.10.0.0/16' as never, { number: 18 });
      kernel.failNext(operation, refusal(), 1);
      append();
      await runner.clock.advance(200_000);
      if ((await held(kernel)) !== changed) t.equal(await held(kernel), changed, `${name}, on a change`);
      const failed = runner.reconcilers.status().filter(({ state }) => state !== 'applied');
      if (failed.length > 0) t.strictSame(failed, [], name);
      if (
        runner.lines.some(
          ({ level, fields }) => level === 'error' && JSON.stringify(fields).includes(operation),
        )
      )
        told += 1;
    }
  t.ok(
    told > OPERATIONS.length * 8,
    `${told} of ${OPERATIONS.length * ERRNOS.length} were a line of the log; the rest was got over at once`,
  );
});

t.test('a refused element is told as the route it is', async (t) => {
  const { kernel, runner, history, service, append } = await makeHost();
  await runner.reconcilers.start();
  await runner.clock.advance(1_000);
  const text = 'add element 0a0a0000 -> 01000041 of set m4_d16';
  const error = new KernelError('ENOSPC', 28, text, 'no room for it', 'elements[0].data');
  kernel.failNext('nft.changeTable', error);
  kernel.failNext('nft.replaceTable', error);
  history.route(peer(1), 18, service, null, '10.10.0.0/16' as never, { number: 18 });
  append();
  await runner.clock.advance(10);
  t.equal(
    runner.reconcilers.status().find(({ name }) => name === 'firewall')?.last_error,
    `route 18 of sydney-london: any -> 10.10.0.0/16: ${text}: no room for it (ENOSPC at elements[0].data)`,
  );
  t.match(runner.reconcilers.serviceStatus(id('svc', 1) as never).firewall, {
    state: 'failed',
    reason: /route 18/,
  });
  await runner.clock.advance(60_000);
  t.equal(runner.reconcilers.serviceStatus(id('svc', 1) as never).firewall.state, 'applied');
});

t.test('an older kernel: no owner flag, no DESTROY, no acknowledgement at the end', async (t) => {
  const { kernel, runner } = await makeHost({
    nftOwner: false,
    nftPersist: false,
    nftDestroy: false,
    nftBatchEndAck: false,
  });
  kernel.watch((notice) => runner.notice(notice));
  await runner.reconcilers.start();
  await runner.clock.advance(1_000);
  const before = await held(kernel);
  t.ok(runner.reconcilers.status().every(({ state }) => state === 'applied'));
  t.not((await kernel.nft.readTable('inet', 'arctic')).table?.owned, true, 'the flag is not asked for');
  await kernel.other.nft.deleteTable('inet', 'arctic');
  await runner.clock.advance(1_000);
  t.equal(await held(kernel), before, 'what others take away comes back');
});
