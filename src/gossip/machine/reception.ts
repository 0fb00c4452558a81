import { isIP } from 'node:net';
import type { PeerId } from '../../../events/brand.ts';
import { type Ids, newCorrelationId } from '../../../events/ids.ts';
import type { PeerRequest, PeerResponse } from '../contract.ts';
import { FAILURES, type HandshakeFailure, statusOf } from '../failures.ts';
import {
  type Accepted,
  type Confirm,
  GOSSIP_PATH,
  HANDSHAKE_PATH,
  type Hello,
  parseJson,
  type Reply,
  type Request,
  readConfirm,
  readHello,
} from '../messages.ts';
import { JOIN_LIMIT, MAX_BODY } from '../parameters.ts';
import type { CallResult, Channel } from './channel.ts';
import type { MachineDeps } from './core.ts';
import type { Exchange } from './exchange.ts';
import {
  answerHello,
  localCredentials,
  localParty,
  type PendingHandshake,
  sealCredentials,
  verifyConfirm,
} from './handshake.ts';
import { admit, candidateOf } from './join.ts';
import { isPartner, type Link } from './links.ts';
import type { Membership } from './membership.ts';
import { createPendingHandshakes } from './pending.ts';
import type { Reach } from './reach.ts';
import type { Witnessing } from './witness.ts';

export interface ReceptionDeps {
  readonly machine: MachineDeps;
  readonly ids: Ids;
  readonly channel: Channel;
  readonly exchange: Exchange;
  readonly membership: Membership;
  readonly witnessing: Witnessing;
  readonly reach: Reach;
  readonly links: ReadonlyMap<PeerId, Link>;
  readonly joining: Set<PeerId>;
  readonly call: (link: Link, request: Request, done: (result: CallResult) => void) => void;
  readonly holdReason: () => string | undefined;
  readonly clockReason: () => string | undefined;
}

/** What other agents ask of this one. Every answer is made in the tick of its request; bad input gets a status, never a throw. */
export interface Reception {
  handle(request: PeerRequest): PeerResponse;
  /** Forgets handshakes that were never confirmed. */
  sweep(): void;
  stop(): void;
}

const JSON_HEADERS = { 'content-type': 'application/json' } as const;
const SEALED_HEADERS = { 'content-type': 'application/octet-stream' } as const;

const respond = (status: number, value: unknown): PeerResponse => ({
  status,
  headers: JSON_HEADERS,
  body: Buffer.from(JSON.stringify(value)),
});
const refusal = (failure: HandshakeFailure): PeerResponse =>
  respond(statusOf(failure), { error: failure.text, code: failure.code });

/**
 * Where a peer behind a NAT may be reached: the address its packets come from, at the port it says it has. Undefined when that
 * is the address it gave anyhow.
 */
export function observedEndpoint(remoteAddress: string, address: string): string | undefined {
  const plain = remoteAddress.replace(/^::ffff:/i, '');
  const port = /:(\d{1,5})$/.exec(address)?.[1];
  if (port === undefined || isIP(plain) === 0) return undefined;
  const host = isIP(plain) === 6 ? `[${plain}]` : plain;
  return address === `${host}:${port}` ? undefined : `http://${host}:${port}`;
}

