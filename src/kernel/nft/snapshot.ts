/** Reads a table as the contract describes it, consistent although a read takes many dumps. */
import type {
  NftBaseChain,
  NftChain,
  NftComparison,
  NftDeviation,
  NftElement,
  NftExpectedSet,
  NftRule,
  NftSet,
  NftTable,
} from '../contract.ts';
import { KernelError } from '../contract.ts';
import type { Of } from '../netlink/codec.ts';
import type { NetlinkSocket } from '../netlink/socket.ts';
import { canonicalTable } from './canonical.ts';
import { dataTypeName, isSameKind, keyTypeNames } from './data-types.ts';
import { decode, dump, get } from './requests.ts';
import {
  chainSchema,
  familyName,
  familyNumber,
  generationSchema,
  NFT_MSG,
  NFT_SET_ANONYMOUS,
  NFT_SET_CONSTANT,
  NFT_SET_MAP,
  NFT_TABLE_F_OWNER,
  NFT_TABLE_F_PERSIST,
  ruleSchema,
  setSchema,
  tableSchema,
} from './schema.ts';
import { compareElementsOf, readAll, type SetSource } from './set-elements.ts';
import { HOOKS, POLICIES, type TableFamily } from './transaction.ts';
import { decodeComment } from './userdata.ts';

/** Reads that another program's commits may spoil before we give up. */
const ATTEMPTS = 20;

export async function readGeneration(socket: NetlinkSocket): Promise<number> {
  let generation: number | undefined;
  await get(socket, NFT_MSG.getGeneration, 0, 'read the generation', generationSchema, {}, (message) => {
    generation = decode(generationSchema, message).id;
  });
  if (generation === undefined) throw new KernelError('EUNKNOWN', 0, 'read the generation', 'no answer');
  return generation;
}

export async function tableExists(
  socket: NetlinkSocket,
  family: TableFamily,
  name: string,
): Promise<boolean> {
  return (await readTableHead(socket, family, name)) !== undefined;
}

export async function readTables(socket: NetlinkSocket): Promise<{ family: string; name: string }[]> {
  for (let attempt = 1; ; attempt += 1) {
    const tables: { family: string; name: string }[] = [];
    try {
      await dump(socket, NFT_MSG.getTable, 0, 'list tables', tableSchema, {}, (message) => {
        const { name = '' } = decode(tableSchema, message);
        tables.push({ family: familyName(message.bytes.readUInt8(message.start)), name });
      });
      return tables;
    } catch (error) {
      if (!isInterrupted(error) || attempt >= ATTEMPTS) throw error;
    }
  }
}

/**
 * Reads generation, table, generation: elements changed during a dump are not flagged by the kernel
 * (NLM_F_DUMP_INTR covers rules and chains only), so the generation is the lock of this reader.
 */
export async function readSnapshot(
  socket: NetlinkSocket,
  family: TableFamily,
  name: string,
): Promise<{ readonly generation: number; readonly table: NftTable | undefined }> {
  const { generation, result } = await consistently(socket, family, name, () =>
    readOnce(socket, family, name, readAll),
  );
  return { generation, table: result === undefined ? undefined : canonicalTable(result) };
}

/** Reads like `readSnapshot`, but hands the elements of expected sets to a comparison instead of keeping them. */
export async function compareSnapshot(
  socket: NetlinkSocket,
  family: TableFamily,
  name: string,
  expected: ReadonlyMap<string, NftExpectedSet>,
): Promise<NftComparison> {
  const { generation, result } = await consistently(socket, family, name, async () => {
    const deviations: NftDeviation[] = [];
    const table = await readOnce(socket, family, name, async (source) => {
      const wanted = expected.get(source.head.name ?? '');
      if (wanted === undefined || !isSameKind(setOf(source.head, []), wanted)) return readAll(source);
      const deviation = await compareElementsOf(source, wanted);
      if (deviation !== undefined) deviations.push(deviation);
      return [];
    });
    if (table?.owned !== true || (await ownsTable(socket, family, name))) return { table, deviations };
    // A table that outlived its owner carries the flag, and protects nothing until it is taken over.
    return { table: { ...table, owned: false }, deviations };
  });
  const { table, deviations } = result;
  return { generation, table: table && canonicalTable(table), deviations };
}

async function consistently<T>(
  socket: NetlinkSocket,
  family: TableFamily,
  name: string,
  read: () => Promise<T>,
): Promise<{ readonly generation: number; readonly result: T }> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const generation = await readGeneration(socket);
    try {
      const result = await read();
      if ((await readGeneration(socket)) === generation) return { generation, result };
    } catch (error) {
      // Objects may vanish between two dumps; then the generation has moved on too.
      const moved =
        error instanceof KernelError &&
        error.code === 'ENOENT' &&
        (await readGeneration(socket)) !== generation;
      if (!moved && !isInterrupted(error)) throw error;
    }
  }
  throw new KernelError(
    'EAGAIN',
    11,
    `read table ${family} ${name}`,
    `the ruleset changed during each of ${ATTEMPTS} reads`,
  );
}

