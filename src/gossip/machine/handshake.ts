import type { CustomerId, LicenseId, PeerId } from '../../../events/brand.ts';
import type { LicenseDocumentView } from '../../../projections/views.ts';
import type { HandshakeAnswer, HandshakeHello, HandshakeParty } from '../../identity/handshake-keys.ts';
import { signTranscript, transcriptOf, verifyTranscript } from '../../identity/handshake-keys.ts';
import {
  createEphemeral,
  type Direction,
  derivePairKeys,
  type PairKeys,
} from '../../identity/key-schedule.ts';
import { FAILURES, type HandshakeFailure, remoteFailure, transportFailure } from '../failures.ts';
import {
  type Answer,
  type Confirm,
  type Credentials,
  HANDSHAKE_PATH,
  type Hello,
  parseJson,
  readAccepted,
  readAnswer,
  readCredentials,
} from '../messages.ts';
import { PROTOCOLS } from '../parameters.ts';
import { open, seal, sealedHeader } from '../seal.ts';
import type { MachineDeps } from './core.ts';

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const unbase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value), 'utf8');

const REAL = { createEphemeral, derivePairKeys };
const agreementOf = (deps: MachineDeps) => deps.security?.agreement ?? REAL;

/** A handshake that came about: both identities proved, both licenses verified, keys agreed. */
export interface Agreement {
  readonly keys: PairKeys;
  readonly side: Direction;
  readonly party: HandshakeParty & { readonly peer_id: PeerId };
  readonly credentials: Credentials;
  /** The peer's wall clock minus ours, ms. */
  readonly offset: number;
  /** Initiator: the endpoint that answered. */
  readonly endpoint: string | undefined;
}

/** How this host presents itself; undefined before bootstrap. */
export function localParty(deps: MachineDeps): HandshakeParty | undefined {
  const cluster = deps.views.cluster();
  const license = deps.views.license();
  if (cluster.cluster_id === undefined || license === undefined) return undefined;
  const profile = deps.profile();
  return {
    peer_id: deps.identity.peerId,
    public_key: base64(deps.identity.publicKey),
    customer_id: license.customer_id,
    license_id: license.license_id,
    cluster_id: cluster.cluster_id,
    name: profile.name,
    address: profile.address,
    endpoints: profile.endpoints,
    version: profile.version,
  };
}

/** Checks both sides make of the other's claims before any signature. */
export function refuseParty(
  deps: MachineDeps,
  party: HandshakeParty,
  invited: boolean,
): HandshakeFailure | undefined {
  if (party.peer_id === deps.identity.peerId) return FAILURES.self;
  const known = deps.views.peers.get(party.peer_id as PeerId);
  // Only an operator of a member brings back who was removed; the decision has the last word.
  if (known?.membership === 'removed' && !invited) return FAILURES.removed;
  // The key pinned at admission; a peer that comes with another one is not that peer.
  if (known !== undefined && known.public_key !== party.public_key) return FAILURES.invalidSignature;
  if (party.customer_id !== deps.views.license()?.customer_id) return FAILURES.licenseMismatch;
  return undefined;
}

/** What goes sealed into the second half: our license, our members, and how much of the other's history we hold. */
export function localCredentials(
  deps: MachineDeps,
  peer: PeerId,
  signature?: Uint8Array,
): Credentials | undefined {
  const license = deps.views.license();
  if (license === undefined) return undefined;
  return {
    ...(signature === undefined ? {} : { signature: base64(signature) }),
    license: { ...license, features: [...license.features] },
    members: deps.views.peers
      .list()
      .filter((one) => one.membership === 'member')
      .map((one) => one.id),
    holds: deps.log.versionVector()[peer] ?? 0,
  };
}

/** A license that fits its schema, with its ids branded. */
export const licenseOf = ({ license }: Credentials): LicenseDocumentView => ({
  ...license,
  license_id: license.license_id as LicenseId,
  customer_id: license.customer_id as CustomerId,
});

/** The license shown must be genuine, of the customer that was claimed in the clear, and the one that was claimed. */
function refuseLicense(
  deps: MachineDeps,
  party: HandshakeParty,
  credentials: Credentials,
): HandshakeFailure | undefined {
  const { license } = credentials;
  if (license.customer_id !== party.customer_id || !deps.verifyLicense(licenseOf(credentials)))
    return FAILURES.licenseMismatch;
  // Gossip brought the sender a newer one between the two halves; its next try claims that.
  return license.license_id === party.license_id ? undefined : FAILURES.licenseChanged;
}

const sealContext = (role: 'request' | 'answer') =>
  ({ role, method: 'POST', path: HANDSHAKE_PATH, inReplyTo: 0 }) as const;

/** Each handshake key seals one message in its life, so the counter is always 1. */
export const sealCredentials = (
  keys: PairKeys,
  sender: Direction,
  time: number,
  value: Credentials,
): string =>
  base64(
    seal(
      keys.handshake[sender],
      { sessionId: keys.sessionId, counter: 1, time },
      sealContext(sender === 'initiator' ? 'request' : 'answer'),
      value,
    ),
  );

