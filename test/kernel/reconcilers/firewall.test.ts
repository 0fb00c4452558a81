/** The ruleset on the real kernel, judged by packets and by independent readers. */
import { spawn } from 'node:child_process';
import { createServer, isIPv6 } from 'node:net';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import t, { type Test } from 'tap';
import { MARK } from '../../../projections/desired/contract.ts';
import { compareRoutes, prefixLength } from '../../../projections/desired/precedence.ts';
import { loadAddon } from '../../../src/native/addon.ts';
import { openListener } from '../../../src/native/transparent.ts';
import { mayMakeNamespaces } from '../netns.ts';
import { desiredOf, firewallOf, LISTEN_PORT, makeLab, type RouteSpec, routeViews } from './lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

/** Runs a script inside a namespace, with what it prints. */
function start(t: Test, netns: { readonly prefix: readonly string[] }, code: string) {
  const child = spawn('ip', [...netns.prefix, process.execPath, '-e', code]);
  t.teardown(() => child.kill('SIGKILL'));
  let seen = '';
  child.stdout.on('data', (data) => {
    seen += String(data);
  });
  const until = async (text: string): Promise<string> => {
    for (let tries = 0; !seen.includes(text) && tries < 300; tries += 1)
      await new Promise((done) => setTimeout(done, 10));
    return seen;
  };
  return { child, until };
}

t.test('a route captures forwarded and own connections, over IPv4 and IPv6, and nothing else', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await lab.startEngine();
  const specs: RouteSpec[] = [
    { service: 1, source: null, dest: '172.16.0.0/16' },
    { service: 2, source: null, dest: 'fd77:1::/32' },
  ];
  t.ok((await pass(desiredOf(specs))).length > 0);
  t.strictSame(await pass(), [], 'a second pass finds everything in place');

  for (const [who, netns, four, six] of [
    ['forwarded', lab.client, '192.168.3.4', 'fd55::3'],
    ['own', lab.router, '10.2.0.1', 'fd02::1'],
  ] as const) {
    t.equal(await lab.ask(netns, four, '172.16.9.9'), `service 1 of ${four} to 172.16.9.9`, `${who} IPv4`);
    t.equal(await lab.ask(netns, six, 'fd77:1::9'), `service 2 of ${six} to fd77:1::9`, `${who} IPv6`);
    t.equal(await lab.ask(netns, four, '172.17.9.9'), 'direct', `${who}, no route`);
    t.equal(await lab.ask(netns, six, 'fd77:2::9'), 'direct', `${who}, no route, IPv6`);
  }
  t.equal(
    await lab.ask(lab.router, '10.2.0.1', '172.16.9.9', { mark: MARK.own }),
    'direct',
    'the agent itself is never captured',
  );
});

t.test('what is addressed to the host itself is never captured, whatever the routes say', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await lab.startEngine();
  await pass(
    desiredOf(
      [
        { service: 1, source: null, dest: '0.0.0.0/0' },
        { service: 2, source: '::/0', dest: null },
      ],
      { 3: 'lan0' },
    ),
  );
  await lab.serve(lab.router, 'the host itself');
  for (const [source, own, elsewhere] of [
    ['10.1.0.2', '10.1.0.1', '172.16.1.1'],
    ['fd01::2', 'fd01::1', 'fd77::1'],
    ['192.168.3.4', '10.2.0.1', '172.16.1.1'],
  ] as const) {
    t.equal(await lab.ask(lab.client, source, own), 'the host itself', 'and neither are its answers');
    t.equal(
      await lab.ask(lab.client, source, elsewhere),
      `service 3 of ${source} to ${elsewhere}`,
      'arrival on the interface of a service comes before routes',
    );
  }
});

