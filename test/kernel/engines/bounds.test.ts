/** What one service, one peer, one source or one idle flow may take of the native relay, and what operators see of it. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import type { FlowCounters, FlowDetail, FlowView } from '../../../src/engines/tproxy/contract.ts';
import { failure, readAll, resetSocket, until } from '../../unit/engines/tproxy/stream-ends.ts';
import { CLIENT, type EngineHost, SERVER, SERVICES, startLab } from './lab.ts';

const lab = await startLab('native', 'native');
t.teardown(() => lab.stop());
await lab.serve(4, 5_000, (socket) => socket.pipe(socket));
await lab.serve(4, 9_000, (socket) => socket.pipe(socket));

const flowsOf = async (host: EngineHost, serviceId?: string): Promise<readonly FlowView[]> =>
  (await host.call({
    verb: 'flows',
    ...(serviceId === undefined ? {} : { serviceId }),
  })) as readonly FlowView[];

async function countersOf(
  host: EngineHost,
  side: 'entry' | 'exit',
): Promise<FlowCounters & { readonly detail?: FlowDetail }> {
  const found = (await host.stats()).services[SERVICES.plain.id];
  if (found === undefined) throw new Error('the service is not configured');
  return found[side];
}

async function established(port = 5_000): Promise<Socket> {
  const client = lab.dial(SERVER.v4, port);
  client.write('hello');
  await once(client, 'data');
  return client;
}

const whenEmpty = (): Promise<void> =>
  until(
    async () => (await flowsOf(lab.entry)).length + (await flowsOf(lab.exit)).length === 0,
    'no flow is left',
  );

t.test('each flow can be seen on both sides, with where it goes and how it fares', async (t) => {
  const client = await established();
  for (const host of [lab.entry, lab.exit]) {
    const [flow, ...others] = await flowsOf(host, SERVICES.plain.id);
    t.same(others, []);
    t.match(flow, {
      serviceId: SERVICES.plain.id,
      side: host === lab.entry ? 'entry' : 'exit',
      client: { address: CLIENT.v4, port: client.localPort },
      destination: { address: SERVER.v4, port: 5_000 },
      state: 'open',
      bytesIn: 5,
      bytesOut: 5,
    });
    t.ok((flow?.openMs ?? 0) > 0, 'it has been timed');
    t.ok((flow?.path?.rttMs ?? 0) > 0, 'the path has been measured');
  }
  t.same(await flowsOf(lab.entry, SERVICES.transparent.id), []);
  client.end();
  await readAll(client);
  await whenEmpty();
  const second = await established();
  t.equal((await flowsOf(lab.entry))[0]?.reused, true, 'the next flow takes the same link');
  const { detail } = await countersOf(lab.entry, 'entry');
  t.equal(detail?.reused, 1);
  t.equal(
    detail?.opened.reduce((sum, count) => sum + count, 0),
    2,
  );
  resetSocket(second);
  await whenEmpty();
});

t.test('one service cannot take the room of the others', async (t) => {
  await lab.restart('entry', { mostFlows: 8, mostServiceFlows: 3 });
  const taken = [await established(), await established(), await established()];
  t.equal(await failure(lab.dial(SERVER.v4, 5_000)), 'ECONNRESET', 'the fourth is turned away');
  t.equal((await countersOf(lab.entry, 'entry')).refused, 1);
  const other = await established(9_000);
  for (const socket of [...taken, other]) resetSocket(socket);
  await whenEmpty();
});

t.test('one peer cannot take all of an exit', async (t) => {
  await lab.restart('entry', {});
  await lab.restart('exit', { mostFlows: 8, mostPeerFlows: 2 });
  const taken = [await established(), await established()];
  t.equal(await failure(lab.dial(SERVER.v4, 5_000)), 'ECONNRESET');
  t.equal((await countersOf(lab.exit, 'exit')).refused, 1);
  for (const socket of taken) resetSocket(socket);
  await whenEmpty();
  resetSocket(await established());
  await whenEmpty();
});

t.test('a flow waits for a link where the peer may have no more', async (t) => {
  await lab.restart('exit', { pool: { most: 2 } });
  const before = (await lab.exit.stats()).refused.carriers;
  const flow = async (): Promise<void> => {
    const client = await established();
    client.end();
    await once(client, 'close');
  };
  await Promise.all(Array.from({ length: 6 }, flow));
  t.ok((await lab.exit.stats()).refused.carriers > before, 'a link was refused');
  await whenEmpty();
});

t.test('a flow that nothing moves on is reset on both ends, one that moves is not', async (t) => {
  await lab.restart('exit', {});
  await lab.restart('entry', { flowIdleTimeout: 1_500 });
  const idle = await established();
  const busy = await established();
  const beat = setInterval(() => busy.write('x'), 100);
  busy.resume();
  t.equal(await failure(idle), 'ECONNRESET');
  t.equal((await countersOf(lab.entry, 'entry')).detail?.timedOut, 1);
  t.notOk(busy.destroyed);
  clearInterval(beat);
  resetSocket(busy);
  await whenEmpty();
  await lab.restart('entry', {});
});

for (const [cap, whose] of [
  ['mostSourceHandshakes', 'of one source'],
  ['mostHandshakes', 'all together'],
] as const)
  t.test(`strangers that say nothing take a few places and no more, ${whose}`, async (t) => {
    await lab.restart('entry', { [cap]: 4 });
    const refused = async (): Promise<number> => (await lab.entry.stats()).refused.carriers;
    const come = (count: number): readonly Socket[] => {
      const silent = Array.from({ length: count }, () => lab.dial('10.71.1.1', 61_000));
      for (const socket of silent) socket.on('error', () => undefined).resume();
      return silent;
    };
    const silent = come(12);
    await until(async () => (await refused()) >= 8, 'eight are turned away');
    t.equal(silent.filter((socket) => !socket.destroyed && !socket.readableEnded).length >= 4, true);
    const client = await established();
    resetSocket(client);
    for (const socket of silent) socket.destroy();
    // Places are given back once the relay has seen the silent ones go.
    const again: Socket[] = [];
    await until(async () => {
      for (const socket of again.splice(0)) socket.destroy();
      const before = await refused();
      again.push(...come(4));
      // By when this one is through, the relay has seen those.
      resetSocket(await established());
      return (await refused()) === before;
    }, 'four are taken again');
    for (const socket of again) socket.destroy();
    await whenEmpty();
  });
