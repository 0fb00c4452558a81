import { execFile } from 'node:child_process';
import t from 'tap';
import { createFakeKernel } from '../../src/kernel/kernel.fake.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { elementText } from '../../src/kernel/nft/elements.ts';
import { exampleTable } from './compliance/example-table.ts';
import { kernelCompliance } from './compliance/kernel.ts';
import { makeNetns, mayMakeNamespaces } from './netns.ts';

t.test('the fake kernel', async (t) => {
  kernelCompliance(t, async (t) => {
    const kernel = createFakeKernel();
    await kernel.start();
    t.teardown(() => kernel.stop());
    const parent = kernel.addDevice({ name: 'eth0', mac: '02:00:00:00:00:01' });
    return {
      kernel,
      parentIndex: parent.index,
      addForeignTable: async (name) => {
        await kernel.other.nft.replaceTable({ family: 'inet', name, sets: [], chains: [] });
        return kernel.other;
      },
      addForeignElement: async (set, element) => {
        await kernel.other.nft.changeTable(exampleTable([]), [
          { kind: 'add-elements', set, elements: [element] },
        ]);
      },
    };
  });
});

t.test('Linux', async (t) => {
  t.ok(mayMakeNamespaces(), 'runs as root');
  kernelCompliance(t, async (t) => {
    const netns = await makeNetns('compliance');
    const kernel = createKernel({ netnsPath: netns.path });
    await kernel.start();
    t.teardown(async () => {
      await kernel.stop();
      netns.remove();
    });
    await netns.exec('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
    const parent = (await kernel.rt.links()).find((link) => link.name === 'eth0');
    return {
      kernel,
      parentIndex: parent?.index ?? 0,
      addForeignTable: (name) =>
        new Promise((resolve, reject) => {
          // `ip netns exec` replaces itself by the program, so the pid is nft's.
          const child = execFile('ip', [...netns.prefix, 'nft', 'add', 'table', 'inet', name], (error) => {
            if (error === null) resolve({ pid: child.pid, program: 'nft' });
            else reject(error);
          });
        }),
      addForeignElement: async (set, element) => {
        const text = elementText(element);
        const address = (at: number) => [...Buffer.from(text.slice(at, at + 8), 'hex')].join('.');
        await netns.exec(
          'nft',
          `add element inet arctic ${set} { ${address(0)} . ${address(8)} : 0x${Buffer.from(
            element.data ?? '',
            'hex',
          )
            .readUInt32LE(0)
            .toString(16)} }`,
        );
      },
      reader: {
        nft: (...args) => netns.exec('nft', ...args),
        ip: (...args) => netns.exec('ip', ...args),
      },
    };
  });
});
