import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { checkFlood } from './flood.ts';
import { INSIDE, makeLab } from './lab.ts';
import { ping } from './traffic.ts';
import { captureUdp, sendUdp, sendUdpTogether } from './wire.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

t.test('a session that ends takes its keys along within a second', async (t) => {
  const lab = await makeLab(t);
  t.match(await ping(lab.spaces.a, INSIDE.b.v4), { received: 3 });
  const second = await lab.agree();
  await sleep(4_000);
  t.match(await ping(lab.spaces.a, INSIDE.b.v4), { received: 3 }, 'a second session takes over');
  await lab.hosts.b.call({ verb: 'retire', sessionId: second });
  await sleep(1_000);
  const before = await lab.hosts.b.stats();
  t.match(await ping(lab.spaces.a, INSIDE.b.v4, { count: 1 }), { received: 0 });
  const after = await lab.hosts.b.stats();
  t.ok(after.refused.unknown > before.refused.unknown, 'what still comes under its keys is not known');
});

t.test("a packet from an address that is not the peer's is refused", async (t) => {
  const lab = await makeLab(t);
  const { a } = lab.spaces;
  await a.exec('ip', 'address', 'add', '10.77.0.9/24', 'dev', 'arctun0');
  await a.exec('ip', '-6', 'address', 'add', 'fd77::9/64', 'dev', 'arctun0', 'nodad');
  await a.exec('ip', 'route', 'add', '10.77.0.2/32', 'dev', 'arctun0', 'src', '10.77.0.9');
  await a.exec('ip', '-6', 'route', 'add', 'fd77::2/128', 'dev', 'arctun0', 'src', 'fd77::9');
  t.match(await ping(a, INSIDE.b.v4, { count: 2 }), { received: 0 });
  t.match(await ping(a, INSIDE.b.v6, { count: 2 }), { received: 0 });
  const [stats] = (await lab.hosts.b.stats()).peers;
  t.ok((stats?.refused.source ?? 0) >= 4, `refused: ${stats?.refused.source}`);
  t.equal(stats?.received.packets, 0);
});

t.test('replayed, forged and foreign datagrams change nothing', async (t) => {
  const lab = await makeLab(t);
  const { a, b } = lab.spaces;
  const capture = captureUdp(b);
  t.match(await ping(a, INSIDE.b.v4), { received: 3 });
  const captured = (await capture.stop()).filter((one) => one.length > 60);
  t.ok(captured.length >= 3, 'datagrams were captured');
  const before = await lab.hosts.b.stats();
  const sample = captured[0] ?? Buffer.alloc(64);
  const variants: Buffer[] = [];
  for (const one of captured) for (let i = 0; i < 5; i += 1) variants.push(one);
  for (let at = 0; at < sample.length; at += 1) {
    const forged = Buffer.from(sample);
    // A counter ahead of all others, so that the window lets it through to the cipher.
    forged.writeBigUInt64LE(0x1000_0000n + BigInt(at), 8);
    forged.writeUInt8((forged[at] ?? 0) ^ 0x40, at);
    variants.push(forged);
  }
  for (let length = 0; length < sample.length; length += 1) {
    const cut = Buffer.from(sample.subarray(0, length));
    variants.push(sample.subarray(0, length));
    if (length >= 16) cut.writeBigUInt64LE(0x2000_0000n + BigInt(length), 8);
    variants.push(cut);
  }
  await sendUdp(a, '10.9.0.2', 51_840, variants);
  // As one frame they are looked at one by one only where they are opened.
  sendUdpTogether(
    a,
    '10.9.0.2',
    51_840,
    Array.from({ length: 20 }, () => sample),
  );
  await sleep(300);
  const after = await lab.hosts.b.stats();
  const [was] = before.peers;
  const [is] = after.peers;
  const replayed = (is?.refused.replayed ?? 0) - (was?.refused.replayed ?? 0);
  t.ok(replayed >= captured.length * 5 + 20, `${replayed} replays were noticed`);
  t.ok((is?.refused.forged ?? 0) > (was?.refused.forged ?? 0), 'forgeries were noticed');
  t.ok(after.refused.unknown > before.refused.unknown, 'foreign receiver indexes were noticed');
  t.ok(after.refused.foreign > before.refused.foreign, 'what is no datagram of ours was noticed');
  t.equal(is?.received.packets, was?.received.packets, 'nothing was delivered');
  t.equal(is?.endpoint, was?.endpoint, 'the endpoint did not move');
  t.match(await ping(a, INSIDE.b.v4), { received: 3 }, 'the tunnel goes on');
});

t.test('50,000 bad datagrams are refused beside traffic that goes on', (t) => checkFlood(t, 50_000, 1_000));
