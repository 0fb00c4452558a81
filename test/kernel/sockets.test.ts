/** The netlink sockets when things go wrong: overruns, forged senders, lost acknowledgements, threads that end. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { KernelError, type KernelNotice, type NftElement } from '../../src/kernel/contract.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { findAddon, loadAddon, type NativeAddon } from '../../src/native/addon.ts';
import { hostInt, writeHost16, writeHost32 } from '../../src/native/byte-order.ts';
import { exampleTable, routeElements } from './compliance/example-table.ts';
import { makeNetns, type Netns } from './netns.ts';

const addon = loadAddon();
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_RCVBUF = 8;
const EPERM = 1;

async function namespaceOf(t: Test): Promise<Netns> {
  const netns = await makeNetns('sockets');
  t.teardown(() => netns.remove());
  return netns;
}

/** The add-on with some calls replaced. */
function addonWith(replaced: Partial<NativeAddon>): NativeAddon {
  return { ...addon, ...replaced };
}

/** Lets no socket have more than the least receive buffer. */
const smallBuffers = addonWith({
  setsockopt: (fd, level, option, value) => {
    if (level !== SOL_SOCKET || (option !== SO_RCVBUFFORCE && option !== SO_RCVBUF)) {
      return addon.setsockopt(fd, level, option, value);
    }
    return addon.setsockopt(fd, level, SO_RCVBUF, hostInt(2048));
  },
});