export function createReception(deps: ReceptionDeps): Reception {
  const { machine, membership, exchange, channel, links, joining } = deps;
  const { clock, report, views } = machine;
  const pending = createPendingHandshakes();

  const onHello = (hello: Hello, remoteAddress: string): PeerResponse => {
    if (!pending.admits(remoteAddress)) return refusal(FAILURES.busy);
    const result = answerHello(hello, remoteAddress, machine);
    if ('failure' in result) {
      report('info', result.failure.text, { peer: hello.from.peer_id, address: remoteAddress });
      return refusal(result.failure);
    }
    pending.add(result.pending);
    return respond(200, result.answer);
  };

  /** Admission on this side of a join; undefined when the peer is a member now. */
  const admitInbound = (waiting: PendingHandshake, agreement: Parameters<typeof candidateOf>[0]) => {
    const { party } = waiting;
    if (views.peers.get(party.peer_id)?.membership === 'member') return undefined;
    if (waiting.intent !== 'join')
      return isPartner(views.peers.get(party.peer_id)) ? undefined : FAILURES.unknownPeer;
    if (deps.holdReason() !== undefined) return FAILURES.catchingUp;
    if (deps.clockReason() !== undefined) return FAILURES.clockAhead;
    const candidate = candidateOf(agreement, party.address, party.name, false);
    const observed = observedEndpoint(waiting.remoteAddress, party.address);
    const endpoints =
      observed === undefined
        ? candidate.endpoints
        : [...new Set([...candidate.endpoints, observed])].slice(0, 16);
    return admit(
      machine,
      { ...candidate, endpoints },
      {
        actor: { kind: 'peer', id: party.peer_id, address: waiting.remoteAddress },
        correlationId: newCorrelationId(deps.ids),
      },
    );
  };

  const onConfirm = (confirm: Confirm, remoteAddress: string): PeerResponse => {
    // Taken out before anything is checked: a confirmation counts once.
    const waiting = pending.take(confirm.session);
    if (waiting === undefined) return refusal(FAILURES.expired);
    const { party } = waiting;
    const result = verifyConfirm(confirm, waiting, machine);
    const own = localCredentials(machine, party.peer_id);
    const failure =
      'failure' in result
        ? result.failure
        : own === undefined
          ? FAILURES.remoteNotBootstrapped
          : admitInbound(waiting, result.agreement);
    if (failure !== undefined || 'failure' in result || own === undefined) {
      waiting.keys.erase();
      report('warn', (failure ?? FAILURES.unavailable).text, { peer: party.peer_id, address: remoteAddress });
      return refusal(failure ?? FAILURES.unavailable);
    }
    const { agreement } = result;
    if (waiting.intent === 'join') {
      // A host that was removed holds on to whoever takes it in again until the log says that it is back.
      joining.add(party.peer_id);
      clock.after(JOIN_LIMIT, () => {
        joining.delete(party.peer_id);
        membership.review();
      });
    }
    membership.establish(agreement);
    exchange.remembers(membership.linkOf(party.peer_id), agreement.credentials.holds);
    const accepted: Accepted = {
      kind: 'accepted',
      session: agreement.keys.sessionId,
      sealed: sealCredentials(agreement.keys, 'responder', clock.now(), own),
    };
    return respond(200, accepted);
  };

  const onHandshake = (request: PeerRequest): PeerResponse => {
    if (localParty(machine) === undefined)
      return respond(412, {
        error: 'This agent is not bootstrapped; run `arctic bootstrap` first.',
        code: 'NOT_BOOTSTRAPPED',
      });
    const body = parseJson(request.body);
    const hello = readHello(body);
    if (hello !== undefined) return onHello(hello, request.remoteAddress);
    const confirm = readConfirm(body);
    if (confirm !== undefined) return onConfirm(confirm, request.remoteAddress);
    return respond(400, { error: FAILURES.malformed.text, code: 'INVALID_REQUEST' });
  };

  /** SWIM's indirect probe: look, and tell whoever asked if there was an answer. */
  const probe = (asker: Link, target: Link): void =>
    exchange.ping(target, (result) => {
      if (result.ok) deps.call(asker, { kind: 'probed', target: target.peer }, () => {});
    });

  const answer = (link: Link, request: Request): Reply => {
    switch (request.kind) {
      case 'probe': {
        // After a join the other side asks for its own sake: does a connection in the other direction come through?
        if (request.target === link.peer) exchange.ping(link, () => {});
        const target = links.get(request.target as PeerId);
        if (target !== undefined && target !== link) {
          membership.suspectedBy(target, link);
          probe(link, target);
          if (target.state === 'suspect' || target.state === 'unreachable')
            return { kind: 'ok', silent: true };
        }
        return { kind: 'ok' };
      }
      case 'probed': {
        const target = links.get(request.target as PeerId);
        if (target !== undefined) membership.vouched(target);
        return { kind: 'ok' };
      }
      case 'witness':
        return deps.witnessing.answer(link, request.note);
      case 'reach':
        return deps.reach.answer(link, request);
      case 'bye':
        membership.stopped(link);
        return { kind: 'ok' };
      default:
        return exchange.answer(link, request);
    }
  };

  const onGossip = (request: PeerRequest): PeerResponse => {
    const opened = channel.open(request.method, GOSSIP_PATH, request.body);
    if (opened === 'refused')
      return respond(403, {
        error: 'The message does not verify, or it was received before.',
        code: 'FORBIDDEN',
      });
    const link = opened === 'unknown' ? undefined : links.get(opened.session.peerId);
    if (opened === 'unknown' || link === undefined)
      return respond(401, {
        error: 'There is no such session here; shake hands first.',
        code: 'UNAUTHORIZED',
      });
    const fresh = !opened.session.confirmed;
    membership.confirmed(link, opened.session);
    membership.heard(link, opened.skew);
    link.inboundAt = clock.monotonic();
    if (link.oneWay) {
      link.oneWay = false;
      link.reason = null;
    }
    const reply = answer(link, opened.request);
    let body: Uint8Array;
    try {
      body = opened.answer(reply);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      report('warn', 'an answer to a peer is too large to send', { peer: link.peer, reason: error.message });
      return respond(413, { error: 'The answer is too large to send.', code: 'TOO_LARGE' });
    }
    // The first word under a new session: compare the logs from this side too.
    if (fresh) clock.after(0, () => membership.contact(link, () => {}));
    return { status: 200, headers: SEALED_HEADERS, body };
  };

  return {
    handle(request) {
      if (request.body.length > MAX_BODY)
        return respond(413, { error: `A message has at most ${MAX_BODY} bytes.`, code: 'TOO_LARGE' });
      if (request.method === 'POST' && request.path === HANDSHAKE_PATH) return onHandshake(request);
      if (request.method === 'POST' && request.path === GOSSIP_PATH) return onGossip(request);
      return respond(404, { error: 'Agents have no such resource for each other.', code: 'NOT_FOUND' });
    },
    sweep() {
      pending.sweep(clock.monotonic());
    },
    stop() {
      pending.clear();
    },
  };
}