export function openCredentials(keys: PairKeys, sender: Direction, sealed: string): Credentials | undefined {
  const body = unbase64(sealed);
  const header = sealedHeader(body);
  if (header?.sessionId !== keys.sessionId || header.counter !== 1) return undefined;
  const opened = open(
    keys.handshake[sender],
    header,
    sealContext(sender === 'initiator' ? 'request' : 'answer'),
    body,
  );
  return opened === undefined ? undefined : readCredentials(opened.value);
}

export interface InitiateOptions {
  readonly endpoints: readonly string[];
  readonly intent: 'join' | 'member';
  /** Whom we expect there; undefined when an operator gave only an address. */
  readonly expected: PeerId | undefined;
  /** Limit of each of the two requests, ms. */
  readonly timeoutMs: number;
}

export type InitiateResult =
  | { readonly ok: true; readonly agreement: Agreement }
  | {
      readonly ok: false;
      readonly failure: HandshakeFailure;
      /** Known once an answer was verified. */
      readonly peer: PeerId | undefined;
    };

/** One try of the initiator's side: hello, answer, confirm, accepted. */
export function initiate(
  options: InitiateOptions,
  deps: MachineDeps,
  done: (result: InitiateResult) => void,
): void {
  const from = localParty(deps);
  const fail = (failure: HandshakeFailure, peer?: PeerId): void => done({ ok: false, failure, peer });
  if (from === undefined) {
    fail(FAILURES.unavailable);
    return;
  }
  const ephemeral = agreementOf(deps).createEphemeral(deps.random.bytes(32));
  const startedAt = deps.clock.monotonic();
  const time = Math.trunc(deps.clock.now());
  const hello: HandshakeHello = {
    protocols: deps.protocols ?? PROTOCOLS,
    intent: options.intent,
    to: options.expected ?? null,
    challenge: base64(deps.random.bytes(32)),
    ephemeral: base64(ephemeral.publicKey),
    time,
    from,
  };
  const post = (
    endpoints: readonly string[],
    value: unknown,
    next: (body: unknown, endpoint: string) => void,
  ) =>
    deps.transport.post(
      {
        endpoints,
        path: HANDSHAKE_PATH,
        contentType: 'application/json',
        body: json(value),
        timeoutMs: options.timeoutMs,
      },
      (outcome) => {
        if (outcome.kind === 'fault') return fail(transportFailure(outcome.fault), options.expected);
        const body = parseJson(outcome.body);
        if (outcome.status !== 200) return fail(remoteFailure(outcome.status, body), options.expected);
        next(body, outcome.endpoint);
      },
    );

  post(options.endpoints, { kind: 'hello', ...hello }, (body, endpoint) => {
    const answer = readAnswer(body);
    if (answer === undefined) return fail(FAILURES.malformed, options.expected);
    const peer = answer.from.peer_id as PeerId;
    // Half the round trip is the fairest guess of when the other side read its clock.
    const offset = answer.time - (time + (deps.clock.monotonic() - startedAt) / 2);
    const checked = checkAnswer(options, deps, hello, answer, ephemeral.agree);
    if ('failure' in checked) return fail(checked.failure, peer);
    const { keys, transcript } = checked;
    const credentials = localCredentials(deps, peer, signTranscript(deps.identity, 'initiator', transcript));
    if (credentials === undefined) return fail(FAILURES.unavailable, peer);
    const confirm: Confirm = {
      kind: 'confirm',
      session: keys.sessionId,
      sealed: sealCredentials(keys, 'initiator', deps.clock.now(), credentials),
    };
    post([endpoint], confirm, (reply) => {
      const accepted = readAccepted(reply);
      const theirs =
        accepted?.session === keys.sessionId
          ? openCredentials(keys, 'responder', accepted.sealed)
          : undefined;
      if (theirs === undefined) return fail(FAILURES.invalidSignature, peer);
      const unlicensed = refuseLicense(deps, answer.from, theirs);
      if (unlicensed !== undefined) return fail(unlicensed, peer);
      const party = { ...answer.from, peer_id: peer };
      done({
        ok: true,
        agreement: { keys, side: 'initiator', party, credentials: theirs, offset, endpoint },
      });
    });
  });
}

