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
import { decodeAttributes, type Of, type Schema } from '../netlink/codec.ts';
import { Datagram, NLM_F_ACK, NLM_F_DUMP } from '../netlink/datagram.ts';
import type { NetlinkSocket, ReceivedMessage } from '../netlink/socket.ts';
import { canonicalElements, canonicalTable } from './canonical.ts';
import { dataTypeName, isSameKind, keyTypeNames } from './data-types.ts';
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

/** Where the elements of one set are read. */
interface SetSource {
  readonly socket: NetlinkSocket;
  readonly family: number;
  readonly table: string;
  readonly head: Of<typeof setSchema>;
  /** How many elements there are, where the kernel tells. */
  readonly count: number | undefined;
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

/**
 * The kernel walks a set anew for every datagram and skips what it gave before. When its hash table grows meanwhile
 * (it does so some time after a commit) the order changes: elements come twice and as many not at all, and no flag says
 * so. So a dump counts only when no key came twice and, where the kernel tells (6.16), the number is right.
 */
async function readAll(source: SetSource): Promise<readonly NftElement[]> {
  return untilSettled(source, async (each) => {
    const elements: NftElement[] = [];
    await each((element) => elements.push(element));
    const unique = canonicalElements(elements);
    const complete = unique.length === elements.length && (source.count ?? unique.length) === unique.length;
    return complete ? unique : undefined;
  });
}

/** Undefined: as expected. */
async function compareElementsOf(
  source: SetSource,
  expected: NftExpectedSet,
): Promise<NftDeviation | undefined> {
  const { deviation } = await untilSettled(source, async (each) => {
    const pass = {};
    const foreign = new Map<string, NftElement>();
    let right = 0;
    let twice = false;
    let count = 0;
    await each((element) => {
      count += 1;
      const wanted = expected.elements.get(element.key);
      if (wanted !== undefined && wanted.data === element.data) {
        if (wanted.seen === pass) twice = true;
        wanted.seen = pass;
        right += 1;
      } else {
        if (foreign.has(element.key)) twice = true;
        foreign.set(element.key, element);
      }
    });
    if (twice || (source.count ?? count) !== count) return undefined;
    if (foreign.size === 0 && right === expected.elements.size) return { deviation: undefined };
    const missing: NftElement[] = [];
    for (const element of expected.elements.values()) if (element.seen !== pass) missing.push(element);
    return { deviation: { set: expected.name, missing, foreign: [...foreign.values()] } };
  });
  return deviation;
}

/** Reads the elements until a dump was whole, as `attempt` judges (undefined: it was not). */
async function untilSettled<T>(
  { socket, family, table, head }: SetSource,
  attempt: (each: (onElement: (element: NftElement) => void) => Promise<void>) => Promise<T | undefined>,
): Promise<T> {
  const set = head.name ?? '';
  const subject = `read elements of set ${set}`;
  for (let tries = 1; tries <= ATTEMPTS; tries += 1) {
    const result = await attempt((onElement) =>
      dump(socket, NFT_MSG.getSetElements, family, subject, elementsSchema, { table, set }, (message) => {
        readElements(message.bytes, message.start + GENERIC_HEADER, message.end, onElement);
      }),
    );
    if (result !== undefined) return result;
    // The generation may have moved on as well; the reader above finds out.
    await new Promise((resolve) => setTimeout(resolve, REHASH_PAUSE * tries));
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
