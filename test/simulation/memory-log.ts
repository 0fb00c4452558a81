import type { Hlc, PeerId, Position } from '../../events/brand.ts';
import { CATALOGUE } from '../../events/catalogue.ts';
import { type ChainHead, GENESIS_HASH, hashOf, signTransaction } from '../../events/chain.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { publicKeyObject, type Signer } from '../../events/ed25519.ts';
import type { AnyEvent, Stream } from '../../events/envelope.ts';
import { createHostClocks, ZERO_HLC } from '../../events/hlc.ts';
import { createIds, newEventId } from '../../events/ids.ts';
import { type Examination, examineBatch } from '../../events/log-receive.ts';
import type { GossipLog } from '../../src/gossip/machine/core.ts';
import { examineLightly } from './light.ts';

export interface MemoryLog extends GossipLog {
  /** Everything held, by position. */
  readonly events: readonly AnyEvent[];
  /** The log as it was at a position: what a restored backup holds. */
  before(position: number): readonly AnyEvent[];
}

/** A log without a disk, held to the same rules: chained, signed, and received through the real examination. */
export function createMemoryLog(
  options: {
    readonly origin: PeerId;
    readonly restored?: readonly AnyEvent[];
    /** Takes content and signatures as they are (light.ts). */
    readonly light?: boolean;
  },
  deps: { readonly signer: Signer; readonly clock: Clock; readonly random: Random },
): MemoryLog {
  const { origin } = options;
  const ids = createIds(deps);
  const events: AnyEvent[] = [...(options.restored ?? [])];
  const chains = new Map<string, AnyEvent[]>();
  const meta = new Map<string, string>();
  const keys = new Map<string, ReturnType<typeof publicKeyObject>>();
  const listeners = new Set<(events: readonly AnyEvent[]) => void>();
  const chain = (of: PeerId, stream: Stream): AnyEvent[] => {
    const key = `${of}/${stream}`;
    const found = chains.get(key) ?? [];
    chains.set(key, found);
    return found;
  };
  for (const event of events) chain(event.origin, event.stream).push(event);
  const newestOf = (stream: Stream): Hlc =>
    events
      .filter((event) => event.stream === stream)
      .map((event) => event.hlc)
      .sort()
      .at(-1) ?? ZERO_HLC;
  const clocks = createHostClocks({ config: newestOf('config'), local: newestOf('local') }, deps);
  const hlc = clocks.config;
  const headOf = (of: PeerId, stream: Stream): ChainHead => {
    const last = chain(of, stream).at(-1);
    return {
      origin: of,
      stream,
      seq: last?.seq ?? 0,
      hash: last?.hash ?? GENESIS_HASH,
      hlc: last?.hlc ?? ZERO_HLC,
    };
  };
  const store = (added: readonly AnyEvent[]): void => {
    for (const event of added) {
      events.push(event);
      chain(event.origin, event.stream).push(event);
    }
    for (const listener of listeners) listener(added);
  };
  return {
    origin,
    events,
    get head() {
      return events.length as Position;
    },
    append(drafts, context) {
      const heads = new Map<Stream, ChainHead>();
      const made: AnyEvent[] = [];
      for (const draft of drafts) {
        const { stream, version } = CATALOGUE[draft.type];
        const head = heads.get(stream) ?? headOf(origin, stream);
        const unhashed = {
          id: draft.id ?? newEventId(ids),
          position: (events.length + made.length + 1) as Position,
          origin,
          stream,
          seq: head.seq + 1,
          hlc: clocks.tick(stream),
          type: draft.type,
          version,
          entity: draft.entity,
          actor: context.actor,
          correlation_id: context.correlationId,
          data: structuredClone(draft.data),
          prev_hash: head.hash,
          hash: '',
          signature: null,
        } as AnyEvent;
        const event = { ...unhashed, hash: hashOf(unhashed) };
        made.push(event);
        heads.set(stream, { origin, stream, seq: event.seq, hash: event.hash, hlc: event.hlc });
      }
      const signed = made.map((event) =>
        heads.get(event.stream)?.seq === event.seq
          ? { ...event, signature: signTransaction(deps.signer, event.hash) }
          : event,
      );
      store(signed);
      return signed;
    },
    receive(from, publicKey, batch) {
      const held = (seq: number): AnyEvent | undefined => chain(from, 'config')[seq - 1];
      const examine = (): Examination => {
        if (options.light === true) return examineLightly(headOf(from, 'config'), batch, { hlc, held });
        const name = Buffer.from(publicKey).toString('base64');
        const key = keys.get(name) ?? publicKeyObject(publicKey);
        keys.set(name, key);
        return examineBatch(headOf(from, 'config'), key, batch, { hlc, held });
      };
      const outcome = examine();
      if (outcome.kind !== 'fresh') return outcome;
      const added = outcome.events.map((event, index) => ({
        ...event,
        position: (events.length + 1 + index) as Position,
      }));
      const last = added.at(-1);
      if (last !== undefined) {
        hlc.observe(last.hlc);
        store(added);
      }
      return { kind: 'appended', events: added, duplicates: outcome.duplicates, ignored: outcome.ignored };
    },
    versionVector() {
      const vector: Record<string, number> = {};
      for (const list of chains.values()) {
        const last = list.at(-1);
        if (last?.stream === 'config') vector[last.origin] = last.seq;
      }
      return vector;
    },
    range(of, fromSeq, maxEvents) {
      const list = chain(of, 'config');
      let end = Math.min(list.length, fromSeq - 1 + maxEvents);
      while (end < list.length && list[end - 1]?.signature === null) end += 1;
      return list.slice(fromSeq - 1, end);
    },
    read: (filter) => events.filter((event) => filter.types?.includes(event.type) ?? true),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    meta: { get: (key) => meta.get(key), set: (key, value) => void meta.set(key, value) },
    before: (position) => events.slice(0, position),
  };
}
