import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { INSIDE, makeLab } from './lab.ts';
import { comesThrough, ping, serve, tcpTransfer, udpEchoes } from './traffic.ts';
import { captureUdp, sendUdp } from './wire.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

for (const outside of ['ipv4', 'ipv6'] as const)
  t.test(`over ${outside}, packets of every size and protocol arrive as they were sent`, async (t) => {
    const lab = await makeLab(t, { outside });
    await serve(t, lab.spaces.b);
    const { a } = lab.spaces;
    for (const address of [INSIDE.b.v4, INSIDE.b.v6]) {
      const sizes = [0, 1, 56, 1372, 1400, 3000, 9000];
      t.match(
        await ping(a, address, { sizes, count: sizes.length }),
        { received: sizes.length, bad: 0 },
        `ping ${address}`,
      );
      const datagrams = await udpEchoes(a, address, 3_000);
      t.equal(datagrams.bad, 0, `no datagram through ${address} was changed`);
      t.ok(
        datagrams.received >= datagrams.sent * 0.98,
        `datagrams through ${address}: ${datagrams.received}`,
      );
      t.match(await tcpTransfer(a, address, 64), { same: true }, `TCP through ${address}`);
    }
    t.match(
      await ping(a, INSIDE.b.v4, { size: 1472, dontFragment: true }),
      { received: 0 },
      'what may not be cut and is too long does not pass',
    );
    const [stats] = (await lab.hosts.a.stats()).peers;
    t.match(stats, {
      lost: 0,
      mtu: outside === 'ipv4' ? 1436 : 1416,
      dropped: { unready: 0, limit: 0 },
      refused: { replayed: 0, forged: 0, malformed: 0, undelivered: 0 },
    });
  });

t.test('keys change under traffic and nothing is lost', async (t) => {
  const lab = await makeLab(t, { rekeyAfterMs: 1_000 });
  await serve(t, lab.spaces.b);
  const flow = udpEchoes(lab.spaces.a, INSIDE.b.v4, 6_000, 1_000);
  await sleep(2_000);
  await lab.agree();
  const { sent, received, bad } = await flow;
  t.equal(bad, 0);
  t.ok(received >= sent * 0.995, `${received} of ${sent} echoes`);
  const [stats] = (await lab.hosts.a.stats()).peers;
  t.ok((stats?.epoch ?? 0) >= 1, 'the key in use is a later one');
  t.equal(stats?.refused.forged, 0);
});

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
  for (let length = 0; length < sample.length; length += 1) variants.push(sample.subarray(0, length));
  await sendUdp(a, '10.9.0.2', 51_840, variants);
  await sleep(300);
  const after = await lab.hosts.b.stats();
  const [was] = before.peers;
  const [is] = after.peers;
  t.ok((is?.refused.replayed ?? 0) > (was?.refused.replayed ?? 0), 'replays were noticed');
  t.ok((is?.refused.forged ?? 0) > (was?.refused.forged ?? 0), 'forgeries were noticed');
  t.ok(after.refused.unknown > before.refused.unknown, 'foreign receiver indexes were noticed');
  t.ok(after.refused.foreign > before.refused.foreign, 'what is no datagram of ours was noticed');
  t.equal(is?.received.packets, was?.received.packets, 'nothing was delivered');
  t.equal(is?.endpoint, was?.endpoint, 'the endpoint did not move');
  t.match(await ping(a, INSIDE.b.v4), { received: 3 }, 'the tunnel goes on');
});

t.test('a host that is killed and comes back is in touch again', async (t) => {
  const lab = await makeLab(t);
  t.match(await ping(lab.spaces.a, INSIDE.b.v4), { received: 3 });
  await lab.restart('b');
  t.match(
    await ping(lab.spaces.a, INSIDE.b.v4, { count: 1 }),
    { received: 0 },
    'without keys there is silence',
  );
  await lab.agree();
  t.ok(await comesThrough(lab.spaces.a, INSIDE.b.v4));
  t.match(await ping(lab.spaces.a, INSIDE.b.v4), { received: 3 });
  t.match(await ping(lab.spaces.b, INSIDE.a.v6), { received: 3 });
});

t.test('a peer that moves to another address is followed once it has proved itself', async (t) => {
  const lab = await makeLab(t);
  const { a } = lab.spaces;
  t.match(await ping(a, INSIDE.b.v4), { received: 3 });
  await a.exec('ip', 'address', 'add', '10.9.0.77/24', 'dev', 'wire0');
  await a.exec('ip', 'route', 'replace', '10.9.0.0/24', 'dev', 'wire0', 'src', '10.9.0.77');
  t.match(await ping(a, INSIDE.b.v4), { received: 3 });
  const [stats] = (await lab.hosts.b.stats()).peers;
  t.equal(stats?.endpoint, '10.9.0.77:51840');
});

t.test('the path MTU is followed in mid-flow', async (t) => {
  const lab = await makeLab(t);
  await serve(t, lab.spaces.b);
  const { a, b } = lab.spaces;
  t.match(await tcpTransfer(a, INSIDE.b.v4, 16), { same: true });
  const flow = tcpTransfer(a, INSIDE.b.v4, 128);
  await a.exec('ip', 'link', 'set', 'wire0', 'mtu', '1400');
  await b.exec('ip', 'link', 'set', 'wire0', 'mtu', '1400');
  t.match(await flow, { same: true });
  await sleep(6_000);
  const [stats] = (await lab.hosts.a.stats()).peers;
  t.equal(stats?.mtu, 1336);
  t.match(await a.exec('ip', 'link', 'show', 'arctun0'), /mtu 1336/);
  t.match(await ping(a, INSIDE.b.v4, { size: 1300 }), { received: 3 });
  t.match(await tcpTransfer(a, INSIDE.b.v6, 16), { same: true });
});

t.test('a bandwidth limit holds what is sent, without cutting TCP short', async (t) => {
  const lab = await makeLab(t, { limitBitsPerSecond: 50_000_000 });
  await serve(t, lab.spaces.b);
  const { same, megabitsPerSecond } = await tcpTransfer(lab.spaces.a, INSIDE.b.v4, 24);
  t.ok(same);
  t.ok(megabitsPerSecond <= 52, `${megabitsPerSecond} Mbit/s of 50 at most`);
  t.ok(megabitsPerSecond >= 35, `${megabitsPerSecond} Mbit/s of 50 used`);
});

t.test('an engine that is stopped leaves no device and no port', async (t) => {
  const lab = await makeLab(t);
  await lab.hosts.a.call({ verb: 'stop' });
  t.notMatch(await lab.spaces.a.exec('ip', '-br', 'link'), /arctun/);
  t.notMatch(await lab.spaces.a.exec('cat', '/proc/net/udp6'), /:CA80 /);
  t.match(await ping(lab.spaces.b, INSIDE.a.v4, { count: 1 }), { received: 0 });
});
