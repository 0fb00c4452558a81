/** What arrives is what was sent, whatever the wire, the keys and the other host go through meanwhile. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { joinByVeth, makeNetns, mayMakeNamespaces, type Netns } from '../netns.ts';
import { configOf, type EngineHost, INSIDE, PORT, startHost } from './lab.ts';
import { comesThrough, serve, tcpTransfer, udpEchoes } from './traffic.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

const WIRE = fileURLToPath(new URL('./bad-wire.ts', import.meta.url));
const REKEY_MS = 1_000;

interface BadLab {
  readonly a: Netns;
  readonly b: Netns;
  readonly middle: Netns;
  start(side: 'a' | 'b'): Promise<void>;
  kill(side: 'a' | 'b'): Promise<void>;
  agree(): Promise<void>;
}

async function makeBadLab(t: Test): Promise<BadLab> {
  const [a, b, middle] = await Promise.all([makeNetns('a'), makeNetns('b'), makeNetns('middle')]);
  await joinByVeth(
    { netns: a, name: 'wire0', addresses: ['10.9.1.1/24'] },
    { netns: middle, name: 'to-a', addresses: ['10.9.1.2/24'] },
  );
  await joinByVeth(
    { netns: b, name: 'wire0', addresses: ['10.9.2.1/24'] },
    { netns: middle, name: 'to-b', addresses: ['10.9.2.2/24'] },
  );
  const argv = [WIRE, String(PORT), '10.9.1.2', '10.9.1.1', '10.9.2.2', '10.9.2.1'];
  const wire = spawn('ip', [...middle.prefix, process.execPath, '--import=tsx', ...argv], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(wire.stdout, 'data');
  const spaces = { a, b };
  const hosts: { a?: EngineHost; b?: EngineHost } = {};
  t.teardown(async () => {
    await Promise.all([hosts.a?.kill(), hosts.b?.kill()]);
    const gone = once(wire, 'exit');
    wire.kill('SIGKILL');
    await gone;
    for (const netns of [a, b, middle]) netns.remove();
  });
  const lab: BadLab = {
    ...{ a, b, middle },
    async start(side) {
      const host = await startHost(spaces[side], { rekeyAfterMs: REKEY_MS });
      hosts[side] = host;
      const config = configOf(side, side === 'a' ? '10.9.1.2' : '10.9.2.2');
      await host.call({ verb: 'configure', config });
      await spaces[side].exec('ip', 'address', 'add', `${INSIDE[side].v4}/24`, 'dev', 'arctun0');
    },
    kill: async (side) => hosts[side]?.kill(),
    async agree() {
      const secret = randomBytes(32).toString('hex');
      await hosts.a?.call({ verb: 'session', peerId: 'peer_b', secret, side: 'initiator' });
      await hosts.b?.call({ verb: 'session', peerId: 'peer_a', secret, side: 'responder' });
    },
  };
  await lab.start('a');
  await lab.start('b');
  await lab.agree();
  return lab;
}

t.test('loss, reordering, duplication, new keys each second, another MTU, a killed peer', async (t) => {
  const lab = await makeBadLab(t);
  const { a, b, middle } = lab;
  await serve(t, b);
  t.ok(await comesThrough(a, INSIDE.b.v4));

  const datagrams = udpEchoes(a, INSIDE.b.v4, 8_000, 500);
  const bytes = tcpTransfer(a, INSIDE.b.v4, 24);
  await sleep(1_500);
  for (const [netns, link] of [
    [a, 'wire0'],
    [middle, 'to-a'],
    [middle, 'to-b'],
    [b, 'wire0'],
  ] as const)
    await netns.exec('ip', 'link', 'set', link, 'mtu', '1400');
  const { sent, received, bad } = await datagrams;
  t.equal(bad, 0, 'no datagram was changed');
  t.ok(received > sent / 2, `${received} of ${sent} echoes came`);
  t.match(await bytes, { same: true }, 'TCP carried the same bytes');

  const during = udpEchoes(a, INSIDE.b.v4, 4_000, 1_000);
  await sleep(500);
  await lab.kill('b');
  await lab.start('b');
  await lab.agree();
  const after = await during;
  t.equal(after.bad, 0, 'no datagram was changed around the restart');
  t.ok(await comesThrough(a, INSIDE.b.v4), 'the killed peer is in touch again');
  t.match(await tcpTransfer(a, INSIDE.b.v4, 4), { same: true });
});
