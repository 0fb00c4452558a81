/** Reading and committing nf_tables, with the generation id as optimistic lock. */
import type { NativeAddon } from '../../native/addon.ts';
import { KernelError, type Nft, type NftCommit, type NftTable } from '../contract.ts';
import type { Datagram } from '../netlink/datagram.ts';
import { refusal } from '../netlink/error-text.ts';
import { type NetlinkSocket, openNetlinkSocket } from '../netlink/socket.ts';
import { IPPROTO_TCP, matchL4Protocol, tproxyTo } from './expressions.ts';
import { NETLINK_NETFILTER, NFT_MSG } from './schema.ts';
import {
  compareSnapshot,
  ownsTable,
  readGeneration,
  readSnapshot,
  readTables,
  tableExists,
} from './snapshot.ts';
import { addChanges } from './steps.ts';
import { messageType, type TableFamily, Transaction } from './transaction.ts';

/** Commits without a generation of the caller's are repeated when another program was faster. */
const ATTEMPTS = 20;
/** Bytes of a commit from which a listener of our own is worth silencing: it adds two thirds to the time of 1,000 routes. */
const BULK_BYTES = 8 * 1024;

/** Silences our own listener during a bulk commit. */
export interface BulkSilence {
  begin(): void;
  end(): void;
  /** Another program committed while we did not listen. */
  missed(): void;
}

export interface NftOptions {
  readonly addon: NativeAddon;
  readonly netnsPath: string | undefined;
  readonly silence: BulkSilence;
}

export interface NftService extends Nft {
  readonly portId: number;
  /** What the kernel can do, found by rehearsal: nothing is applied and the generation stays. */
  probe(): Promise<{
    destroy: boolean;
    batchEndAck: boolean;
    owner: boolean;
    persist: boolean;
    tproxy: boolean;
  }>;
  close(): Promise<void>;
}

