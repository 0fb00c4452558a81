/**
 * What an older kernel lacks is done another way. Each lack by itself: on Linux, where a batch is rewritten so that the kernel
 * takes it as an older one would, and on the fake.
 */
import t, { type Test } from 'tap';
import type { Kernel, KernelFeatures } from '../../src/kernel/contract.ts';
import { createFakeKernel } from '../../src/kernel/kernel.fake.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { NLM_F_ACK, NLM_F_ECHO } from '../../src/kernel/netlink/datagram.ts';
import { canonicalTable } from '../../src/kernel/nft/canonical.ts';
import {
  NFNL_MSG_BATCH_END,
  NFT_MSG,
  NFT_TABLE_F_OWNER,
  NFT_TABLE_F_PERSIST,
} from '../../src/kernel/nft/schema.ts';
import { messageType } from '../../src/kernel/nft/transaction.ts';
import { loadAddon, type NativeAddon } from '../../src/native/addon.ts';
import { createFirewallReconciler } from '../../src/reconcilers/firewall.ts';
import { exampleTable, routeElements } from './compliance/example-table.ts';
import { makeNetns, mayMakeNamespaces } from './netns.ts';
import { desiredOf, LISTEN_PORT } from './reconcilers/lab.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root, to make network namespaces');

interface Lack {
  readonly what: string;
  /** The first kernel that has it; undefined: none is known that has not. */
  readonly since: string | undefined;
  readonly features: Partial<KernelFeatures>;
  /** Changes one message of a batch (nlmsghdr at `at`) into what an older kernel makes of it. */
  readonly rewrite: (bytes: Buffer, at: number, type: number) => void;
}

const clearFlag = (bytes: Buffer, at: number, flag: number): void => {
  bytes.writeUInt16LE(bytes.readUInt16LE(at + 6) & ~flag, at + 6);
};

/** No flag an nf_tables table has: answered EOPNOTSUPP, as the owner flag was before 5.12. */
const UNKNOWN_TABLE_FLAG = 0x80;
/** No message of nf_tables: answered EINVAL, as DESTROYTABLE was before 6.3. */
const UNKNOWN_MESSAGE = 0xff;
/** nlmsghdr, nfgenmsg, then NFTA_TABLE_NAME `arctic` (padded) and the header of NFTA_TABLE_FLAGS. */
const flagsAt = (bytes: Buffer, at: number): number => at + 20 + ((bytes.readUInt16LE(at + 20) + 3) & ~3) + 4;

const LACKS: readonly Lack[] = [
  {
    what: 'NFT_MSG_DESTROYTABLE',
    since: '6.3',
    features: { nftDestroy: false },
    rewrite: (bytes, at, type) => {
      if (type === messageType(NFT_MSG.destroyTable))
        bytes.writeUInt16LE((type & 0xff00) | UNKNOWN_MESSAGE, at + 4);
    },
  },
  {
    what: 'the acknowledgement of BATCH_END',
    since: '6.10',
    features: { nftBatchEndAck: false },
    rewrite: (bytes, at, type) => {
      if (type === NFNL_MSG_BATCH_END) clearFlag(bytes, at, NLM_F_ACK);
    },
  },
  {
    what: 'the owner flag',
    since: '5.12',
    features: { nftOwner: false, nftPersist: false },
    rewrite: (bytes, at, type) => {
      if (type !== messageType(NFT_MSG.newTable)) return;
      const value = flagsAt(bytes, at);
      if ((bytes.readUInt32BE(value) & (NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST)) !== 0)
        bytes.writeUInt32BE(UNKNOWN_TABLE_FLAG, value);
    },
  },
  {
    what: 'the echo of the new generation',
    since: undefined,
    features: {},
    rewrite: (bytes, at, type) => {
      if (type >> 8 === messageType(0) >> 8) clearFlag(bytes, at, NLM_F_ECHO);
    },
  },
];

function olderAddon(rewrite: Lack['rewrite']): NativeAddon {
  const addon = loadAddon();
  const older = (bytes: Uint8Array): Uint8Array => {
    const copy = Buffer.from(bytes);
    for (let at = 0; at + 16 <= copy.length; at += (copy.readUInt32LE(at) + 3) & ~3)
      rewrite(copy, at, copy.readUInt16LE(at + 4));
    return copy;
  };
  return {
    ...addon,
    send: (fd, bytes, flags) => addon.send(fd, older(bytes), flags),
    sendAsync: (fd, bytes, flags) => addon.sendAsync(fd, older(bytes), flags),
  };
}

