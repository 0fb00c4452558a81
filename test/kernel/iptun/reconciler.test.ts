import t from 'tap';
import { ARCTIC_PROTOCOL } from '../../../src/kernel/rt/schema.ts';
import { mayMakeNamespaces } from '../netns.ts';
import { CLIENT, desiredOf, ENTRY, makeReconcilerLab, NOTHING_DESIRED, SERVER } from './reconciler-lab.ts';
import { comesThrough, ping, serve, udpEchoes } from './traffic.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

t.test('what a route claims goes through the tunnel and leaves as the exit', async (t) => {
  const lab = await makeReconcilerLab(t);
  const { client, entry, exit, server } = lab.spaces;
  await serve(t, server);
  t.match(await ping(client, SERVER.v4, { count: 1 }), { received: 0 }, 'there is no other way');

  t.ok((await lab.reconcile('entry')).includes('table inet arctic_iptun'));
  await lab.reconcile('exit');
  for (const side of ['entry', 'exit'] as const)
    t.strictSame(await lab.reconcile(side), [], `${side} is settled after one pass`);
  await lab.agree();
  t.ok(await comesThrough(client, SERVER.v4));

  // Over IPv6 nobody cuts packets on the way: each sender loses one and is told what fits.
  for (const from of [client, entry]) await ping(from, SERVER.v6, { size: 4000, count: 1 });
  for (const address of [SERVER.v4, SERVER.v6]) {
    const sizes = [0, 56, 1300, 4000];
    t.match(
      await ping(client, address, { sizes, count: 4 }),
      { received: 4, bad: 0 },
      `client to ${address}`,
    );
    t.match(await ping(entry, address, { sizes, count: 4 }), { received: 4, bad: 0 }, `entry to ${address}`);
    const echoes = await udpEchoes(client, address, 1_000);
    t.equal(echoes.bad, 0);
    t.ok(echoes.received >= 980, `${echoes.received} of 1000 echoes`);
  }
  t.match(
    await ping(client, SERVER.v4, { size: 1450, dontFragment: true, count: 3 }),
    { received: 0, refused: /EMSGSIZE/ },
    'the client is told what size fits',
  );
  t.match(await ping(client, ENTRY.v4), { received: 3 }, 'the host itself is not captured');
  t.match(await ping(entry, CLIENT.v4), { received: 3 });

  const stats = (await lab.hosts.entry.stats()).peers[0];
  t.match(stats, { refused: { source: 0, undelivered: 0 }, dropped: { limit: 0 } });
  t.match(await lab.hosts.entry.call({ verb: 'serviceStatus', service: 'svc_lab' }), {
    state: 'applied',
    reason: /^handshake \d+ s ago, 10\.71\.2\.2:51840, \d+ B out, \d+ B in, \d+ lost$/,
  });
  t.match(await entry.exec('nft', 'list', 'table', 'inet', 'arctic_iptun'), /masquerade/);
  t.match(await exit.exec('ip', 'rule'), /4110:.*fwmark 0x41212345 lookup/);
});

