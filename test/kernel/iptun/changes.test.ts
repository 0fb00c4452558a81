import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { mayMakeNamespaces } from '../netns.ts';
import { INSIDE, makeLab } from './lab.ts';
import { comesThrough, ping, serve, tcpTransfer } from './traffic.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

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
