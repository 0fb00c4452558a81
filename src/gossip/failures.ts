import { ArcticError, type ErrorCode, type ErrorDetail } from '../../events/errors.ts';

/** Why bytes did not reach a peer or no answer came back. */
export type TransportFault =
  | 'refused'
  | 'timeout'
  | 'reset'
  | 'not_found'
  | 'no_route'
  | 'too_large'
  | 'not_arctic';

const FAULT_TEXT: Readonly<Record<TransportFault, string>> = {
  refused: 'connection refused',
  timeout: 'connection timeout',
  reset: 'connection reset',
  not_found: 'host name not found',
  no_route: 'no route to host',
  too_large: 'answer too large',
  not_arctic: 'the address does not answer like an Arctic agent',
};

/** A handshake that did not come about. `text` is what people see, word for word the troubleshooting page's where it has one. */
export interface HandshakeFailure {
  readonly code: ErrorCode;
  readonly text: string;
  /** Another try may help; false: nothing changes until somebody changes something. */
  readonly retry: boolean;
  /** The other side does not know us yet, but may learn of us by gossip. */
  readonly unknown?: boolean;
}

const failed = (code: ErrorCode, reason: string, retry = false): HandshakeFailure => ({
  code,
  text: `handshake failed: ${reason}`,
  retry,
});

export const FAILURES = {
  licenseMismatch: failed('LICENSE_MISMATCH', 'license mismatch'),
  invalidSignature: failed('HANDSHAKE_FAILED', 'invalid signature'),
  nodeLimit: failed('NODE_LIMIT_EXCEEDED', 'node limit exceeded'),
  alreadyMember: {
    code: 'ALREADY_EXISTS',
    text: 'peer already exists in cluster',
    retry: false,
  } satisfies HandshakeFailure,
  self: failed('HANDSHAKE_FAILED', 'the address leads back to this agent'),
  removed: failed(
    'HANDSHAKE_FAILED',
    'the peer was removed from this cluster; re-bootstrap it, which gives it a new identity, and add it again',
  ),
  remoteNotBootstrapped: failed(
    'HANDSHAKE_FAILED',
    'the remote agent is not bootstrapped; run `arctic bootstrap` against it first',
  ),
  protocol: failed('HANDSHAKE_FAILED', 'no common protocol version; upgrade the older agent'),
  unknownPeer: {
    ...failed('HANDSHAKE_FAILED', 'the remote agent does not know this peer yet', true),
    unknown: true,
  } satisfies HandshakeFailure,
  expired: failed('HANDSHAKE_FAILED', 'the handshake took too long or was answered before', true),
  licenseChanged: failed('HANDSHAKE_FAILED', 'the license was replaced during the handshake', true),
  malformed: failed('HANDSHAKE_FAILED', 'malformed message'),
  busy: failed('RATE_LIMITED', 'too many handshakes at once', true),
  catchingUp: failed('UNAVAILABLE', 'the remote agent is catching up with its own history', true),
  clockAhead: failed(
    'UNAVAILABLE',
    "the clock of the remote agent is ahead of its peers'; set it, and add the peer again",
  ),
  unavailable: failed('HANDSHAKE_FAILED', 'the remote agent is not ready', true),
} as const satisfies Readonly<Record<string, HandshakeFailure>>;

export const transportFailure = (fault: TransportFault): HandshakeFailure =>
  failed('HANDSHAKE_FAILED', FAULT_TEXT[fault], fault !== 'not_arctic' && fault !== 'too_large');

/** A refusal of the pure admission decision, in the handshake's words. */
export function admissionFailure(error: ArcticError): HandshakeFailure {
  switch (error.code) {
    case 'NODE_LIMIT_EXCEEDED':
      return FAILURES.nodeLimit;
    case 'LICENSE_MISMATCH':
      return FAILURES.licenseMismatch;
    case 'ALREADY_EXISTS':
      return FAILURES.alreadyMember;
    default:
      return {
        code: error.code,
        text: error.message.startsWith('handshake failed: ')
          ? error.message
          : `handshake failed: ${error.message}`,
        retry: false,
      };
  }
}

export const toError = (failure: HandshakeFailure, details: readonly ErrorDetail[] = []): ArcticError =>
  new ArcticError(failure.code, failure.text, details);

/** HTTP status with which a responder says it; 503 tells the initiator to come again. */
export const statusOf = (failure: HandshakeFailure): number =>
  failure.code === 'RATE_LIMITED' ? 429 : failure.retry ? 503 : toError(failure).status;

/** Printable ASCII: the text of an unauthenticated refusal ends in logs and on terminals. */
const PRINTABLE = /^[\x20-\x7e]{1,300}$/;

/** What a refusal of the other side means here. It is not authenticated, so it can only end or delay this one handshake. */
export function remoteFailure(status: number, body: unknown): HandshakeFailure {
  const field = (name: string): unknown =>
    typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
  const text = field('error');
  const known = Object.values(FAILURES).find((failure) => failure.text === text);
  if (known === FAILURES.alreadyMember) return FAILURES.unavailable;
  if (known !== undefined) return known;
  if (field('code') === 'NOT_BOOTSTRAPPED') return FAILURES.remoteNotBootstrapped;
  if (status === 429) return FAILURES.busy;
  if (status >= 500 || status === 408) return FAILURES.unavailable;
  if (typeof text === 'string' && PRINTABLE.test(text)) {
    const reason = text.startsWith('handshake failed: ') ? text.slice('handshake failed: '.length) : text;
    return failed('HANDSHAKE_FAILED', reason);
  }
  return transportFailure('not_arctic');
}