t.test('what others change is put back, and what is no longer wanted goes', async (t) => {
  const lab = await makeReconcilerLab(t);
  const { client, entry } = lab.spaces;
  await serve(t, lab.spaces.server);
  await lab.reconcile('entry');
  await lab.reconcile('exit');
  await lab.agree();
  t.ok(await comesThrough(client, SERVER.v4));
  t.match(await ping(client, SERVER.v4), { received: 3 });

  await entry.exec('nft', 'delete', 'chain', 'inet', 'arctic_iptun', 'postrouting');
  t.ok((await lab.reconcile('entry')).some((item) => /chain postrouting/.test(item)));
  await entry.exec('ip', 'rule', 'del', 'priority', '4110');
  t.ok((await lab.reconcile('entry')).some((item) => /ip rule 4110 ipv4/.test(item)));
  const mark = String(0x412abcde);
  const proto = String(ARCTIC_PROTOCOL);
  await entry.exec('ip', 'route', 'add', SERVER.v4, 'dev', 'lo', 'table', mark, 'proto', proto);
  t.ok((await lab.reconcile('entry')).includes('route 0.0.0.0/0 table 0x412abcde'));
  t.notMatch(await entry.exec('ip', 'route', 'show', 'table', mark), /dev lo/);
  await entry.exec('nft', 'flush', 'map', 'inet', 'arctic_iptun', 'm4_d24');
  t.ok((await lab.reconcile('entry')).some((item) => /^route 1 of svc_lab: any -> /.test(item)));
  await entry.exec('ip', 'link', 'del', 'arctunabcde');
  t.ok((await lab.reconcile('entry')).includes('device arctunabcde'));
  await entry.exec('ip', 'link', 'set', 'arctunabcde', 'down');
  t.ok((await lab.reconcile('entry')).includes('device arctunabcde'));
  t.strictSame(await lab.reconcile('entry'), []);
  t.match(await ping(client, SERVER.v4), { received: 3 });

  t.not((await lab.reconcile('entry', NOTHING_DESIRED)).length, 0);
  t.strictSame(await lab.reconcile('entry', NOTHING_DESIRED), []);
  t.notMatch(await entry.exec('nft', 'list', 'tables'), /arctic_iptun/);
  t.notMatch(await entry.exec('ip', 'rule'), /4110/);
  t.notMatch(await entry.exec('ip', '-br', 'link'), /arctun/);

  // The keys were kept meanwhile: nothing is sent twice under one counter.
  await lab.reconcile('entry');
  t.ok(await comesThrough(client, SERVER.v4));
  t.match(await ping(client, SERVER.v4), { received: 3 }, 'a service that comes back is carried again');
  t.equal((await lab.hosts.exit.stats()).peers[0]?.refused.replayed, 0);

  await lab.hosts.entry.call({ verb: 'cleanup', scope: 'all' });
  t.notMatch(await entry.exec('nft', 'list', 'tables'), /arctic_iptun/);
  t.equal((await entry.exec('cat', '/proc/sys/net/ipv4/ip_forward')).trim(), '0', 'forwarding is as before');
});

t.test('a dead agent leaves a table that leads nowhere, and a new one takes it over', async (t) => {
  const lab = await makeReconcilerLab(t);
  const { client, entry } = lab.spaces;
  await lab.reconcile('entry');
  await lab.reconcile('exit');
  await lab.agree();
  t.ok(await comesThrough(client, SERVER.v4));
  t.match(await ping(client, SERVER.v4), { received: 3 });
  await lab.restart('entry');
  t.match(await entry.exec('nft', 'list', 'tables'), /arctic_iptun/, 'the table is still there');
  t.notMatch(await entry.exec('ip', '-br', 'link'), /arctun/, 'the device is not');
  t.match(
    await ping(entry, '10.71.2.2', { count: 1 }),
    { received: 1 },
    'what is marked goes by the main table',
  );
  await lab.reconcile('entry');
  await lab.agree();
  t.ok(await comesThrough(client, SERVER.v4));
  t.match(await ping(client, SERVER.v4), { received: 3 });
  t.match(await ping(client, SERVER.v6), { received: 3 });
});

t.test('an owned table outlasts what others flush, and goes with the agent', async (t) => {
  const lab = await makeReconcilerLab(t);
  const { client, entry } = lab.spaces;
  await lab.reconcile('entry', desiredOf('entry'), true);
  await lab.reconcile('exit');
  await lab.agree();
  t.ok(await comesThrough(client, SERVER.v4));
  await entry.exec('nft', 'flush', 'ruleset');
  t.match(await ping(client, SERVER.v4), { received: 3 }, 'a foreign flush passes it by');
  await lab.reconcile('entry', desiredOf('entry', 5));
  t.strictSame(await lab.reconcile('entry', desiredOf('entry', 5)), [], 'it stays as it is desired');
  await lab.restart('entry');
  t.notMatch(await entry.exec('nft', 'list', 'tables'), /arctic_iptun/);
});