t.test('a watch that was overrun says so and goes on', async (t) => {
  const netns = await namespaceOf(t);
  const kernel = createKernel({ netnsPath: netns.path, addon: smallBuffers });
  await kernel.start();
  t.teardown(() => kernel.stop());
  let wake = () => {};
  const seen: KernelNotice[] = [];
  t.teardown(
    kernel.watch((notice) => {
      seen.push(notice);
      wake();
    }),
  );
  const until = async (condition: () => boolean) => {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  for (let round = 1; round <= 3; round += 1) {
    seen.length = 0;
    // Synchronous: nobody reads the socket while 500 routes come and go.
    const verb = round % 2 === 1 ? 'add' : 'del';
    const lines = Array.from(
      { length: 500 },
      (_, index) => `route ${verb} local 10.9.${index >> 8}.${index & 255} dev lo table 7`,
    );
    execFileSync('ip', ['-n', netns.name, '-batch', '-'], { input: lines.join('\n') });
    await until(() => seen.some((notice) => notice.overrun));
    t.strictSame(
      [...new Set(seen.filter((notice) => notice.overrun).map((notice) => notice.subsystem))],
      ['link', 'address', 'route', 'rule'],
      'all that this socket tells about may be lost',
    );
    seen.length = 0;
    await netns.exec('ip', 'rule', 'add', 'fwmark', String(round), 'lookup', '7');
    await until(() => seen.some((notice) => notice.subsystem === 'rule' && !notice.overrun));
    t.pass('and the next change is told');
  }
});

t.test('a transaction of any size by others is one notice, also with a small buffer', async (t) => {
  const netns = await namespaceOf(t);
  const kernel = createKernel({ netnsPath: netns.path, addon: smallBuffers });
  await kernel.start();
  t.teardown(() => kernel.stop());
  const seen: KernelNotice[] = [];
  let wake = () => {};
  t.teardown(
    kernel.watch((notice) => {
      seen.push(notice);
      wake();
    }),
  );
  const told = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const elements = Array.from({ length: 5000 }, (_, index) => `10.${index >> 8}.${index & 255}.1`).join(', ');
  const text = `table inet guest { set s { type ipv4_addr; elements = { ${elements} }; }; }`;
  execFileSync('ip', ['netns', 'exec', netns.name, 'nft', '-f', '-'], { input: text });
  await told;
  t.match(seen, [{ subsystem: 'nftables', program: 'nft', overrun: false }]);
  t.equal(seen.length, 1);
});

t.test('another program that commits during our own bulk commit is not missed', async (t) => {
  const netns = await namespaceOf(t);
  const meddling = addonWith({
    sendAsync: async (fd, bytes, flags) => {
      const sent = await addon.sendAsync(fd, bytes, flags);
      execFileSync('ip', ['netns', 'exec', netns.name, 'nft', 'add', 'table', 'inet', 'guest']);
      return sent;
    },
  });
  const kernel = createKernel({ netnsPath: netns.path, addon: meddling });
  await kernel.start();
  t.teardown(() => kernel.stop());
  const seen: KernelNotice[] = [];
  t.teardown(kernel.watch((notice) => seen.push(notice)));
  const { generation } = await kernel.nft.replaceTable(exampleTable(routeElements(5000)));
  t.match(seen, [{ subsystem: 'nftables', own: false, overrun: true }]);
  t.equal(await kernel.nft.generation(), generation + 1, 'the answer is the generation of our own commit');
});

t.test('answers that do not come from the kernel are not believed', async (t) => {
  const netns = await namespaceOf(t);
  const kernel = createKernel({ netnsPath: netns.path });
  await kernel.start();
  t.teardown(() => kernel.stop());
  // Forged refusals (NLMSG_ERROR, -EPERM) for the next hundred requests, sent to the port of our rtnetlink socket,
  // which is this process's id: the first socket of a process and protocol gets it.
  const forger = addon.socketInNamespace(netns.path, 16, 3, 0);
  t.teardown(() => addon.close(forger));
  const address = Buffer.alloc(12);
  writeHost16(address, 16, 0);
  writeHost32(address, process.pid, 4);
  t.equal(addon.connect(forger, address), 0);
  for (let sequence = 1; sequence <= 100; sequence += 1) {
    const forged = Buffer.alloc(36);
    writeHost32(forged, forged.length, 0);
    writeHost16(forged, 2, 4);
    writeHost32(forged, sequence, 8);
    writeHost32(forged, -EPERM, 16);
    t.equal(addon.send(forger, forged, 0), forged.length);
  }
  await kernel.rt.addRule({ family: 'ipv4', priority: 9, table: 9, fwmark: 9 });
  t.ok((await kernel.rt.rules('ipv4')).some((rule) => rule.priority === 9));
});

t.test('an acknowledgement that is lost is reported as unknown, not as done or failed', async (t) => {
  const netns = await namespaceOf(t);
  let deaf = false;
  const losing = addonWith({
    recv: (fd, bytes, flags, sender) => {
      const length = addon.recv(fd, bytes, flags, sender);
      return deaf && length > 0 ? -105 : length;
    },
  });
  const kernel = createKernel({ netnsPath: netns.path, addon: losing });
  await kernel.start();
  t.teardown(() => kernel.stop());
  deaf = true;
  const work = kernel.rt.addRule({ family: 'ipv4', priority: 9, table: 9, fwmark: 9 });
  await t.rejects(work, { code: 'EUNKNOWN', subject: 'add rule 9 to table 9' });
  deaf = false;
  t.ok(
    (await kernel.rt.rules('ipv4')).some((rule) => rule.priority === 9),
    'it had been done',
  );
});

t.test('a small change is one exchange, also after one that changed nothing or somebody else', async (t) => {
  const netns = await namespaceOf(t);
  let sent = 0;
  const kernel = createKernel({
    netnsPath: netns.path,
    addon: addonWith({
      send: (fd, bytes, flags) => {
        sent += 1;
        return addon.send(fd, bytes, flags);
      },
    }),
  });
  await kernel.start();
  t.teardown(() => kernel.stop());
  const [one, two] = routeElements(2);
  if (one === undefined || two === undefined) throw new Error('two elements');
  const table = exampleTable([one]);
  let { generation } = await kernel.nft.replaceTable(table);
  const exchanges = async (elements: readonly NftElement[], lock?: { generation: number }) => {
    sent = 0;
    const steps = [{ kind: 'add-elements', set: 'routes4', elements }] as const;
    ({ generation } = await kernel.nft.changeTable(table, steps, lock));
    const count = sent;
    t.equal(generation, await kernel.nft.generation());
    return count;
  };
  t.equal(await exchanges([two]), 1);
  t.equal(await exchanges([two]), 1, 'it is there already');
  t.equal(await exchanges([two], { generation }), 1, 'with a lock');
  await netns.exec('nft', 'add', 'table', 'inet', 'guest');
  t.equal(await exchanges([{ ...two, key: 'fe'.repeat(8) }]), 3, 'refused as stale, asked, and again');
  t.equal(await exchanges([{ ...two, key: 'fd'.repeat(8) }]), 1);
});

t.test('without the force options a commit that does not fit is refused, not cut', async (t) => {
  const netns = await namespaceOf(t);
  const kernel = createKernel({
    netnsPath: netns.path,
    addon: addonWith({
      setsockopt: (fd, level, option, value) =>
        level === SOL_SOCKET && option === SO_SNDBUFFORCE
          ? -EPERM
          : addon.setsockopt(fd, level, option, value),
      send: (fd, bytes, flags) => (bytes.length > 60_000 ? -90 : addon.send(fd, bytes, flags)),
      sendAsync: async () => -90,
    }),
  });
  await kernel.start();
  t.teardown(() => kernel.stop());
  await t.rejects(kernel.nft.replaceTable(exampleTable(routeElements(50_000))), { code: 'EMSGSIZE' });
  t.strictSame(await kernel.nft.listTables(), []);
});

t.test('a thread that ends while it polls takes nothing down', async (t) => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const addon = require(workerData);
    const address = Buffer.alloc(12); address.writeUInt16LE(16, 0); address.writeUInt32LE(1, 8);
    const fds = [0, 0, 0].map(() => addon.socket(16, 3 | 2048, 0));
    for (const fd of fds) { addon.bind(fd, address); addon.pollStart(fd, 1, () => {}); }
    const stopped = addon.socket(16, 3 | 2048, 0);
    addon.bind(stopped, address);
    addon.pollStop(addon.pollStart(stopped, 1, () => {}));
    void addon.sendAsync(fds[0], Buffer.alloc(16), 0);
    parentPort.postMessage('ready');
  `;
  for (let round = 0; round < 20; round += 1) {
    const worker = new Worker(code, { eval: true, workerData: findAddon() });
    await once(worker, 'message');
    await worker.terminate();
  }
  t.pass('20 threads ended');
});

t.test('slots, not pointers: a stopped or invented watch is refused', async (t) => {
  const fd = addon.socket(16, 3 | 0o4000, 0);
  t.teardown(() => addon.close(fd));
  const slot = addon.pollStart(fd, 1, () => {});
  t.ok(slot > 0);
  t.equal(addon.pollRef(slot, 0), 0);
  t.equal(addon.pollStop(slot), 0);
  t.equal(addon.pollStop(slot), -2);
  t.equal(addon.pollStop(12_345), -2);
  t.equal(
    addon.pollStart(987_654, 1, () => {}),
    -9,
  );
  t.throws(() => addon.send(fd, 'text' as unknown as Uint8Array, 0), TypeError);
  t.throws(() => addon.pollStart(fd, 1, undefined as unknown as () => void), TypeError);
});

t.test('a request after stop, and two stops, fail and pass quietly', async (t) => {
  const netns = await namespaceOf(t);
  const kernel = createKernel({ netnsPath: netns.path });
  await kernel.start();
  const commit = kernel.nft.replaceTable(exampleTable(routeElements(5000)));
  await kernel.stop();
  const { generation } = await commit;
  t.ok(generation > 0, 'what was under way was finished');
  await t.rejects(kernel.nft.generation(), KernelError);
  await kernel.stop();
});
