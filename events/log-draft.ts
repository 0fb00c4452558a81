import type { Hlc, Position } from './brand.ts';
import { canonicalJson, eventPreimage, parsedCopy } from './canonical.ts';
import { CATALOGUE, isKnownType } from './catalogue.ts';
import { GENESIS_HASH, hashPreimage } from './chain.ts';
import type { AnyEvent, AnyNewEvent } from './envelope.ts';
import { ArcticError } from './errors.ts';
import type { AppendContext, PinnedChain } from './log-contract.ts';
import { dataFaults, draftFaults } from './schema-check.ts';

export interface Draft {
  /** Nobody else's yet: what signs the transaction sets the signature of its last event. */
  readonly event: AnyEvent & Unfinished;
  /** The hashed bytes. */
  readonly body: string;
  /** Where the chain ends with it. */
  readonly head: PinnedChain;
}

interface Unfinished {
  hash: string;
  signature: string | null;
}

/** Fills in the envelope and checks the whole: what this host appends must be what every other host accepts. */
export function draftEvent(
  event: AnyNewEvent,
  context: AppendContext,
  at: { readonly id: string; readonly position: Position; readonly hlc: Hlc; readonly head: PinnedChain },
): Draft {
  if (!isKnownType(event.type))
    throw new ArcticError('INTERNAL', `there is no event type ${String(event.type)}`);
  const { stream, version } = CATALOGUE[event.type];
  const dataText = canonicalJson(event.data);
  const unhashed = {
    id: at.id,
    position: at.position,
    origin: at.head.origin,
    stream,
    seq: at.head.seq + 1,
    hlc: at.hlc,
    type: event.type,
    version,
    entity: event.entity,
    actor: { kind: context.actor.kind, id: context.actor.id, address: context.actor.address },
    correlation_id: context.correlationId,
    // Subscribers see exactly what a later read will give, not an object somebody may still change.
    data: parsedCopy(event.data),
    prev_hash: at.head.hash,
    hash: GENESIS_HASH,
    signature: null,
  } as unknown as AnyEvent & Unfinished;
  const misfit = draftFaults(unhashed, event.id === undefined);
  const wrong = misfit.length > 0 ? misfit : dataFaults(event.type, version, unhashed.data, dataText);
  if (wrong.length > 0) {
    const [first] = wrong;
    throw new ArcticError(
      'INVALID_REQUEST',
      `${event.type} of ${event.entity}: ${first?.pointer} ${first?.message}`,
      wrong,
    );
  }
  const body = eventPreimage(unhashed, dataText);
  const hash = hashPreimage(body);
  unhashed.hash = hash;
  const { origin, publicKey } = at.head;
  return { event: unhashed, body, head: { origin, stream, seq: unhashed.seq, hash, hlc: at.hlc, publicKey } };
}
