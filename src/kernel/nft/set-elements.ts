/** The elements of one set as the kernel holds them: read, or compared with what they should be. */
import { createHash, type Hash } from 'node:crypto';
import type { NftDeviation, NftElement, NftExpectedSet } from '../contract.ts';
import { KernelError } from '../contract.ts';
import type { Of } from '../netlink/codec.ts';
import type { NetlinkSocket, ReceivedMessage } from '../netlink/socket.ts';
import { canonicalElements } from './canonical.ts';
import { readElements } from './elements.ts';
import { dump, GENERIC_HEADER } from './requests.ts';
import { elementsSchema, NFT_MSG, type setSchema } from './schema.ts';

/** Dumps of a set that is being reorganised before we give up. */
const ATTEMPTS = 20;
/** Milliseconds; 100,000 elements are rehashed in some 20. */
const REHASH_PAUSE = 5;

/** Where the elements of one set are read. */
export interface SetSource {
  readonly socket: NetlinkSocket;
  readonly family: number;
  readonly table: string;
  readonly head: Of<typeof setSchema>;
  /** How many elements there are, where the kernel tells. */
  readonly count: number | undefined;
}

/**
 * The kernel walks a set anew for every datagram and skips what it gave before. When its hash table grows meanwhile
 * (it does so some time after a commit) the order changes: elements come twice and as many not at all, and no flag says
 * so. So a dump counts only when no key came twice and, where the kernel tells (6.16), the number is right.
 */
export async function readAll(source: SetSource): Promise<readonly NftElement[]> {
  return untilSettled(source, async (each) => {
    const elements: NftElement[] = [];
    await each((element) => elements.push(element));
    const unique = canonicalElements(elements);
    const complete = unique.length === elements.length && (source.count ?? unique.length) === unique.length;
    return complete ? unique : undefined;
  });
}

/** How the elements differ from what is expected; undefined: they do not. */
export async function compareElementsOf(
  source: SetSource,
  expected: NftExpectedSet,
): Promise<NftDeviation | undefined> {
  const { verified = '' } = expected;
  if (verified !== '' && (await digestElements(source)) === verified) return undefined;
  const { deviation } = await untilSettled(source, async (each) => {
    const pass = {};
    const foreign = new Map<string, NftElement>();
    const hash = createHash('sha256');
    let right = 0;
    let twice = false;
    let count = 0;
    // An empty one equals no digest, and is gone when the elements change meanwhile.
    expected.verified = '';
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
    }, hash);
    if (twice || (source.count ?? count) !== count) return undefined;
    if (foreign.size === 0 && right === expected.elements.size) {
      if (expected.verified === '') expected.verified = hash.digest('hex');
      return { deviation: undefined };
    }
    const missing: NftElement[] = [];
    for (const element of expected.elements.values()) if (element.seen !== pass) missing.push(element);
    return { deviation: { set: expected.name, missing, foreign: [...foreign.values()] } };
  });
  return deviation;
}

/** Of one dump as it comes. While nothing is changed the kernel sends the same elements in the same order. */
async function digestElements(source: SetSource): Promise<string> {
  const hash = createHash('sha256');
  await dumpElements(source, (message) => hash.update(elementBytes(message)));
  return hash.digest('hex');
}

type Each = (onElement: (element: NftElement) => void, hash?: Hash) => Promise<void>;

/** Reads the elements until a dump was whole, as `attempt` judges (undefined: it was not). */
async function untilSettled<T>(
  source: SetSource,
  attempt: (each: Each) => Promise<T | undefined>,
): Promise<T> {
  for (let tries = 1; tries <= ATTEMPTS; tries += 1) {
    const result = await attempt((onElement, hash) =>
      dumpElements(source, (message) => {
        hash?.update(elementBytes(message));
        readElements(message.bytes, message.start + GENERIC_HEADER, message.end, onElement);
      }),
    );
    if (result !== undefined) return result;
    // The generation may have moved on as well; the reader above finds out.
    await new Promise((resolve) => setTimeout(resolve, REHASH_PAUSE * tries));
  }
  throw new KernelError('EINTR', 4, elementsSubject(source), 'the set is being reorganised');
}

const elementsSubject = ({ head }: SetSource): string => `read elements of set ${head.name ?? ''}`;

function dumpElements(source: SetSource, onMessage: (message: ReceivedMessage) => void): Promise<void> {
  const { socket, family, table, head } = source;
  const value = { table, set: head.name ?? '' };
  const subject = elementsSubject(source);
  return dump(socket, NFT_MSG.getSetElements, family, subject, elementsSchema, value, onMessage);
}

/** Without the header, which carries the generation. */
const elementBytes = ({ bytes, start, end }: ReceivedMessage): Buffer =>
  bytes.subarray(start + GENERIC_HEADER, end);
