/** Reads a table as the contract describes it, consistent although a read takes many dumps. */
import type { NftBaseChain, NftChain, NftElement, NftRule, NftSet, NftTable } from '../contract.ts';
import { KernelError } from '../contract.ts';
import { decodeAttributes, type Of, type Schema } from '../netlink/codec.ts';
import { Datagram, NLM_F_ACK, NLM_F_DUMP } from '../netlink/datagram.ts';
import type { NetlinkSocket, ReceivedMessage } from '../netlink/socket.ts';
import { canonicalElements, canonicalTable } from './canonical.ts';
import { dataTypeName, keyTypeNames } from './data-types.ts';
import { readElements } from './elements.ts';
import {
  chainSchema,
  elementsSchema,
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
import { HOOKS, messageType, nfgenmsg, POLICIES, type TableFamily } from './transaction.ts';
import { decodeComment } from './userdata.ts';

/** struct nfgenmsg */
const GENERIC_HEADER = 4;
/** Reads that another program's commits may spoil before we give up. */
const ATTEMPTS = 20;
/** Milliseconds; 100,000 elements are rehashed in some 20. */
const REHASH_PAUSE = 5;

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
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const generation = await readGeneration(socket);
    try {
      const table = await readOnce(socket, family, name);
      if ((await readGeneration(socket)) === generation) {
        return { generation, table: table === undefined ? undefined : canonicalTable(table) };
      }
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
    const elements = await readElementsOf(
      socket,
      number,
      name,
      set.name ?? '',
      plain ? set.count : undefined,
    );
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

/**
 * The kernel walks a set anew for every datagram and skips what it gave before. When its hash table grows meanwhile
 * (it does so some time after a commit) the order changes: elements come twice and as many not at all, and no flag says
 * so. So a dump counts only when no key came twice and, where the kernel tells (6.16), the number is right.
 */
async function readElementsOf(
  socket: NetlinkSocket,
  family: number,
  table: string,
  set: string,
  count: number | undefined,
): Promise<readonly NftElement[]> {
  const subject = `read elements of set ${set}`;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const elements: NftElement[] = [];
    await dump(socket, NFT_MSG.getSetElements, family, subject, elementsSchema, { table, set }, (message) => {
      readElements(message.bytes, message.start + GENERIC_HEADER, message.end, elements);
    });
    const unique = canonicalElements(elements);
    if (unique.length === elements.length && (count === undefined || count === unique.length)) return unique;
    // The generation may have moved on as well; the reader above finds out.
    await new Promise((resolve) => setTimeout(resolve, REHASH_PAUSE * attempt));
  }
  throw new KernelError('EINTR', 4, subject, 'the set is being reorganised');
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

function decode<S extends Schema>(schema: S, message: ReceivedMessage): Of<S> {
  return decodeAttributes(schema, message.bytes, message.start + GENERIC_HEADER, message.end);
}

async function get<S extends Schema>(
  socket: NetlinkSocket,
  message: number,
  family: number,
  subject: string,
  schema: S,
  value: Of<S>,
  onMessage: (message: ReceivedMessage) => void,
): Promise<void> {
  const datagram = new Datagram(256);
  datagram.add(
    { type: messageType(message), flags: NLM_F_ACK, header: nfgenmsg(family), subject },
    schema,
    value,
  );
  await socket.request(datagram, onMessage);
}

async function dump<S extends Schema>(
  socket: NetlinkSocket,
  message: number,
  family: number,
  subject: string,
  schema: S,
  value: Of<S>,
  onMessage: (message: ReceivedMessage) => void,
): Promise<void> {
  const datagram = new Datagram(256);
  datagram.add(
    { type: messageType(message), flags: NLM_F_DUMP, header: nfgenmsg(family), subject },
    schema,
    value,
  );
  await socket.dump(datagram, onMessage);
}
