import { GOSSIP_PATH, type Reply, type Request, readReply, readRequest } from '../messages.ts';
import { REQUEST_TIME_WINDOW } from '../parameters.ts';
import { open, seal, sealedHeader } from '../seal.ts';
import type { Session, Sessions } from '../sessions.ts';
import type { CallResult, Channel, Opened } from './channel-contract.ts';
import type { MachineDeps } from './core.ts';

export type { CallResult, Channel, Opened };

export function createChannel(deps: MachineDeps, sessions: Sessions): Channel {
  const other = (session: Session) => (session.side === 'initiator' ? 'responder' : 'initiator');

  const sealNext = (
    session: Session,
    role: 'request' | 'answer',
    method: string,
    path: string,
    inReplyTo: number,
    value: Request | Reply,
  ): { readonly counter: number; readonly body: Uint8Array } => {
    session.sent += 1;
    const counter = session.sent;
    const header = { sessionId: session.id, counter, time: deps.clock.now() };
    const body = seal(session.keys.gossip[session.side], header, { role, method, path, inReplyTo }, value);
    return { counter, body };
  };

  const timely = (session: Session, time: number): boolean =>
    Math.abs(time - deps.clock.now() - session.offset) <= REQUEST_TIME_WINDOW;

  return {
    call(peer, endpoints, request, timeoutMs, done) {
      const session = sessions.forSending(peer);
      if (session === undefined || endpoints.length === 0) return done({ ok: false, fault: 'no_session' });
      let sealed: ReturnType<typeof sealNext>;
      try {
        sealed = sealNext(session, 'request', 'POST', GOSSIP_PATH, 0, request);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        return done({ ok: false, fault: 'too_large', session });
      }
      const { counter, body } = sealed;
      const sentAt = deps.clock.now();
      const startedAt = deps.clock.monotonic();
      deps.transport.post(
        { endpoints, path: GOSSIP_PATH, contentType: 'application/octet-stream', body, timeoutMs },
        (outcome) => {
          if (outcome.kind === 'fault') return done({ ok: false, fault: outcome.fault, session });
          if (outcome.status === 401) return done({ ok: false, fault: 'no_session', session });
          const header = outcome.status === 200 ? sealedHeader(outcome.body) : undefined;
          if (header?.sessionId !== session.id || sessions.find(session.id) === undefined)
            return done({ ok: false, fault: 'invalid', session });
          const opened = open(
            session.keys.gossip[other(session)],
            header,
            { role: 'answer', method: 'POST', path: GOSSIP_PATH, inReplyTo: counter },
            outcome.body,
          );
          const reply = opened === undefined ? undefined : readReply(opened.value);
          if (reply === undefined) return done({ ok: false, fault: 'invalid', session });
          const skew = header.time - (sentAt + (deps.clock.monotonic() - startedAt) / 2);
          done({ ok: true, reply, session, skew });
        },
      );
    },
    open(method, path, body) {
      const header = sealedHeader(body);
      if (header === undefined) return 'refused';
      const session = sessions.find(header.sessionId);
      if (session === undefined) return 'unknown';
      const opened = open(
        session.keys.gossip[other(session)],
        header,
        { role: 'request', method, path, inReplyTo: 0 },
        body,
      );
      // Authenticity first: a forged counter must not move the window.
      if (opened === undefined || !session.window.accept(header.counter)) return 'refused';
      if (!timely(session, header.time)) return 'unknown';
      const request = readRequest(opened.value);
      if (request === undefined) return 'refused';
      return {
        session,
        request,
        skew: header.time - deps.clock.now(),
        answer: (reply) => sealNext(session, 'answer', method, path, header.counter, reply).body,
      };
    },
  };
}
