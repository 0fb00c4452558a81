/** Whether a peer takes carriers: the handshake of one link, without a flow. */
import { timingSafeEqual } from 'node:crypto';
import { isIPv6, Socket } from 'node:net';
import type { NativeAddon } from '../../native/addon.ts';
import { openDialer } from '../../native/transparent.ts';
import type { CarrierSession } from '../tproxy/contract.ts';
import type { EngineRandom } from '../tproxy/dependencies.ts';
import { decodeHeader, FRAME, HEADER_LENGTH, TAG_LENGTH } from '../tproxy/frames.ts';
import {
  createOpener,
  createSealer,
  decodeWelcome,
  deriveSecrets,
  encodeHello,
  NONCE_LENGTH,
  WELCOME_LENGTH,
} from '../tproxy/link-keys.ts';

/** WELCOME and the CONFIRM frame behind it: all that an acceptor says by itself. */
const ANSWER_LENGTH = WELCOME_LENGTH + HEADER_LENGTH + 32 + TAG_LENGTH;

export interface Target {
  /** IP address. */
  readonly address: string;
  readonly port: number;
}

export interface ReachDependencies {
  readonly addon: NativeAddon;
  readonly random: EngineRandom;
  /** SO_MARK, so that a route that covers the peer does not capture this. */
  readonly mark: number;
}

/**
 * Tells once whether whoever answers there holds the session's key; `false` at the first error. Silence is the caller's affair,
 * who ends it with the function returned.
 */
export function tryCarrier(
  target: Target,
  session: CarrierSession,
  deps: ReachDependencies,
  done: (reached: boolean) => void,
): () => void {
  const nonce = deps.random.bytes(NONCE_LENGTH);
  const fd = openDialer(deps.addon, {
    sourceAddress: isIPv6(target.address) ? '::' : '0.0.0.0',
    mark: deps.mark,
  });
  // `manualStart` keeps Node from reading before the socket is connected.
  const socket = new Socket({ fd, manualStart: true } as ConstructorParameters<typeof Socket>[0]);
  let answer = Buffer.alloc(0);
  let told = false;
  const tell = (reached: boolean): void => {
    if (told) return;
    told = true;
    done(reached);
    socket.destroy();
  };
  socket.on('error', () => tell(false));
  socket.on('close', () => tell(false));
  socket.on('data', (bytes: Buffer) => {
    answer = Buffer.concat([answer, bytes]);
    if (answer.length < ANSWER_LENGTH) return;
    try {
      const proof = proofOf(answer, session, nonce);
      // The other side has a whole link then, which ends in order.
      if (proof !== undefined) socket.end(proof);
      tell(proof !== undefined);
    } catch {
      tell(false);
    }
  });
  socket.connect({ host: target.address, port: target.port }, () => {
    socket.write(encodeHello(session.sessionId, nonce));
  });
  return () => tell(false);
}

/** This side's CONFIRM when the other's is right; undefined when it is not. Throws FrameError for what is no answer. */
function proofOf(answer: Buffer, session: CarrierSession, nonce: Uint8Array): Buffer | undefined {
  const theirs = decodeWelcome(answer.subarray(0, WELCOME_LENGTH));
  const frame = answer.subarray(WELCOME_LENGTH, ANSWER_LENGTH);
  const { type, length } = decodeHeader(frame);
  if (type !== FRAME.confirm || length !== 32) return undefined;
  const secrets = deriveSecrets(session, session.initiator, nonce, theirs);
  const payload = createOpener(secrets.toDialer).open(
    type,
    frame.subarray(0, HEADER_LENGTH),
    frame.subarray(HEADER_LENGTH),
  );
  if (!timingSafeEqual(payload, secrets.transcript)) return undefined;
  return createSealer(secrets.toAcceptor).seal(FRAME.confirm, secrets.transcript);
}