export function openNft({ addon, netnsPath, silence }: NftOptions): NftService {
  const socket = openNetlinkSocket(addon, { protocol: NETLINK_NETFILTER, netnsPath });
  let endAck: Promise<boolean> | undefined;
  let destroy: Promise<boolean> | undefined;
  /** The kernel has answered a commit with the new generation; until it has, it may be one that does not. */
  let isEchoed = false;
  /** An unbroken run of our own commits: the generations of the first and of the last. */
  let run = { from: Number.NaN, to: Number.NaN };
  /** Between reading the generation and having committed: our own second commit must not make the first stale. */
  let tail: Promise<unknown> = Promise.resolve();

  const hasEndAck = () => (endAck ??= probeEndAck(socket));
  const hasDestroy = () => (destroy ??= rehearse(socket, (transaction) => transaction.destroyTable()));

  /** What the ruleset is at if nobody but us has committed since that generation. */
  const latestOfOurs = (generation: number): number =>
    generation >= run.from && generation <= run.to ? run.to : generation;

  /** Our own commit led from one generation to the other. */
  function follows(before: number, generation: number): void {
    run = { from: run.to === before ? run.from : before, to: generation };
  }

  async function commitOnce(transaction: Transaction, generation: number): Promise<NftCommit> {
    const acknowledge = (await hasEndAck()) ? 'end' : 'last';
    const echo = transaction.elementBytes <= BULK_BYTES;
    const datagram = await transaction.encodeInTurns({ generation, acknowledge, echo });
    if (datagram.length > BULK_BYTES) return commitBulk(datagram, generation);
    let isToldNext = false;
    await socket.request(datagram, (message) => {
      if (message.type === messageType(NFT_MSG.newGeneration)) isToldNext = true;
    });
    if (isToldNext) isEchoed = true;
    // A transaction that changed nothing leaves the generation where it was.
    else if (isEchoed || (await readGeneration(socket)) === generation) return { generation };
    follows(generation, following(generation));
    return { generation: following(generation) };
  }

  async function commitBulk(datagram: Datagram, generation: number): Promise<NftCommit> {
    silence.begin();
    try {
      await socket.request(datagram);
    } finally {
      silence.end();
    }
    const now = await readGeneration(socket);
    if (now === generation) return { generation };
    const expected = following(generation);
    follows(generation, expected);
    if (now !== expected) silence.missed();
    return { generation: expected };
  }

  function commit(
    family: TableFamily,
    name: string,
    generation: number | undefined,
    build: (transaction: Transaction) => Promise<void> | void,
    guesses = false,
  ): Promise<NftCommit> {
    const work = async (): Promise<NftCommit> => {
      // Mostly nobody else has committed since we did: then a small change need not ask before. A large one would be sent twice.
      const known = guesses && !Number.isNaN(run.to) ? run.to : undefined;
      for (let attempt = 1; ; attempt += 1) {
        const guess = attempt === 1 ? known : undefined;
        const lock =
          generation === undefined ? (guess ?? (await readGeneration(socket))) : latestOfOurs(generation);
        const transaction = new Transaction(family, name);
        await build(transaction);
        if (transaction.isEmpty) return { generation: lock };
        try {
          return await commitOnce(transaction, lock);
        } catch (error) {
          const stale = error instanceof KernelError && error.code === 'ESTALE';
          if (!stale || generation !== undefined || attempt >= ATTEMPTS) throw error;
        }
      }
    };
    const result = tail.then(work);
    tail = result.catch(() => undefined);
    return result;
  }

  /** Adds the step that removes the table if it is there; safe because the generation locks what was read. */
  async function removeIfThere(transaction: Transaction, family: TableFamily, name: string): Promise<void> {
    if (await hasDestroy()) transaction.destroyTable();
    else if (await tableExists(socket, family, name)) transaction.deleteTable();
  }

  return {
    portId: socket.portId,
    readTable: (family, name) => readSnapshot(socket, family, name),
    compareTable: (family, name, expected) => compareSnapshot(socket, family, name, expected),
    ownsTable: (family, name) => ownsTable(socket, family, name),
    generation: () => readGeneration(socket),
    isOursSince: async (generation) => (await readGeneration(socket)) === latestOfOurs(generation),
    listTables: () => readTables(socket),

    replaceTable: (table, options) =>
      commit(table.family, table.name, options?.generation, async (transaction) => {
        await removeIfThere(transaction, table.family, table.name);
        transaction.addTable(table);
        transaction.addContents(table);
      }),

    changeTable: (table, changes, options) =>
      commit(
        table.family,
        table.name,
        options?.generation,
        (transaction) => addChanges(transaction, table.sets, changes),
        true,
      ),

    deleteTable: (family, name) =>
      commit(family, name, undefined, (transaction) => removeIfThere(transaction, family, name)),

    probe: async () => ({
      destroy: await hasDestroy(),
      batchEndAck: await hasEndAck(),
      owner: await rehearse(socket, (transaction) => transaction.addTable({ owned: true })),
      persist: await rehearse(socket, (transaction) => transaction.addTable({ owned: true, persist: true })),
      tproxy: await rehearse(socket, (transaction) => {
        transaction.addTable({});
        transaction.addContents(TPROXY_PROBE);
      }),
    }),

    close: async () => {
      await tail.catch(() => undefined);
      await socket.close();
    },
  };
}

/** What the ruleset is at after one commit; the kernel leaves 0 out. */
const following = (generation: number): number => (generation === 0xffffffff ? 1 : generation + 1);

/** A table that exists only in rehearsals. */
const PROBE = 'arctic_probe';

const TPROXY_PROBE: NftTable = {
  family: 'inet',
  name: PROBE,
  sets: [],
  chains: [
    {
      name: 'probe',
      base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
      rules: [{ comment: '', expressions: [...matchL4Protocol(IPPROTO_TCP), ...tproxyTo(1)] }],
    },
  ],
};

/** Whether the kernel would accept these steps. */
async function rehearse(socket: NetlinkSocket, build: (transaction: Transaction) => void): Promise<boolean> {
  const transaction = new Transaction('inet', PROBE);
  build(transaction);
  const outcomes = await socket.outcomes(
    transaction.encode({ generation: undefined, acknowledge: 'rehearse' }),
  );
  // The first message, BATCH_BEGIN, is answered only when it is refused.
  return outcomes.slice(1).every((errno) => errno === 0) && (outcomes[0] ?? 0) === 0;
}

/** An empty transaction applies nothing; the question is whether its end is acknowledged. */
async function probeEndAck(socket: NetlinkSocket): Promise<boolean> {
  const datagram = new Transaction('inet', PROBE).encode({ generation: undefined, acknowledge: 'end' });
  const outcomes = await socket.outcomes(datagram);
  const refused = outcomes.find((errno) => errno !== undefined && errno !== 0);
  if (refused !== undefined) throw refusal(refused, { subject: 'open nf_tables', path: undefined });
  return outcomes[outcomes.length - 1] === 0;
}
