import { isDeepStrictEqual } from 'node:util';
import type { PeerId } from '../../../events/brand.ts';
import type { ClosedPort } from '../contract.ts';
import type { DataPortMessage, Reply, Request } from '../messages.ts';
import { REACH_ANSWERING, REACH_LIMIT, REACH_POLL, retryUnreachable } from '../parameters.ts';
import type { CallResult } from './channel.ts';
import type { MachineDeps } from './core.ts';
import type { DataPlaneTry, DataPort } from './data-plane.ts';
import type { Link } from './links.ts';

/** Whether both ways are open for the traffic itself, which the ways between the APIs do not tell. */
export interface Reach {
  /** Tries both ways, and notes what is closed in the link; `done` when that is known, or cannot be. */
  test(link: Link, done: () => void): void;
  /** The peer tests; this side tries its own way to it meanwhile. */
  answer(link: Link, request: Extract<Request, { kind: 'reach' }>): Reply;
  /** What was closed is tried again now and then. */
  tick(): void;
  stop(): void;
}

export interface ReachDeps {
  readonly machine: MachineDeps;
  readonly links: ReadonlyMap<PeerId, Link>;
  readonly call: (link: Link, request: Request, done: (result: CallResult) => void) => void;
}

const hostOf = (address: string | undefined): string | undefined =>
  address === undefined ? undefined : /^\[?(.+?)\]?:\d+$/.exec(address)?.[1];

/** `out: "udp 61000"`: of the peer, and `in`: of this host. */
const named = (closed: readonly ClosedPort[]): Readonly<Record<string, string>> =>
  Object.fromEntries(
    (['out', 'in'] as const).map((way) => [
      way,
      closed
        .filter(({ direction }) => direction === way)
        .map(({ protocol, port, host }) => `${protocol} ${port} of ${host}`)
        .join(', '),
    ]),
  );

export function createReach(deps: ReachDeps, options: { readonly heartbeat: number }): Reach {
  const { machine, links, call } = deps;
  const { clock, random, identity, report, views } = machine;
  const plane = machine.dataPlane;
  /** Tests of this host under way, by peer. */
  const testing = new Map<PeerId, DataPlaneTry>();
  /** Tests of peers. */
  const answering = new Map<PeerId, { readonly token: string; readonly attempt: DataPlaneTry; at: number }>();
  /** When what is closed is tried again, monotonic ms. */
  const due = new Map<PeerId, number>();

  const addressOf = (peer: PeerId): string | undefined => hostOf(views.peers.get(peer)?.address);

  const note = (link: Link, out: readonly DataPort[], into: readonly DataPort[], again: number): void => {
    const before = link.closed;
    link.closed = [
      ...out.map((port) => ({ ...port, direction: 'out' as const, host: addressOf(link.peer) ?? '' })),
      ...into.map((port) => ({ ...port, direction: 'in' as const, host: addressOf(identity.peerId) ?? '' })),
    ];
    if (link.closed.length > 0)
      due.set(link.peer, clock.monotonic() + again * (0.9 + 0.2 * random.fraction()));
    else due.delete(link.peer);
    if (isDeepStrictEqual(link.closed, before)) return;
    if (link.closed.length === 0)
      report('info', 'the ports for the traffic are open in both directions', { peer: link.peer });
    else
      report('warn', 'ports that the traffic needs are closed', {
        peer: link.peer,
        ...named(link.closed),
      });
  };

  const endAnswering = (peer: PeerId): void => {
    answering.get(peer)?.attempt.end();
    answering.delete(peer);
  };

  const test: Reach['test'] = (link, done) => {
    const host = addressOf(link.peer);
    if (plane === undefined || host === undefined || testing.has(link.peer)) {
      done();
      return;
    }
    const token = Buffer.from(random.bytes(16)).toString('hex');
    const attempt = plane.try(link.peer, host, token);
    testing.set(link.peer, attempt);
    const startedAt = clock.monotonic();
    let theirs: Extract<Reply, { kind: 'reached' }> | undefined;
    /** An agent from before this test refuses the question. */
    let deaf = false;

    const conclude = (): void => {
      const out = [...(attempt.closed() ?? []), ...(theirs?.heard === false ? [plane.tunnel] : [])];
      const into =
        theirs === undefined ? [] : [...(theirs.closed ?? []), ...(attempt.heard() ? [] : [plane.tunnel])];
      note(link, out, into, retryUnreachable(options.heartbeat));
      if (theirs !== undefined) call(link, { kind: 'reach', token, found: { out, in: into } }, () => {});
    };
    const finish = (): void => {
      if (links.get(link.peer) === link) conclude();
      attempt.end();
      testing.delete(link.peer);
      done();
    };
    const ask = (): void => {
      // Stopped meanwhile.
      if (testing.get(link.peer) !== attempt) return;
      const known = theirs !== undefined && theirs.closed !== null && theirs.heard && attempt.heard();
      const over = clock.monotonic() - startedAt >= REACH_LIMIT;
      if (over || ((known || deaf) && attempt.closed() !== undefined)) {
        finish();
        return;
      }
      if (deaf) {
        clock.after(REACH_POLL, ask);
        return;
      }
      call(link, { kind: 'reach', token }, (result) => {
        if (result.ok && result.reply.kind === 'reached') theirs = result.reply;
        else deaf = theirs === undefined && (result.ok || result.fault === 'invalid');
        clock.after(REACH_POLL, ask);
      });
    };
    ask();
  };

  return {
    test,
    answer(link, { token, found }) {
      const host = addressOf(link.peer);
      if (plane === undefined || host === undefined) return { kind: 'ok' };
      const now = clock.monotonic();
      let current = answering.get(link.peer);
      if (found !== undefined) {
        if (current?.token !== token) return { kind: 'ok' };
        endAnswering(link.peer);
        // The peer tries again before this side would.
        note(link, found.in, found.out, 2 * retryUnreachable(options.heartbeat));
        return { kind: 'ok' };
      }
      if (current === undefined || current.token !== token) {
        // One who asks without end must not make this host dial without end.
        if (current !== undefined && now - current.at < REACH_LIMIT / 4)
          return { kind: 'reached', closed: null, heard: false };
        endAnswering(link.peer);
        const attempt = plane.try(link.peer, host, token);
        current = { token, attempt, at: now };
        answering.set(link.peer, current);
      }
      return {
        kind: 'reached',
        closed: current.attempt.closed()?.map((port): DataPortMessage => port) ?? null,
        heard: current.attempt.heard(),
      };
    },
    tick() {
      const now = clock.monotonic();
      for (const [peer, { at }] of [...answering]) if (now - at > REACH_ANSWERING) endAnswering(peer);
      for (const [peer, at] of [...due]) {
        if (now < at) continue;
        const link = links.get(peer);
        due.delete(peer);
        if (link === undefined || link.closed.length === 0) continue;
        if (link.state === 'active') test(link, () => {});
        else due.set(peer, now + retryUnreachable(options.heartbeat));
      }
    },
    stop() {
      for (const attempt of testing.values()) attempt.end();
      testing.clear();
      for (const peer of [...answering.keys()]) endAnswering(peer);
      due.clear();
    },
  };
}
