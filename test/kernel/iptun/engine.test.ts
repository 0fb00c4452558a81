import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { loadAddon } from '../../../src/native/addon.ts';
import { mayMakeNamespaces } from '../netns.ts';
import { INSIDE, makeLab } from './lab.ts';
import { ping, serve, tcpTransfer, udpEchoes } from './traffic.ts';

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

t.test('the hosts use AEGIS-128L where both have it, and what both have where one has not', async (t) => {
  const both = await makeLab(t);
  const one = await makeLab(t, { aegis: { a: false, b: true } });
  const fast = loadAddon().tunnelHasAegis() === 1 ? 'AEGIS-128L' : /AES-256-GCM|ChaCha20-Poly1305/;
  for (const [lab, aead] of [
    [both, fast],
    [one, /AES-256-GCM|ChaCha20-Poly1305/],
  ] as const) {
    t.match(await ping(lab.spaces.a, INSIDE.b.v4), { received: 3, bad: 0 });
    for (const host of [lab.hosts.a, lab.hosts.b]) t.match((await host.stats()).peers, [{ aead }]);
  }
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