function checkAnswer(
  options: InitiateOptions,
  deps: MachineDeps,
  hello: HandshakeHello,
  answer: Answer,
  agree: (remote: Uint8Array) => Uint8Array,
): { readonly failure: HandshakeFailure } | { readonly keys: PairKeys; readonly transcript: Uint8Array } {
  if (!hello.protocols.includes(answer.protocol)) return { failure: FAILURES.protocol };
  const refusal = refuseParty(deps, answer.from, options.intent === 'join');
  if (refusal !== undefined) return { failure: refusal };
  // Another agent at a member's address: its identity is not the one it should have.
  if (options.expected !== undefined && answer.from.peer_id !== options.expected)
    return { failure: FAILURES.invalidSignature };
  const transcript = transcriptOf(hello, answer);
  const genuine = verifyTranscript(
    deps.verify,
    unbase64(answer.from.public_key),
    'responder',
    transcript,
    unbase64(answer.signature),
  );
  if (!genuine) return { failure: FAILURES.invalidSignature };
  if (
    options.intent === 'join' &&
    deps.views.peers.get(answer.from.peer_id as PeerId)?.membership === 'member'
  )
    return { failure: FAILURES.alreadyMember };
  const keys = agreeKeys(deps, agree, answer.ephemeral, transcript);
  return keys === undefined ? { failure: FAILURES.invalidSignature } : { keys, transcript };
}

/** Undefined for a public key of low order, which would make the secret predictable. */
function agreeKeys(
  deps: MachineDeps,
  agree: (remote: Uint8Array) => Uint8Array,
  remote: string,
  transcript: Uint8Array,
): PairKeys | undefined {
  try {
    const shared = agree(unbase64(remote));
    const keys = agreementOf(deps).derivePairKeys(shared, transcript);
    shared.fill(0);
    return keys;
  } catch {
    return undefined;
  }
}

/** A hello that was answered and waits for its confirmation. */
export interface PendingHandshake {
  readonly party: HandshakeParty & { readonly peer_id: PeerId };
  readonly intent: Hello['intent'];
  readonly transcript: Uint8Array;
  readonly keys: PairKeys;
  readonly offset: number;
  readonly remoteAddress: string;
  /** Monotonic ms. */
  readonly startedAt: number;
}

/** The responder's first half. Changes nothing: whoever replays a hello gains an answer it cannot confirm. */
export function answerHello(
  hello: Hello,
  remoteAddress: string,
  deps: MachineDeps,
): { readonly failure: HandshakeFailure } | { readonly answer: Answer; readonly pending: PendingHandshake } {
  const from = localParty(deps);
  if (from === undefined) return { failure: FAILURES.remoteNotBootstrapped };
  const spoken = deps.protocols ?? PROTOCOLS;
  const protocol = hello.protocols.filter((one) => spoken.includes(one)).sort((a, b) => b - a)[0];
  if (protocol === undefined) return { failure: FAILURES.protocol };
  // Whoever is looked for does not live here: this agent has another identity.
  if (hello.to !== null && hello.to !== from.peer_id) return { failure: FAILURES.invalidSignature };
  const refusal = refuseParty(deps, hello.from, false);
  if (refusal !== undefined) return { failure: refusal };
  const peer = hello.from.peer_id as PeerId;
  const membership = deps.views.peers.get(peer)?.membership;
  if (hello.intent === 'member' && membership !== 'member' && membership !== 'set_aside')
    return { failure: FAILURES.unknownPeer };
  const ephemeral = agreementOf(deps).createEphemeral(deps.random.bytes(32));
  const unsigned: HandshakeAnswer = {
    protocol,
    nonce: base64(deps.random.bytes(32)),
    ephemeral: base64(ephemeral.publicKey),
    time: Math.trunc(deps.clock.now()),
    from,
  };
  const transcript = transcriptOf(hello, unsigned);
  const keys = agreeKeys(deps, ephemeral.agree, hello.ephemeral, transcript);
  if (keys === undefined) return { failure: FAILURES.invalidSignature };
  const answer: Answer = {
    kind: 'answer',
    ...unsigned,
    from: { ...from, endpoints: [...from.endpoints] },
    signature: base64(signTranscript(deps.identity, 'responder', transcript)),
  };
  return {
    answer,
    pending: {
      party: { ...hello.from, peer_id: peer },
      intent: hello.intent,
      transcript,
      keys,
      offset: hello.time - deps.clock.now(),
      remoteAddress,
      startedAt: deps.clock.monotonic(),
    },
  };
}

/** The responder's second half: the initiator's proof. The caller has taken `pending` out, so that it counts once. */
export function verifyConfirm(
  confirm: Confirm,
  pending: PendingHandshake,
  deps: MachineDeps,
): { readonly failure: HandshakeFailure } | { readonly agreement: Agreement } {
  const credentials = openCredentials(pending.keys, 'initiator', confirm.sealed);
  const { party, keys, offset } = pending;
  if (
    credentials?.signature === undefined ||
    !verifyTranscript(
      deps.verify,
      unbase64(party.public_key),
      'initiator',
      pending.transcript,
      unbase64(credentials.signature),
    )
  )
    return { failure: FAILURES.invalidSignature };
  // The cluster may have moved on since the hello: a removal must not slip through between the two halves.
  const refusal = refuseParty(deps, party, false);
  if (refusal !== undefined) return { failure: refusal };
  const unlicensed = refuseLicense(deps, party, credentials);
  if (unlicensed !== undefined) return { failure: unlicensed };
  return { agreement: { keys, side: 'responder', party, credentials, offset, endpoint: undefined } };
}
