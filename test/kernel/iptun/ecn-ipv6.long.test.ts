/** DSCP and ECN through the tunnel (RFC 6040), IPv6 inside and outside, end to end. */
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { INSIDE, makeLab, PORT } from './lab.ts';
import { comesThrough } from './traffic.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

const EF = 0xb8;
const ECT0 = 2;
const PINGS = 3;

const COUNTERS = `
table ip6 marks {
  counter outer_ef_ect0 {}
  counter inner_ef_ect0 {}
  counter inner_ef_ce {}
  chain in {
    type filter hook prerouting priority -310
    iifname "wire0" udp dport ${PORT} ip6 dscp ef ip6 ecn ect0 counter name outer_ef_ect0
    iifname "arctun0" icmpv6 type echo-request ip6 dscp ef ip6 ecn ect0 counter name inner_ef_ect0
    iifname "arctun0" icmpv6 type echo-request ip6 dscp ef ip6 ecn ce counter name inner_ef_ce
  }
  chain congest {
    type filter hook prerouting priority -300
  }
}`;

t.test('marks of IPv6 travel in IPv6', async (t) => {
  const lab = await makeLab(t, { outside: 'ipv6' });
  const { a, b } = lab.spaces;
  t.ok(await comesThrough(a, INSIDE.b.v6));
  await b.exec('nft', COUNTERS);
  const counted = async (name: string): Promise<number> =>
    Number(/packets (\d+)/.exec(await b.exec('nft', 'list', 'counter', 'ip6', 'marks', name))?.[1]);
  const ping = async (tos: number): Promise<boolean> => {
    const count = ['-c', String(PINGS), '-i', '0.2', '-W', '2'];
    return a.exec('ping', ...count, '-Q', String(tos), INSIDE.b.v6).then(
      () => true,
      () => false,
    );
  };

  t.ok(await ping(EF | ECT0));
  t.ok((await counted('outer_ef_ect0')) >= PINGS, 'outside as inside');
  t.equal(await counted('inner_ef_ect0'), PINGS, 'and inside as it was sent');

  await b.exec('nft', `add rule ip6 marks congest iifname wire0 udp dport ${PORT} ip6 ecn set ce`);
  t.ok(await ping(EF | ECT0));
  t.equal(await counted('inner_ef_ce'), PINGS, 'congestion outside is told inside');
  t.notOk(await ping(EF), 'to one that cannot tell it on, by loss');
  t.equal(await counted('inner_ef_ce'), PINGS);
  const [stats] = (await lab.hosts.b.stats()).peers;
  t.ok((stats?.refused.congested ?? 0) >= PINGS, 'and counted');
});
