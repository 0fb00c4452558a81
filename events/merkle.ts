import { createHash } from 'node:crypto';
import { decodeBase64 } from './base64.ts';

/**
 * The Merkle tree of RFC 6962 (section 2.1) over a growing list, as a frontier: the roots of the perfect subtrees the list
 * falls into, largest first. It holds at most 53 hashes, is all that is needed to append, and gives the root of any size it
 * passes through.
 */
export interface Frontier {
  readonly size: number;
  readonly hashes: readonly Uint8Array[];
}

export const EMPTY_FRONTIER: Frontier = { size: 0, hashes: [] };

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

const sha256 = (...parts: readonly Uint8Array[]): Uint8Array => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const join = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(NODE, left, right);

/** The frontier with these entries appended. */
export function extend(frontier: Frontier, entries: Iterable<Uint8Array>): Frontier {
  const hashes = [...frontier.hashes];
  let { size } = frontier;
  for (const entry of entries) {
    let subtree = sha256(LEAF, entry);
    // Each trailing one bit of the size is a perfect subtree as large as the one that grows.
    for (let rest = size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      subtree = join(hashes.pop() ?? subtree, subtree);
    }
    hashes.push(subtree);
    size += 1;
  }
  return { size, hashes };
}

/** Root hash of the tree, 32 bytes; of an empty one the hash of nothing. */
export function rootOf(frontier: Frontier): Uint8Array {
  const [smallest, ...larger] = [...frontier.hashes].reverse();
  if (smallest === undefined) return sha256();
  return larger.reduce((right, left) => join(left, right), smallest);
}

export const encodeFrontier = ({ size, hashes }: Frontier): string =>
  [size, ...hashes.map((hash) => Buffer.from(hash).toString('base64'))].join(' ');

/** Undefined when the text is not what `encodeFrontier` wrote. */
export function decodeFrontier(text: string): Frontier | undefined {
  const [count = '', ...encoded] = text.split(' ');
  const size = Number(count);
  const hashes = encoded.map((hash) => decodeBase64(hash) ?? Buffer.alloc(0));
  if (!/^(0|[1-9]\d*)$/.test(count) || !Number.isSafeInteger(size)) return undefined;
  if (hashes.length !== ones(size) || hashes.some((hash) => hash.length !== 32)) return undefined;
  return { size, hashes };
}

const ones = (size: number): number => size.toString(2).replaceAll('0', '').length;
