import type { PeerId } from '../../../events/brand.ts';
import { type TransportFault, transportFailure } from '../failures.ts';
import type { Request } from '../messages.ts';
import {
  INDIRECT_PROBES,
  MAX_HEALTH_SCORE,
  OWN_LATENESS,
  PUSH_ALL_LIMIT,
  requestTimeout,
  retryUnreachable,
  suspicionTimeout,
  vouchLifetime,
} from '../parameters.ts';
import type { CallResult } from './channel.ts';
import type { MachineDeps } from './core.ts';
import { type Link, sample } from './links.ts';

export interface DetectionDeps {
  readonly machine: Pick<MachineDeps, 'clock' | 'random'>;
  readonly links: ReadonlyMap<PeerId, Link>;
  /** Requests can be sent to it. */
  readonly connected: (link: Link) => boolean;
  readonly call: (link: Link, request: Request, done: (result: CallResult) => void) => void;
  readonly giveUp: (link: Link, reason: string) => void;
}

/**
 * Failure detection after SWIM: a peer whose probe fails is suspected, others are asked to look, and only silence towards all of
 * them ends it. Lifeguard: what this host's own slowness explains is not held against its peers.
 */
export interface Detection {
  /** A request of ours to the peer came back. */
  answered(): void;
  /** A probe of the peer failed. */
  silent(link: Link, fault: TransportFault | 'invalid'): void;
  /** Another member says that it reached the peer. */
  vouched(link: Link): void;
  /** Another member asks about a peer: it suspects it too. */
  suspectedBy(link: Link, by: Link): void;
  /** A timer of this host came this much after its time, ms. */
  late(ms: number): void;
  /** By what the limit of a request is multiplied (Lifeguard: 1 + local health score). */
  patience(): number;
  /** Until the next probe of the peer, ms, before jitter. */
  pause(link: Link): number;
}

export function createDetection(
  deps: DetectionDeps,
  { heartbeat }: { readonly heartbeat: number },
): Detection {
  const { links } = deps;
  const { clock, random } = deps.machine;
  /** Lifeguard: 0 when our own probes come back; grows when they do not, for then the fault may be ours. */
  let health = 0;
  /** Until then failures are put down to this host itself: its timers were late. */
  let slowUntil = Number.NEGATIVE_INFINITY;

  const confirm = (link: Link, by: PeerId): void => {
    link.confirmedBy ??= new Set();
    link.confirmedBy.add(by);
  };

  /** SWIM: others may reach the peer although we do not. Their answer comes as `probed`. */
  const probeIndirectly = (link: Link): void => {
    const candidates = [...links.values()].filter(
      (one) => one !== link && one.state === 'active' && deps.connected(one),
    );
    for (const one of sample(candidates, INDIRECT_PROBES, () => random.fraction()))
      deps.call(one, { kind: 'probe', target: link.peer }, (result) => {
        if (result.ok && result.reply.kind === 'ok' && result.reply.silent === true) confirm(link, one.peer);
      });
  };

  return {
    answered() {
      health = Math.max(0, health - 1);
    },
    silent(link, fault) {
      const now = clock.monotonic();
      // Whatever was under way while this host stood still says nothing about the peer.
      if (now < slowUntil) return;
      health = Math.min(MAX_HEALTH_SCORE, health + 1);
      const reason =
        fault === 'invalid'
          ? 'its answers do not verify'
          : transportFailure(fault).text.replace('handshake failed: ', '');
      // What it was given up for stays the reason; the pings that go on only notice its return.
      if (link.state === 'unreachable') return;
      if (link.suspectSince === undefined) {
        link.suspectSince = now;
        link.confirmedBy = undefined;
        link.state = 'suspect';
      }
      const limit = suspicionTimeout(heartbeat, links.size + 1, link.confirmedBy?.size ?? 0);
      if (now - link.suspectSince < limit) {
        probeIndirectly(link);
        return;
      }
      const vouched = link.vouchedAt !== undefined && now - link.vouchedAt < vouchLifetime(heartbeat);
      if (vouched) {
        link.reason = `answers other members but not this host: ${reason}`;
        probeIndirectly(link);
      } else {
        deps.giveUp(link, reason);
      }
    },
    vouched(link) {
      link.vouchedAt = clock.monotonic();
    },
    suspectedBy(link, by) {
      if (link.suspectSince !== undefined) confirm(link, by.peer);
    },
    late(ms) {
      if (ms < OWN_LATENESS * heartbeat) return;
      health = Math.min(MAX_HEALTH_SCORE, health + 1);
      slowUntil = clock.monotonic() + requestTimeout(heartbeat) * (1 + health);
      for (const link of links.values()) {
        if (link.suspectSince === undefined) continue;
        link.suspectSince = clock.monotonic();
        link.confirmedBy = undefined;
      }
    },
    patience: () => 1 + health,
    pause(link) {
      const many = Math.max(1, Math.ceil(links.size / PUSH_ALL_LIMIT));
      return link.state === 'unreachable'
        ? retryUnreachable(heartbeat)
        : heartbeat * Math.max(many, 1 + health);
    },
  };
}