t.test('real packets follow the order of evaluation', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await lab.startEngine();
  const inside = (address: string, cidr: string | null): boolean => {
    if (cidr === null) return true;
    const ip = ipaddr.parse(address);
    const [net, length] = ipaddr.parseCIDR(cidr);
    return ip.kind() === net.kind() && ip.match(net, length);
  };
  const pick = fc.constantFrom;
  const route = fc
    .record({
      service: fc.integer({ min: 1, max: 9 }),
      source: pick(
        null,
        '192.168.0.0/16',
        '192.168.0.0/17',
        '192.168.1.0/24',
        '192.168.1.128/25',
        '192.168.1.200/32',
      ),
      dest: pick(
        null,
        '172.16.0.0/12',
        '172.16.0.0/16',
        '172.16.1.0/24',
        '172.16.1.64/26',
        '172.16.1.77/32',
        '0.0.0.0/0',
      ),
      priority: pick(1, 2),
    })
    .filter((one) => one.source !== null || one.dest !== null);
  const route6 = fc
    .record({
      service: fc.integer({ min: 1, max: 9 }),
      source: pick(null, 'fd55::/16', 'fd55::/64', 'fd55::200/120', 'fd55::2c8/128'),
      dest: pick(null, 'fd77::/16', 'fd77::/48', 'fd77::100/121', '::/0'),
      priority: pick(1, 2),
    })
    .filter((one) => one.source !== null || one.dest !== null);
  const specs = fc.tuple(
    fc.array(route, { minLength: 5, maxLength: 25 }),
    fc.array(route6, { minLength: 5, maxLength: 25 }),
  );
  let asked = 0;
  for (const [four, six] of fc.sample(specs, 6)) {
    const routes = [...four, ...six];
    await pass(desiredOf(routes));
    const views = routeViews(routes);
    const packets = [
      ...['192.168.1.200', '192.168.1.130', '192.168.1.1', '192.168.2.1', '192.168.200.1'].flatMap((source) =>
        ['172.16.1.77', '172.16.1.70', '172.16.1.1', '172.16.2.1', '172.20.1.1'].map(
          (dest) => [source, dest] as const,
        ),
      ),
      ...['fd55::2c8', 'fd55::201', 'fd55::1', 'fd55:1::1'].flatMap((source) =>
        ['fd77::101', 'fd77::1', 'fd77:0:1::1'].map((dest) => [source, dest] as const),
      ),
    ];
    const answers = await Promise.all(
      packets.map(async ([source, dest]) => ({
        source,
        dest,
        answer: await lab.ask(lab.client, source, dest),
      })),
    );
    for (const { source, dest, answer } of answers) {
      const [best] = views
        .filter((view) => inside(source, view.source_cidr) && inside(dest, view.dest_cidr))
        .filter((view) => isIPv6(source) === (view.source_cidr ?? view.dest_cidr ?? '').includes(':'))
        .map((view) => ({
          ...view,
          source_length: view.source_cidr === null ? null : prefixLength(view.source_cidr),
          dest_length: view.dest_cidr === null ? null : prefixLength(view.dest_cidr),
        }))
        .sort(compareRoutes);
      const expected = best
        ? `service ${Number(best.service_id.slice(4))} of ${source} to ${dest}`
        : 'direct';
      asked += 1;
      if (answer !== expected)
        t.equal(answer, expected, `${source} -> ${dest} with ${JSON.stringify(routes)}`);
    }
  }
  t.ok(asked >= 200, `${asked} connections`);
});

