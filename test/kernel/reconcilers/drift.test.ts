/** The whole inner loop on the real kernel: log, projections, runner, rules; and what others do to them. */

import t, { type Test } from 'tap';
import { systemClock } from '../../../events/clock.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import { createProjections } from '../../../projections/runner.ts';
import { type Kernel, KernelError } from '../../../src/kernel/contract.ts';
import { History, peer } from '../../unit/projections/history.ts';
import { MemoryLog } from '../../unit/projections/memory-log.ts';
import { createKernelReconcilers } from '../../unit/reconcilers/kernel-reconcilers.ts';
import { mayMakeNamespaces } from '../netns.ts';
import { desiredOf, firewallOf, type Lab, makeLab, type RouteSpec } from './lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

/** Waits for something that has to come; a test that waits in vain fails by what it checks next. */
async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function running(t: Test, lab: Lab) {
  const log = new MemoryLog();
  const history = new History();
  const recorded: AnyNewEvent[] = [];
  const projections = createProjections({ localPeer: peer(1) }, { log, clock: systemClock });
  projections.start();
  t.teardown(() => projections.stop());
  const reconcilers = createKernelReconcilers({
    kernel: lab.kernel,
    projections,
    record: (events) => void recorded.push(...events),
  });
  await reconcilers.start();
  t.teardown(() => reconcilers.stop());
  /** Appends what the history has more than the log. */
  const append = (): void => log.append(history.events.slice(log.events.length));
  return { history, append, recorded, reconcilers, projections };
}

t.test('an append reaches the kernel; what others break comes back, with their name', async (t) => {
  const lab = await makeLab(t);
  const { history, append, recorded, reconcilers } = await running(t, lab);
  const nft = (...args: string[]): Promise<string> =>
    lab.router.exec('nft', ...args).catch((error) => String(error));
  history.member(1);
  history.member(2);
  const service = history.service(peer(1), 1, peer(1), peer(2), {
    requires_interface: true,
    desired_ipv4_cidr: '10.77.0.1/24',
  });
  history.route(peer(1), 1, service, null, '172.16.0.0/16');
  append();
  await until(async () => (await nft('list', 'map', 'inet', 'arctic', 'm4_d16')).includes('172.16.0.0'));
  t.match(await nft('list', 'table', 'inet', 'arctic'), /tproxy to :17000/);
  await until(async () => (await lab.router.exec('ip', 'addr')).includes('10.77.0.1/24'));
  t.match(await lab.router.exec('ip', '-d', 'link'), /svc_00000000000@lan0.*macvlan/s);
  await until(() => reconcilers.status().every((one) => one.state === 'applied'));
  await until(() => reconcilers.serviceStatus(service as never).firewall.state === 'applied');
  recorded.splice(0);

  await nft('flush', 'chain', 'inet', 'arctic', 'apply');
  await until(() => recorded.some((event) => event.type === 'drift.repaired'));
  t.match(await nft('list', 'chain', 'inet', 'arctic', 'apply'), /tproxy to :17000/);
  t.match(recorded[0], {
    type: 'drift.found',
    data: { reconciler: 'firewall', program: 'nft', pid: Number },
  });
  recorded.splice(0);

  await nft('flush', 'ruleset');
  await until(() => recorded.some((event) => event.type === 'drift.repaired'));
  t.match(await nft('list', 'table', 'inet', 'arctic'), /172\.16\.0\.0/);
  recorded.splice(0);

  await lab.router.exec('ip', 'link', 'delete', 'svc_00000000000');
  await until(() => recorded.some((event) => event.type === 'drift.repaired'));
  t.match(recorded[0], {
    type: 'drift.found',
    data: { reconciler: 'network', differences: [{ item: 'interface svc_00000000000' }] },
  });
  t.match(await lab.router.exec('ip', 'addr'), /10\.77\.0\.1\/24/);
  recorded.splice(0);

  await lab.router.exec('ip', 'rule', 'del', 'priority', '4100');
  await until(() => recorded.some((event) => event.type === 'drift.repaired'));
  t.match(await lab.router.exec('ip', 'rule'), /fwmark 0x41000000\/0xfff00000 lookup 4100/);
  t.strictSame(
    (await reconcilers.drift()).map((report) => report.differences),
    [[], []],
  );

  history.add(peer(1), 'service.deleted', service, {});
  append();
  await until(async () => !(await nft('list', 'tables')).includes('arctic'));
  await until(async () => !(await lab.router.exec('ip', 'link')).includes('svc_'));
  t.notMatch(await lab.router.exec('ip', 'rule'), /4100/);
  t.notMatch(await lab.router.exec('ip', 'link'), /svc_/);
});

