import type { ChainSpan } from './audit-format.ts';
import type { PeerId } from './brand.ts';
import { type ChainHead, GENESIS_HASH } from './chain.ts';
import { ZERO_HLC } from './hlc.ts';
import type { Stream } from './stream.ts';

/** A chain as far as an export has shown it. */
export interface ShownChain {
  head: ChainHead;
  readonly first: number;
  /** Line of the first event no signature covers yet; 0 when all are. */
  unproven: number;
  /** False after lines went missing: what comes next is taken as it says. */
  certain: boolean;
}

export interface ShownChains {
  /** The chain a line goes on with. One not seen before begins at its first event, or where the range of the export lets it. */
  of(origin: PeerId, stream: Stream, seq: number, prevHash: string, ranged: boolean): ShownChain;
  all(): Iterable<ShownChain>;
  /** Something of the history was not seen: chains go on where they say. */
  lost(): void;
  spans(): readonly ChainSpan[];
}

export function createShownChains(): ShownChains {
  const chains = new Map<string, ShownChain>();
  return {
    of(origin, stream, seq, prevHash, ranged) {
      const key = `${origin}/${stream}`;
      const known = chains.get(key);
      if (known !== undefined) return known;
      const head: ChainHead = ranged
        ? { origin, stream, seq: seq - 1, hash: prevHash, hlc: ZERO_HLC }
        : { origin, stream, seq: 0, hash: GENESIS_HASH, hlc: ZERO_HLC };
      const made: ShownChain = { head, first: ranged ? seq : 1, unproven: 0, certain: true };
      chains.set(key, made);
      return made;
    },
    all: () => chains.values(),
    lost() {
      for (const chain of chains.values()) {
        chain.certain = false;
        chain.unproven = 0;
      }
    },
    spans: () =>
      [...chains.values()].map(({ head, first }) => ({
        origin: head.origin,
        stream: head.stream,
        first_seq: first,
        last_seq: head.seq,
        last_hash: head.hash,
      })),
  };
}

/** Says which events no signature covers, once. */
export function unprovenText(chain: ShownChain, why: string): string {
  const { origin, stream } = chain.head;
  const from = chain.unproven;
  chain.unproven = 0;
  return `events of the ${stream} chain of ${origin} from line ${from} on are not proven: ${why}`;
}
