/** DSCP and ECN through the tunnel (RFC 6040), IPv6 inside and outside, end to end. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { INSIDE, makeLab, PORT } from './lab.ts';
import { comesThrough, ECHO_PORT, serve } from './traffic.ts';
import { sendUdp } from './wire.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

const EF = 0xb8;
const ECT0 = 2;
const COUNT = 3;

const COUNTERS = `
table ip6 marks {
  counter outer {}
  counter inner {}
  counter inner_ect0 {}
  counter inner_ce {}
  chain in {
    type filter hook prerouting priority -310
    iifname "wire0" udp dport ${PORT} ip6 dscp ef ip6 ecn ect0 counter name outer
    iifname "arctun0" udp dport ${ECHO_PORT} counter name inner
    iifname "arctun0" udp dport ${ECHO_PORT} ip6 dscp ef ip6 ecn ect0 counter name inner_ect0
    iifname "arctun0" udp dport ${ECHO_PORT} ip6 dscp ef ip6 ecn ce counter name inner_ce
  }
  chain congest {
    type filter hook prerouting priority -300
  }
}`;

/** At the sender: what was echoed. */
const ANSWERS = `
table ip6 marks {
  counter answers {}
  chain in {
    type filter hook prerouting priority -310
    iifname "arctun0" udp sport ${ECHO_PORT} counter name answers
  }
}`;

t.test('marks of IPv6 travel in IPv6', async (t) => {
  const lab = await makeLab(t, { outside: 'ipv6' });
  const { a, b } = lab.spaces;
  await serve(t, b);
  t.ok(await comesThrough(a, INSIDE.b.v6));
  await a.exec('nft', ANSWERS);
  await b.exec('nft', COUNTERS);
  const carried = async (tos: number): Promise<Readonly<Record<string, number>>> => {
    for (const end of [a, b]) await end.exec('nft', 'reset', 'counters', 'table', 'ip6', 'marks');
    // Apart, so that each has an outer one of its own.
    for (let sent = 0; sent < COUNT; sent += 1) {
      await sendUdp(a, INSIDE.b.v6, ECHO_PORT, [Buffer.from('one')], tos);
      await sleep(200);
    }
    await sleep(300);
    const lists = [a, b].map((end) => end.exec('nft', 'list', 'counters', 'table', 'ip6', 'marks'));
    const found = (await Promise.all(lists)).join('\n').matchAll(/counter (\w+) \{\s*packets (\d+)/g);
    return Object.fromEntries([...found].map(([, name, packets]) => [name, Number(packets)]));
  };

  const { outer, ...inside } = await carried(EF | ECT0);
  t.ok((outer ?? 0) >= COUNT, 'outside as inside');
  t.strictSame(
    inside,
    { answers: COUNT, inner: COUNT, inner_ect0: COUNT, inner_ce: 0 },
    'and inside as it was sent',
  );

  await b.exec('nft', `add rule ip6 marks congest iifname wire0 udp dport ${PORT} ip6 ecn set ce`);
  t.match(
    await carried(EF | ECT0),
    { answers: COUNT, inner: COUNT, inner_ce: COUNT },
    'congestion outside is told inside',
  );
  t.match(await carried(EF), { answers: 0, inner: 0 }, 'to one that cannot tell it on, by loss');
  const [stats] = (await lab.hosts.b.stats()).peers;
  t.ok((stats?.refused.congested ?? 0) >= COUNT, 'and counted');
});