t.test('without the engine forwarded connections go directly; in order or not', async (t) => {
  const lab = await makeLab(t);
  const { pass, reconciler } = firewallOf(lab);
  await pass(desiredOf([{ service: 1, source: null, dest: '172.16.0.0/16' }]));
  t.equal(await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'), 'direct', 'killed: no listener');
  await reconciler.cleanup('shutdown');
  t.equal(await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'), 'direct', 'stopped');
  t.equal(await lab.ask(lab.router, '10.2.0.1', '172.16.9.9'), 'direct', 'stopped: own connections too');
  t.notMatch(await lab.router.exec('nft', 'list', 'table', 'inet', 'arctic'), /tproxy/);
  await lab.startEngine();
  t.ok((await pass()).length > 0);
  t.match(await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'), /^service 1/);
});

t.test('a connection that was there before its route stays where it is', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await lab.startEngine();
  await pass(desiredOf([{ service: 1, source: null, dest: '172.20.0.0/16' }]));
  for (const [what, from, source, to, dest] of [
    ['forwarded', lab.client, '10.1.0.2', lab.server, '172.16.9.9'],
    ['own', lab.router, '10.2.0.1', lab.server, '172.16.9.9'],
    ['answered by the host', lab.client, '10.1.0.2', lab.router, '10.1.0.1'],
  ] as const) {
    const echo = start(
      t,
      to,
      `require('node:net').createServer((s) => s.pipe(s)).listen(9000, () => console.log('ready'))`,
    );
    await echo.until('ready');
    const client = start(
      t,
      from,
      `const s = require('node:net').connect({ host: '${dest}', port: 9000, localAddress: '${source}' });
       s.on('data', (d) => process.stdout.write(d));
       s.on('error', (e) => process.stdout.write(e.code));
       process.stdin.on('data', (d) => s.write(d));`,
    );
    client.child.stdin?.write('one');
    t.equal(await client.until('one'), 'one', what);
    await pass(desiredOf([{ service: 1, source: null, dest: '0.0.0.0/0' }]));
    client.child.stdin?.write('two');
    t.equal(await client.until('two'), 'onetwo', what);
    t.match(
      await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'),
      /^service 1/,
      'a new one takes the route',
    );
    await pass(desiredOf([{ service: 1, source: null, dest: '172.20.0.0/16' }]));
    echo.child.kill('SIGKILL');
  }
});

t.test('a captured connection carries a lot of data both ways', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await pass(desiredOf([{ service: 1, source: null, dest: '172.16.0.0/16' }]));
  const engine = openListener(loadAddon(), {
    address: '0.0.0.0',
    port: LISTEN_PORT,
    transparent: true,
    netnsPath: lab.router.path,
  });
  const server = createServer((socket) => socket.pipe(socket)).listen({ fd: engine });
  t.teardown(() => server.close());
  for (const [what, from, source] of [
    ['forwarded', lab.client, '10.1.0.2'],
    ['own', lab.router, '10.2.0.1'],
  ] as const) {
    const client = start(
      t,
      from,
      `const s = require('node:net').connect({ host: '172.16.9.9', port: 80, localAddress: '${source}' });
       let seen = 0; const chunk = Buffer.alloc(1 << 20, 7);
       for (let i = 0; i < 16; i += 1) s.write(chunk);
       s.end();
       s.on('data', (d) => { seen += d.length; });
       s.on('error', (e) => process.stdout.write(e.code));
       s.on('end', () => process.stdout.write('seen ' + seen + ' end'));`,
    );
    t.equal(await client.until('end'), `seen ${16 << 20} end`, what);
  }
});

t.test('an exit that speaks as the client gets the answers, though the address is not its own', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  const desired = desiredOf([]);
  const speak = (source: string, dest: string): Promise<string> =>
    lab.ask(lab.router, source, dest, { mark: MARK.own });
  await pass({ ...desired, transparent_exit: true });
  t.equal(await speak('192.168.3.4', '172.16.9.9'), 'direct');
  t.equal(await speak('fd55::3', 'fd77::9'), 'direct');
  t.equal(await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'), 'direct', 'and takes nothing from others');

  await lab.serve(lab.router, 'on the exit');
  for (const address of ['10.2.0.1', '10.1.0.1'])
    t.equal(await speak('192.168.3.4', address), 'on the exit', `a server on the exit, at ${address}`);
  t.equal(await speak('fd55::3', 'fd02::1'), 'on the exit', 'over IPv6');
  t.equal(
    await lab.ask(lab.client, '192.168.3.4', '10.2.0.1'),
    'on the exit',
    'which answers others as before',
  );
  t.equal(await lab.ask(lab.router, '10.2.0.1', '10.2.0.1'), 'on the exit', 'and its own host');
  await lab.kernel.sysctl.write('net.ipv4.tcp_fwmark_accept', '0');
  t.equal(await speak('192.168.3.4', '10.2.0.1'), 'on the exit', 'where accepted sockets inherit no mark');
});

t.test('changes are told in words and applied one element at a time', async (t) => {
  const lab = await makeLab(t);
  const { pass, reconciler, state } = firewallOf(lab);
  const first: RouteSpec[] = [
    { service: 1, source: '192.168.0.0/16', dest: '172.16.0.0/16' },
    { service: 1, source: null, dest: '172.18.0.0/16' },
  ];
  await pass(desiredOf(first));
  state.desired = desiredOf([...first, { service: 2, source: null, dest: '172.19.0.0/16' }]);
  const plan = reconciler.plan(state.desired, await reconciler.observe());
  t.match(plan.tables, [{ kind: 'change' }]);
  t.match(plan.differences, [
    { item: 'route 3 of name-of-2: any -> 172.19.0.0/16', desired: 'to name-of-2', observed: null },
  ]);
  await reconciler.apply(plan);
  t.strictSame(await pass(), []);
  t.match(await pass(desiredOf(first.slice(0, 1))), ['chain sel4 rule "ipv4 destination /16"', 'map m4_d16']);
  t.strictSame(await pass(), []);
  t.match(await pass(desiredOf([])), [
    /ip rule/,
    /ip rule/,
    /ip rule/,
    /ip rule/,
    /route local/,
    /route local/,
    /table/,
  ]);
  t.notMatch(await lab.router.exec('nft', 'list', 'ruleset'), /arctic/);
  t.notMatch(await lab.router.exec('ip', 'rule'), /4100/);
});

t.test(
  'a service that says reject is refused when nothing takes its connections; others go directly',
  async (t) => {
    const lab = await makeLab(t);
    const { pass } = firewallOf(lab, { firewallOwner: true });
    const specs: RouteSpec[] = [
      { service: 1, source: null, dest: '172.16.0.0/16' },
      // More specific, of a service that says direct: it keeps its precedence.
      { service: 2, source: null, dest: '172.16.5.0/24' },
      { service: 1, source: 'fd55::/16', dest: 'fd77::/16' },
      { service: 2, source: null, dest: '172.17.0.0/16' },
    ];
    const desired = desiredOf(specs, {}, [1]);
    await pass(desired);
    t.strictSame(await pass(), []);
    const engine = await lab.startEngine();
    t.match(await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'), /^service 1/);
    t.match(await lab.ask(lab.router, '10.2.0.1', '172.16.9.9'), /^service 1/);
    t.match(await lab.ask(lab.client, '192.168.3.4', '172.16.5.9'), /^service 2/);
    t.match(await lab.ask(lab.client, 'fd55::3', 'fd77::9'), /^service 1/);
    await engine.close();
    const refusedEverywhere = async (when: string): Promise<void> => {
      t.equal(await lab.ask(lab.client, '192.168.3.4', '172.16.9.9'), 'ECONNREFUSED', when);
      t.equal(await lab.ask(lab.client, 'fd55::3', 'fd77::9'), 'ECONNREFUSED', `${when}, IPv6`);
      t.equal(
        await lab.ask(lab.router, '10.2.0.1', '172.16.9.9'),
        'ECONNREFUSED',
        `${when}, own connections`,
      );
      t.equal(await lab.ask(lab.client, '192.168.3.4', '172.16.5.9'), 'direct', `${when}, more specific`);
      t.equal(await lab.ask(lab.client, '192.168.3.4', '172.17.9.9'), 'direct', `${when}, other service`);
      t.equal(await lab.ask(lab.client, '192.168.3.4', '172.18.9.9'), 'direct', `${when}, no route`);
      t.equal(
        await lab.ask(lab.router, '10.2.0.1', '172.16.9.9', { mark: MARK.own }),
        'direct',
        `${when}, the agent`,
      );
    };
    await refusedEverywhere('no listener');
    // What a kill does to the sockets.
    await lab.kernel.stop();
    t.equal(
      (await lab.router.exec('nft', 'list', 'tables')).trim(),
      'table inet arctic_guard',
      'the capturing table is gone, the guard stays',
    );
    await refusedEverywhere('agent dead');
    t.equal(await lab.ask(lab.router, '10.2.0.1', '172.17.9.9'), 'direct', 'own connection, direct');

    await lab.kernel.start();
    const again = firewallOf(lab, { firewallOwner: true });
    t.ok((await again.pass(desired)).includes('table inet arctic_guard flags'), 'taken over');
    t.strictSame(await again.pass(), []);
    await t.rejects(lab.router.exec('nft', 'delete', 'table', 'inet', 'arctic_guard'), /not permitted/);
    await again.pass(desiredOf(specs));
    t.equal(
      (await lab.router.exec('nft', 'list', 'tables')).trim(),
      'table inet arctic',
      'nothing to refuse',
    );
  },
);

t.test('an uninstall leaves nothing, and puts kernel parameters back', async (t) => {
  const lab = await makeLab(t);
  const { pass, reconciler } = firewallOf(lab);
  const before = {
    rules: await lab.router.exec('ip', 'rule'),
    rules6: await lab.router.exec('ip', '-6', 'rule'),
    accept: await lab.kernel.sysctl.read('net.ipv4.tcp_fwmark_accept'),
  };
  await pass(desiredOf([{ service: 1, source: null, dest: '172.16.0.0/16' }]));
  t.equal(await lab.kernel.sysctl.read('net.ipv4.tcp_fwmark_accept'), '1');
  await reconciler.cleanup('all');
  t.equal((await lab.router.exec('nft', 'list', 'ruleset')).trim(), '');
  t.equal(await lab.router.exec('ip', 'rule'), before.rules);
  t.equal(await lab.router.exec('ip', '-6', 'rule'), before.rules6);
  t.equal((await lab.router.exec('ip', 'route', 'show', 'table', 'all')).includes('4100'), false);
  t.equal(await lab.kernel.sysctl.read('net.ipv4.tcp_fwmark_accept'), before.accept);
  await reconciler.cleanup('all');
});

t.test('the maps are what an independent reader sees', async (t) => {
  const lab = await makeLab(t);
  const { pass } = firewallOf(lab);
  await pass(
    desiredOf([
      { service: 5, source: '192.168.1.0/24', dest: '172.16.0.0/16' },
      { service: 6, source: null, dest: 'fd77::/16' },
    ]),
  );
  const parsed = JSON.parse(await lab.router.exec('nft', '-j', 'list', 'table', 'inet', 'arctic')) as {
    nftables: { map?: { name: string; elem?: unknown[] } }[];
  };
  const maps = Object.fromEntries(parsed.nftables.flatMap(({ map }) => (map ? [[map.name, map.elem]] : [])));
  t.strictSame(maps, {
    m4_s24_d16: [[{ concat: ['192.168.1.0', '172.16.0.0'] }, MARK.service | 5]],
    m6_d16: [['fd77::', MARK.service | 6]],
  });
});
