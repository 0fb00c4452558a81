import { createHash } from 'node:crypto';
import { type ChainHead, linkFault } from '../../events/chain.ts';
import type { Signer } from '../../events/ed25519.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import type { HybridClock } from '../../events/hlc.ts';
import type { Examination } from '../../events/log-receive.ts';
import type { Channel } from '../../src/gossip/machine/channel-contract.ts';
import type { Agreement, MachineDeps } from '../../src/gossip/machine/core.ts';
import { GOSSIP_PATH, type Reply, type Request } from '../../src/gossip/messages.ts';
import type { Sessions } from '../../src/gossip/sessions.ts';
import type { Verify } from '../../src/identity/contract.ts';

/**
 * Stand-ins for what costs most and decides nothing, so that a thousand lives fit into a test: signatures are hashes, keys are
 * not agreed on, messages are handed over unsealed, and the content of an event is taken as its origin wrote it. Sessions,
 * handshakes, chains, forks and clocks are as ever. Some lives are always lived with the real thing.
 */
const digest = (...parts: readonly Uint8Array[]): Uint8Array => {
  const hash = createHash('sha512');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

export const lightSigner = (index: number): Signer => {
  const publicKey = digest(Buffer.from(`light ${index}`)).subarray(0, 32);
  return { publicKey, sign: (message) => digest(publicKey, message) };
};

export const lightVerify: Verify = (publicKey, message, signature) =>
  Buffer.compare(digest(publicKey, message), signature) === 0;

const ZEROES = new Uint8Array(32);

export const lightAgreement: Agreement = {
  createEphemeral: (seed) => ({
    publicKey: seed,
    agree: (remote) => remote.map((byte, index) => byte ^ (seed[index] ?? 0)),
  }),
  derivePairKeys: (shared, transcript) => ({
    sessionId: Buffer.from(digest(shared, transcript).subarray(0, 16)).toString('hex'),
    handshake: { initiator: ZEROES, responder: ZEROES },
    gossip: { initiator: ZEROES, responder: ZEROES },
    carrier: ZEROES,
    tunnel: () => ZEROES,
    erase: () => {},
  }),
};

interface Letter {
  readonly session: string;
  readonly counter: number;
  readonly time: number;
  readonly value: Request | Reply;
}

/** Letters under way: what travels is their number. */
export class Post {
  /** Told of everything that is sent. */
  watch: ((value: Request | Reply) => void) | undefined;
  readonly #letters = new Map<number, Letter>();
  #last = 0;

  put(letter: Letter): Uint8Array {
    this.watch?.(letter.value);
    this.#last += 1;
    this.#letters.set(this.#last, letter);
    const body = Buffer.alloc(8);
    body.writeDoubleBE(this.#last);
    return body;
  }

  take(body: Uint8Array): Letter | undefined {
    const number = Buffer.from(body.buffer, body.byteOffset, body.length).readDoubleBE();
    const letter = this.#letters.get(number);
    this.#letters.delete(number);
    return letter;
  }
}

export function createLightChannel(
  deps: Pick<MachineDeps, 'clock' | 'transport'>,
  sessions: Sessions,
  post: Post,
): Channel {
  const { clock, transport } = deps;
  return {
    call(peer, endpoints, request, timeoutMs, done) {
      const session = sessions.forSending(peer);
      if (session === undefined || endpoints.length === 0) return done({ ok: false, fault: 'no_session' });
      session.sent += 1;
      const sentAt = clock.now();
      const startedAt = clock.monotonic();
      const body = post.put({ session: session.id, counter: session.sent, time: sentAt, value: request });
      transport.post(
        { endpoints, path: GOSSIP_PATH, contentType: 'application/octet-stream', body, timeoutMs },
        (outcome) => {
          if (outcome.kind === 'fault') return done({ ok: false, fault: outcome.fault, session });
          if (outcome.status === 401) return done({ ok: false, fault: 'no_session', session });
          const letter = outcome.status === 200 ? post.take(outcome.body) : undefined;
          if (letter?.session !== session.id || sessions.find(session.id) === undefined)
            return done({ ok: false, fault: 'invalid', session });
          const skew = letter.time - (sentAt + (clock.monotonic() - startedAt) / 2);
          done({ ok: true, reply: letter.value as Reply, session, skew });
        },
      );
    },
    open(_method, _path, body) {
      const letter = post.take(body);
      if (letter === undefined) return 'refused';
      const session = sessions.find(letter.session);
      if (session === undefined) return 'unknown';
      if (!session.window.accept(letter.counter)) return 'refused';
      return {
        session,
        request: letter.value as Request,
        skew: letter.time - clock.now(),
        answer(reply) {
          session.sent += 1;
          return post.put({ session: session.id, counter: session.sent, time: clock.now(), value: reply });
        },
      };
    },
  };
}

/** As `examineBatch`, but the content and the signatures are taken as they are. */
export function examineLightly(
  head: ChainHead,
  batch: readonly AnyEvent[],
  deps: {
    readonly hlc: Pick<HybridClock, 'tooFarAhead'>;
    readonly held: (seq: number) => AnyEvent | undefined;
  },
): Examination {
  const first = batch[0];
  if (first === undefined) return { kind: 'fresh', events: [], duplicates: 0, ignored: 0 };
  if (first.seq > head.seq + 1) return { kind: 'gap', have: head.seq };
  for (const offered of batch) {
    if (offered.seq > head.seq + 1) break;
    const ours = deps.held(Math.min(offered.seq, head.seq));
    if (ours === undefined) continue;
    const agrees = offered.seq > head.seq ? offered.prev_hash === ours.hash : offered.hash === ours.hash;
    if (!agrees) return { kind: 'equivocation', seq: ours.seq, held: ours, offered };
  }
  const fresh = batch.filter((event) => event.seq > head.seq);
  let at: ChainHead = head;
  let whole = 0;
  let early: AnyEvent | undefined;
  for (const [index, event] of fresh.entries()) {
    const reason = linkFault(at, event);
    if (reason !== undefined) return { kind: 'refused', seq: event.seq, reason };
    early ??= deps.hlc.tooFarAhead(event.hlc) === undefined ? undefined : event;
    if (early === undefined && event.signature !== null) whole = index + 1;
    at = event;
  }
  if (whole === 0 && early !== undefined)
    return { kind: 'ahead', seq: early.seq, aheadMs: deps.hlc.tooFarAhead(early.hlc) ?? 0 };
  const duplicates = batch.length - fresh.length;
  return { kind: 'fresh', events: fresh.slice(0, whole), duplicates, ignored: fresh.length - whole };
}