/** Whether the table has the owner flag and its owner is this socket. */
export async function ownsTable(socket: NetlinkSocket, family: TableFamily, name: string): Promise<boolean> {
  const head = await readTableHead(socket, family, name);
  return head !== undefined && ((head.flags ?? 0) & NFT_TABLE_F_OWNER) !== 0 && head.owner === socket.portId;
}

function isInterrupted(error: unknown): boolean {
  return error instanceof KernelError && error.code === 'EINTR';
}

async function readTableHead(
  socket: NetlinkSocket,
  family: TableFamily,
  name: string,
): Promise<Of<typeof tableSchema> | undefined> {
  let head: Of<typeof tableSchema> | undefined;
  try {
    await get(
      socket,
      NFT_MSG.getTable,
      familyNumber(family),
      `read table ${family} ${name}`,
      tableSchema,
      { name },
      (message) => {
        head = decode(tableSchema, message);
      },
    );
  } catch (error) {
    if (error instanceof KernelError && error.code === 'ENOENT') return undefined;
    throw error;
  }
  return head;
}

async function readOnce(
  socket: NetlinkSocket,
  family: TableFamily,
  name: string,
  elementsOf: (source: SetSource) => Promise<readonly NftElement[]>,
): Promise<NftTable | undefined> {
  const head = await readTableHead(socket, family, name);
  if (head === undefined) return undefined;
  const number = familyNumber(family);
  const what = `of table ${family} ${name}`;
  const flags = head.flags ?? 0;

  const chains: { head: Of<typeof chainSchema>; rules: NftRule[] }[] = [];
  await dump(socket, NFT_MSG.getChain, number, `read chains ${what}`, chainSchema, {}, (message) => {
    const chain = decode(chainSchema, message);
    // Chain dumps are filtered by family only.
    if (chain.table === name) chains.push({ head: chain, rules: [] });
  });
  const byName = new Map(chains.map((chain) => [chain.head.name, chain]));
  await dump(
    socket,
    NFT_MSG.getRule,
    number,
    `read rules ${what}`,
    ruleSchema,
    { table: name },
    (message) => {
      const rule = decode(ruleSchema, message);
      if (rule.table === name) byName.get(rule.chain)?.rules.push(ruleOf(rule));
    },
  );

  const heads: Of<typeof setSchema>[] = [];
  await dump(socket, NFT_MSG.getSet, number, `read sets ${what}`, setSchema, { table: name }, (message) => {
    const set = decode(setSchema, message);
    if (set.table === name) heads.push(set);
  });
  const sets: NftSet[] = [];
  for (const set of heads) {
    // Interval sets count pairs, timed ones what has expired.
    const plain = ((set.flags ?? 0) & ~NFT_SET_MAP & ~NFT_SET_ANONYMOUS & ~NFT_SET_CONSTANT) === 0;
    const count = plain ? set.count : undefined;
    const elements = await elementsOf({ socket, family: number, table: name, head: set, count });
    sets.push(setOf(set, elements));
  }

  return {
    family,
    name,
    owned: (flags & NFT_TABLE_F_OWNER) !== 0,
    persist: (flags & NFT_TABLE_F_PERSIST) !== 0,
    sets,
    chains: chains.map((chain) => chainOf(chain.head, chain.rules)),
  };
}

function ruleOf(rule: Of<typeof ruleSchema>): NftRule {
  return {
    comment: decodeComment(rule.userdata),
    expressions: (rule.expressions ?? []).map(({ name = '', data }) => ({ name, data: data ?? {} })),
  };
}

function chainOf(chain: Of<typeof chainSchema>, rules: readonly NftRule[]): NftChain {
  const name = chain.name ?? '';
  const { hook } = chain;
  if (hook === undefined) return { name, rules };
  const hookName = (Object.keys(HOOKS) as (keyof typeof HOOKS)[]).find((key) => HOOKS[key] === hook.number);
  const type = chain.type === 'nat' || chain.type === 'route' ? chain.type : 'filter';
  const base: NftBaseChain = {
    type,
    hook: hookName ?? 'ingress',
    priority: hook.priority ?? 0,
    policy: chain.policy === POLICIES.drop ? 'drop' : 'accept',
  };
  return { name, base, rules };
}

function setOf(set: Of<typeof setSchema>, elements: readonly NftElement[]): NftSet {
  // The sets nft makes for `{ a, b }` inside a rule are part of that rule, but stand beside it in the kernel.
  const flags = (set.flags ?? 0) & ~NFT_SET_MAP & ~NFT_SET_ANONYMOUS & ~NFT_SET_CONSTANT;
  return {
    name: set.name ?? '',
    keyTypes: keyTypeNames(set.keyType ?? 0),
    ...(set.dataType === undefined ? {} : { dataType: dataTypeName(set.dataType) }),
    ...(flags === 0 ? {} : { flags }),
    elements,
  };
}
