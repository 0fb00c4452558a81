import type { Readable } from 'node:stream';
import { ArcticError } from '../../events/errors.ts';
import { networkOf } from './connections.ts';
import type { PeerSide } from './ports.ts';

/** Enough of a message to know which session it claims. */
const HEAD_BYTES = 64;
/** So much of any message is read: the connections are bounded, and a handshake in a flood still begins. */
const FREE_BYTES = 8_192;
/** Held at once beyond that, for one session or one network: four messages of the largest size, as a peer has connections. */
const BYTES_EACH = 16 * 1_048_576;
/** Held at once for everybody that shows no session. */
const BYTES_OF_STRANGERS = 64 * 1_048_576;

/** Reads what other agents send, holding no more of it than gossip says the sender may have. */
export interface PeerBodies {
  /** The body, or its beginning when the rest is not worth reading. RATE_LIMITED when too much is being held already. */
  read(path: string, address: string, payload: Readable): Promise<Buffer>;
}

interface Holding {
  readonly key: string;
  readonly stranger: boolean;
  readonly limit: number;
  /** Bytes counted against the two bounds. */
  counted: number;
}

export function createPeerBodies(peerSide: Pick<PeerSide, 'allowance'>): PeerBodies {
  const held = new Map<string, number>();
  let strangers = 0;

  const add = (holding: Holding, bytes: number): void => {
    const left = (held.get(holding.key) ?? 0) + bytes;
    if (left > 0) held.set(holding.key, left);
    else held.delete(holding.key);
    if (holding.stranger) strangers += bytes;
    holding.counted += bytes;
  };

  const grow = (holding: Holding, size: number): void => {
    const bytes = Math.max(0, Math.min(size, holding.limit) - FREE_BYTES) - holding.counted;
    if (bytes <= 0) return;
    if (
      (held.get(holding.key) ?? 0) + bytes > BYTES_EACH ||
      (holding.stranger && strangers + bytes > BYTES_OF_STRANGERS)
    )
      throw new ArcticError('RATE_LIMITED', 'too many messages of peers at once; try again in a moment.');
    add(holding, bytes);
  };

  return {
    async read(path, address, payload) {
      const chunks: Buffer[] = [];
      let size = 0;
      let holding: Holding | undefined;
      try {
        for await (const chunk of payload.iterator({ destroyOnReturn: false })) {
          chunks.push(chunk as Buffer);
          size += (chunk as Buffer).length;
          if (holding === undefined) {
            if (size < HEAD_BYTES) continue;
            const { bytes, session } = peerSide.allowance(path, Buffer.concat(chunks));
            const stranger = session === undefined;
            holding = { key: session ?? networkOf(address), stranger, limit: bytes, counted: 0 };
          }
          grow(holding, size);
          if (size >= holding.limit) break;
        }
        return Buffer.concat(chunks).subarray(0, holding?.limit);
      } finally {
        if (holding !== undefined) add(holding, -holding.counted);
        // What was not worth reading passes by and is stored nowhere, so that the sender gets to read its answer.
        payload.resume();
      }
    },
  };
}
