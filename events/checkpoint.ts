import { decodeBase64 } from './base64.ts';
import type { PeerId } from './brand.ts';
import { isPeerId } from './ids.ts';

/**
 * What an origin says about the whole of its `config` events: how many there are, and the root of the Merkle tree over their
 * hashes. The text is that of c2sp.org/tlog-checkpoint; leaf n of the tree is the 32 bytes of the hash of event n + 1.
 */
export interface Checkpoint {
  readonly origin: PeerId;
  /** Number of events; also the sequence number of the last. */
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

/** The name of a log, which is also the name of the key that signs its checkpoints. */
export const logName = (origin: PeerId): string => `arctic/${origin}/config`;
/** The name under which a peer signs the checkpoints of others. */
export const witnessName = (peer: PeerId): string => `arctic/${peer}/witness`;

/** The peer of a witness's name. */
export function witnessOf(name: string): PeerId | undefined {
  const peer = /^arctic\/([^/]+)\/witness$/.exec(name)?.[1];
  return isPeerId(peer) ? peer : undefined;
}

export const formatCheckpoint = ({ origin, size, root }: Checkpoint): string =>
  `${logName(origin)}\n${size}\n${Buffer.from(root).toString('base64')}\n`;

/** Undefined when the text is no checkpoint of ours. Extension lines are allowed and mean nothing here. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  const [name = '', count = '', hash = ''] = text.split('\n');
  const origin = /^arctic\/([^/]+)\/config$/.exec(name)?.[1];
  const size = Number(count);
  const root = decodeBase64(hash);
  if (!isPeerId(origin) || !/^(0|[1-9]\d*)$/.test(count) || !Number.isSafeInteger(size)) return undefined;
  return root?.length === 32 ? { origin, size, root } : undefined;
}
