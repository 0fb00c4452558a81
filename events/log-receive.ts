import type { KeyObject } from 'node:crypto';
import { type ChainHead, verifyRun } from './chain.ts';
import type { AnyEvent } from './envelope.ts';
import { type HybridClock, ZERO_HLC } from './hlc.ts';
import type { ReceiveOutcome } from './log-contract.ts';
import { dataFaults, envelopeFaults, streamOf } from './schema-check.ts';

/** Either the final outcome, or the whole signed transactions to store. */
export type Examination =
  | Exclude<ReceiveOutcome, { kind: 'appended' }>
  | {
      readonly kind: 'fresh';
      readonly events: readonly AnyEvent[];
      readonly duplicates: number;
      readonly ignored: number;
    };

/**
 * Decides about a batch of one origin's `config` events. `held` looks up what is stored under a sequence number.
 * Nothing is believed because of who handed it over: relays are not trusted, only the origin's signature is.
 */
export function examineBatch(
  head: ChainHead,
  key: KeyObject,
  batch: readonly AnyEvent[],
  deps: {
    readonly hlc: Pick<HybridClock, 'tooFarAhead'>;
    readonly held: (seq: number) => AnyEvent | undefined;
  },
): Examination {
  const first = batch[0];
  if (first === undefined) return { kind: 'fresh', events: [], duplicates: 0, ignored: 0 };
  const malformed = formFault(head, batch);
  if (malformed !== undefined) return malformed;
  if (first.seq > head.seq + 1) return { kind: 'gap', have: head.seq };

  const fork = findFork(head, key, batch, deps.held);
  if (fork !== undefined) return fork;

  const fresh = batch.filter((event) => event.seq > head.seq);
  const duplicates = batch.length - fresh.length;
  const run = verifyRun(head, key, fresh);
  if ('reason' in run) return { kind: 'refused', seq: run.seq, reason: run.reason };

  const early = fresh
    .slice(0, run.signed)
    .findIndex((event) => deps.hlc.tooFarAhead(event.hlc) !== undefined);
  const inTime =
    early < 0 ? run.signed : fresh.findLastIndex((event, i) => i < early && event.signature !== null) + 1;
  const ahead = early < 0 ? undefined : fresh[early];
  if (inTime === 0 && ahead !== undefined) {
    return { kind: 'ahead', seq: ahead.seq, aheadMs: deps.hlc.tooFarAhead(ahead.hlc) ?? 0 };
  }
  const events = fresh.slice(0, inTime);
  return contentFault(events) ?? { kind: 'fresh', events, duplicates, ignored: fresh.length - inTime };
}

type Refusal = Extract<ReceiveOutcome, { kind: 'refused' }>;

function formFault(head: ChainHead, batch: readonly AnyEvent[]): Refusal | undefined {
  let due = batch[0]?.seq;
  for (const event of batch) {
    const [fault] = envelopeFaults(event);
    if (fault !== undefined) {
      const seq = Number.isSafeInteger(event.seq) ? event.seq : 0;
      return { kind: 'refused', seq, reason: `it is malformed: ${fault.pointer} ${fault.message}` };
    }
    if (event.origin !== head.origin)
      return { kind: 'refused', seq: event.seq, reason: `its origin is ${event.origin}` };
    if (event.stream !== 'config')
      return { kind: 'refused', seq: event.seq, reason: 'local events are not replicated' };
    if (event.seq !== due) {
      return {
        kind: 'refused',
        seq: event.seq,
        reason: `the batch has a hole: ${due} is due, ${event.seq} came`,
      };
    }
    due += 1;
  }
  return undefined;
}

/**
 * Looks for a second history signed by the same origin. Only what the origin's own signature covers counts, or a relay
 * could get an honest peer quarantined by inventing an event for it.
 */
function findFork(
  head: ChainHead,
  key: KeyObject,
  batch: readonly AnyEvent[],
  held: (seq: number) => AnyEvent | undefined,
): Examination | undefined {
  for (const [index, offered] of batch.entries()) {
    if (offered.seq > head.seq + 1) return undefined;
    // What follows the end held here is the ordinary case, and needs no reading.
    if (offered.seq > head.seq && (head.seq === 0 || offered.prev_hash === head.hash)) return undefined;
    const ours = held(Math.min(offered.seq, head.seq));
    if (ours === undefined) continue;
    const agrees = offered.seq > head.seq ? offered.prev_hash === ours.hash : offered.hash === ours.hash;
    if (agrees) continue;
    const before: ChainHead = {
      origin: head.origin,
      stream: head.stream,
      seq: offered.seq - 1,
      hash: offered.prev_hash,
      hlc: ZERO_HLC,
    };
    const run = verifyRun(before, key, batch.slice(index));
    if ('signed' in run && run.signed > 0)
      return { kind: 'equivocation', seq: ours.seq, held: ours, offered };
    return {
      kind: 'refused',
      seq: offered.seq,
      reason: 'it contradicts what is held and no signature of the origin covers it',
    };
  }
  return undefined;
}

function contentFault(events: readonly AnyEvent[]): Refusal | undefined {
  for (const event of events) {
    const stream = streamOf(event.type);
    if (stream !== undefined && stream !== event.stream) {
      return { kind: 'refused', seq: event.seq, reason: `${event.type} belongs to the ${stream} stream` };
    }
    const [fault] = dataFaults(event.type, event.version, event.data);
    if (fault !== undefined) {
      return { kind: 'refused', seq: event.seq, reason: `${event.type}: ${fault.pointer} ${fault.message}` };
    }
  }
  return undefined;
}