/** The kernel through which a process makes `allowed` changes and dies. */
function dying(kernel: Kernel, allowed: number): Kernel {
  let left = allowed;
  const guard = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(held, name) {
        const value: unknown = Reflect.get(held, name);
        if (typeof value !== 'function') return value;
        const mutates = /^(replace|change|delete|add|create|set|write)/.test(String(name));
        return (...args: unknown[]) => {
          if (mutates) {
            if (left === 0) throw new KernelError('EKILLED', 0, String(name), 'the process is dead');
            left -= 1;
          }
          return Reflect.apply(value, held, args) as unknown;
        };
      },
    });
  return { ...kernel, nft: guard(kernel.nft), rt: guard(kernel.rt), sysctl: guard(kernel.sysctl) };
}

t.test('killed between any two requests, the next start ends where an undisturbed one does', async (t) => {
  const lab = await makeLab(t);
  const ip = (...args: string[]): Promise<string> => lab.router.exec('ip', ...args);
  const picture = async (): Promise<string> =>
    [
      await lab.router.exec('nft', 'list', 'ruleset'),
      await ip('rule'),
      await ip('-6', 'rule'),
      await ip('route', 'show', 'table', '4100').catch(() => ''),
      await ip('-6', 'route', 'show', 'table', '4100').catch(() => ''),
    ].join('\n');
  await lab.router.exec('nft', 'add', 'table', 'inet', 'theirs');
  await ip('rule', 'add', 'priority', '4000', 'fwmark', '9', 'lookup', 'main');

  const one: RouteSpec[] = [{ service: 1, source: null, dest: '172.16.0.0/16' }];
  const two: RouteSpec[] = [
    { service: 2, source: null, dest: '172.17.0.0/16' },
    { service: 2, source: 'fd55::/16', dest: null },
  ];
  const bare = await picture();
  const { pass } = firewallOf(lab);
  await pass(desiredOf(one));
  const first = await picture();
  await pass(desiredOf(two));
  const second = await picture();
  await pass(desiredOf([]));
  t.equal(await picture(), bare);

  let killed = 0;
  for (const [from, to, expected] of [
    [[], one, first],
    [one, two, second],
    [two, [], bare],
  ] as const) {
    for (let allowed = 0; ; allowed += 1) {
      await firewallOf(lab).pass(desiredOf(from));
      const doomed = firewallOf({ ...lab, kernel: dying(lab.kernel, allowed) });
      const died = await doomed.pass(desiredOf(to)).then(
        () => false,
        () => true,
      );
      await firewallOf(lab).pass(desiredOf(to));
      t.equal(await picture(), expected, `killed after ${allowed} requests`);
      if (!died) break;
      killed += 1;
    }
  }
  t.ok(killed >= 15, `killed ${killed} times`);
});

t.test('a kernel parameter that others change is put right, and told', async (t) => {
  const lab = await makeLab(t);
  const { history, append, recorded, reconcilers } = await running(t, lab);
  history.member(1);
  history.member(2);
  const service = history.service(peer(1), 1, peer(1), peer(2));
  history.route(peer(1), 1, service, null, '172.16.0.0/16');
  append();
  await until(() => reconcilers.serviceStatus(service as never).firewall.state === 'applied');
  const seen: string[] = [];
  t.teardown(lab.kernel.watch((notice) => seen.push(notice.subsystem)));
  recorded.splice(0);
  const path = '/proc/sys/net/ipv4/tcp_fwmark_accept';
  await lab.router.exec('sh', '-c', `echo 0 > ${path}`);
  await until(async () => (await lab.router.exec('cat', path)).trim() === '1');
  t.equal((await lab.router.exec('cat', path)).trim(), '1');
  await until(() => recorded.some((event) => event.type === 'drift.repaired'));
  t.match(
    recorded.find((event) => event.type === 'drift.found'),
    {
      data: {
        reconciler: 'firewall',
        differences: [{ item: 'sysctl net.ipv4.tcp_fwmark_accept', desired: '1', observed: '0' }],
      },
    },
  );

  // Forwarding is announced by the kernel itself; what is written here is no news.
  t.equal(await lab.kernel.sysctl.read('net.ipv4.ip_forward'), '1');
  await lab.kernel.sysctl.write('net.ipv4.ip_forward', '1');
  seen.splice(0);
  await lab.router.exec('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward');
  await until(() => seen.includes('sysctl'));
  t.ok(seen.includes('sysctl'));
});
