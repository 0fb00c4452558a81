/** DSCP and ECN through the tunnel (RFC 6040), end to end. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { INSIDE, makeLab, PORT } from './lab.ts';
import { comesThrough, ECHO_PORT, serve } from './traffic.ts';
import { captureIpv4Udp, sendUdp } from './wire.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

/** Expedited forwarding; the two low bits are ECN. */
const EF = 0xb8;
const ECT0 = 2;
const CE = 3;

t.test('a mark made on the way reaches the far end, or the packet does not', async (t) => {
  const lab = await makeLab(t);
  const { a, b } = lab.spaces;
  await serve(t, b);
  t.ok(await comesThrough(a, INSIDE.b.v4));
  const carried = async (tos: number) => {
    const capture = captureIpv4Udp(b);
    await sendUdp(a, INSIDE.b.v4, ECHO_PORT, [Buffer.from('one'), Buffer.from('two')], tos);
    await sleep(500);
    const all = await capture.stop();
    const of = (port: number) => all.filter(({ toPort }) => toPort === port).map((one) => one.tos);
    return { outer: of(PORT), inner: of(ECHO_PORT) };
  };

  for (const tos of [0, EF, EF | ECT0, 1]) {
    const { outer, inner } = await carried(tos);
    t.ok(outer.includes(tos), `outside as inside: ${tos}`);
    t.strictSame(inner, [tos, tos], 'and inside as it was sent');
  }

  await b.exec(
    'nft',
    'add table ip wire; add chain ip wire in { type filter hook prerouting priority -300; }',
  );
  await b.exec('nft', `add rule ip wire in iifname wire0 udp dport ${PORT} ip ecn set ce`);
  t.strictSame((await carried(EF | ECT0)).inner, [EF | CE, EF | CE], 'congestion outside is told inside');
  t.strictSame((await carried(EF)).inner, [], 'to one that cannot tell it on, by loss');
  const [stats] = (await lab.hosts.b.stats()).peers;
  t.ok((stats?.refused.congested ?? 0) >= 2, 'and counted');
});

t.test('packets that leave together each have their own marks outside', async (t) => {
  // Held back, so that many are sent at a time.
  const lab = await makeLab(t, { limitBitsPerSecond: 20_000_000 });
  const { a, b } = lab.spaces;
  await serve(t, b);
  t.ok(await comesThrough(a, INSIDE.b.v4));
  const capture = captureIpv4Udp(b);
  const payloads = Array.from({ length: 100 }, () => Buffer.alloc(500));
  await sendUdp(a, INSIDE.b.v4, ECHO_PORT, payloads, [EF, EF | ECT0]);
  await sleep(500);
  const all = await capture.stop();
  for (const tos of [EF, EF | ECT0])
    for (const port of [PORT, ECHO_PORT]) {
      const marked = all.filter((one) => one.toPort === port && one.tos === tos);
      t.equal(marked.length, 50, `to port ${port} with ${tos}`);
    }
});