interface Host {
  readonly kernel: Kernel;
  readonly remove: () => void;
  /** Somebody else takes the table away. */
  readonly takeAway: () => Promise<unknown>;
}

const hosts: Readonly<Record<string, (lack: Lack) => Promise<Host>>> = {
  async Linux({ rewrite }) {
    const netns = await makeNetns('older');
    return {
      kernel: createKernel({ netnsPath: netns.path, addon: olderAddon(rewrite) }),
      remove: () => netns.remove(),
      takeAway: () => netns.exec('nft', 'delete', 'table', 'inet', 'arctic'),
    };
  },
  async 'the fake'({ features }) {
    const kernel = createFakeKernel({ features });
    return {
      kernel,
      remove: () => undefined,
      takeAway: () => kernel.other.nft.deleteTable('inet', 'arctic'),
    };
  },
};

/** Tables come, change, are refused and go. */
async function transactions(t: Test, kernel: Kernel): Promise<void> {
  const elements = routeElements(3_000);
  const table = exampleTable(elements);
  const held = async () => (await kernel.nft.readTable('inet', 'arctic')).table;
  for (let round = 0; round < 2; round += 1) {
    await kernel.nft.replaceTable(table);
    t.strictSame(await held(), canonicalTable(table));
  }
  const removed = elements.slice(0, 1);
  const before = await kernel.nft.generation();
  const steps = [{ kind: 'delete-elements', set: 'routes4', elements: removed }] as const;
  const changed = await kernel.nft.changeTable(table, steps);
  t.equal(changed.generation, before + 1);
  t.equal(await kernel.nft.generation(), before + 1);
  t.strictSame(await held(), canonicalTable(exampleTable(elements.slice(1))));
  await t.rejects(kernel.nft.changeTable(table, steps), { code: 'ENOENT' }, 'a refusal is told');
  const again = [{ kind: 'add-elements', set: 'routes4', elements: elements.slice(1, 2) }] as const;
  t.equal((await kernel.nft.changeTable(table, again)).generation, before + 1, 'nothing to change');
  t.ok(await kernel.nft.isOursSince(before));
  for (let round = 0; round < 2; round += 1) await kernel.nft.deleteTable('inet', 'arctic');
  t.strictSame(await kernel.nft.listTables(), []);
}

/** The firewall, which was told to claim the owner flag, brings everything about and brings it back. */
async function firewall(t: Test, { kernel, takeAway }: Host, owned: boolean): Promise<void> {
  const memory = new Map<string, string>();
  const desired = desiredOf([{ service: 1, source: null, dest: '172.16.0.0/16' }]);
  const { observe, plan, apply } = createFirewallReconciler(
    { listenPort: () => LISTEN_PORT, firewallOwner: true },
    {
      kernel,
      desired: () => desired,
      serviceName: (id) => id,
      memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
    },
  );
  const pass = async (): Promise<number> => {
    const next = plan(desired, await observe());
    await apply(next);
    return next.differences.length;
  };
  t.ok((await pass()) > 0);
  t.equal(await pass(), 0);
  t.equal((await kernel.nft.readTable('inet', 'arctic')).table?.owned ?? false, owned);
  if (owned) await t.rejects(takeAway(), 'the owner flag keeps others off');
  else {
    await takeAway();
    t.ok((await pass()) > 0, 'what others take away comes back');
  }
  t.equal(await pass(), 0);
}

for (const lack of LACKS)
  for (const [where, make] of Object.entries(hosts))
    t.test(
      `a kernel without ${lack.what}${lack.since ? ` (before ${lack.since})` : ''}: ${where}`,
      async (t) => {
        const host = await make(lack);
        const { kernel } = host;
        await kernel.start();
        t.teardown(async () => {
          await kernel.stop();
          host.remove();
        });
        t.match(await kernel.features(), lack.features, 'the probe finds out');
        await transactions(t, kernel);
        await firewall(t, host, lack.features.nftOwner !== false);
      },
    );
