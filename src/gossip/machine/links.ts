import type { PeerId } from '../../../events/brand.ts';
import type { PeerView } from '../../../projections/views.ts';
import type { ClosedPort } from '../contract.ts';
import type { State } from '../messages.ts';
import type { MachineDeps } from './core.ts';
import { Known } from './known.ts';

/** What this host knows of its relation with one peer. Only the machine's own parts change it. */
export interface Link {
  readonly peer: PeerId;
  /** `suspect` is still `active` for everybody else: silence that is being looked into. */
  state: 'pending' | 'active' | 'suspect' | 'unreachable';
  reason: string | null;
  /** Wall and monotonic time of the last authentic word of the peer. */
  lastSeenAt: number | undefined;
  heardAt: number | undefined;
  /** Monotonic time of the last request that the peer itself opened: proof that it can reach this host. */
  inboundAt: number | undefined;
  /** The join found that the peer cannot open connections to this host. */
  oneWay: boolean;
  /** Ports of the data planes that were found closed. */
  closed: readonly ClosedPort[];
  suspectSince: number | undefined;
  /** Members that suspect it too, since this host does; undefined: none. */
  confirmedBy: Set<PeerId> | undefined;
  /** When another member last vouched for it. */
  vouchedAt: number | undefined;
  skew: number | undefined;
  skewReported: boolean;
  /** Session the peer said it no longer knows; replaced as soon as a handshake gives another. */
  stale: string | undefined;
  /** A handshake of ours is under way. */
  shaking: boolean;
  tries: number;
  /** Monotonic time before which no handshake is started. */
  nextTryAt: number;
  /** The first attempt of this run has ended, one way or the other. */
  attempted: boolean;
  /** Both logs were compared in this run, and what this host lacked was fetched. */
  compared: boolean;
  pinging: boolean;
  nextPingAt: number;
  /** Endpoint that answered last: tried first. */
  lastEndpoint: string | undefined;
  /** Address and endpoints at the last look, to notice an update. */
  endpointsKey: string;
  /** What the peer held by its last word. */
  readonly known: Known;
  remote: State | undefined;
  /** Removed origins of which the peer holds more than the removal lets stand, and since when that is seen (monotonic ms). */
  beyond: ReadonlyMap<PeerId, number>;
  pushing: boolean;
  pulling: boolean;
  /** Another pull is due when this one ends. */
  pullAgain: boolean;
  /** Origins to push, from which sequence number; undefined: nothing. */
  dirty: Map<PeerId, number> | undefined;
}

/** A thousand links are a thousand times all this, so what is mostly empty is shared. */
const NONE: ReadonlyMap<PeerId, number> = new Map();

export const createLink = (peer: PeerId): Link => ({
  peer,
  state: 'pending',
  reason: null,
  lastSeenAt: undefined,
  heardAt: undefined,
  inboundAt: undefined,
  oneWay: false,
  closed: [],
  suspectSince: undefined,
  confirmedBy: undefined,
  vouchedAt: undefined,
  skew: undefined,
  skewReported: false,
  stale: undefined,
  shaking: false,
  tries: 0,
  nextTryAt: 0,
  attempted: false,
  compared: false,
  pinging: false,
  nextPingAt: 0,
  lastEndpoint: undefined,
  endpointsKey: '',
  known: new Known(),
  remote: undefined,
  beyond: NONE,
  pushing: false,
  pulling: false,
  pullAgain: false,
  dirty: undefined,
});

/** URLs of a peer in the order to try: the last good one, its configured ones, then its address. */
export function endpointsOf(view: PeerView | undefined, lastGood: string | undefined): string[] {
  const listed = view === undefined ? [] : [...view.endpoints, ...addressEndpoints(view.address)];
  return [...new Set(lastGood !== undefined && listed.includes(lastGood) ? [lastGood, ...listed] : listed)];
}

/** A bare `host:port` says nothing about TLS; plain HTTP is the default, and the handshake protects either. */
export const addressEndpoints = (address: string): string[] => [`http://${address}`, `https://${address}`];

export const isPartner = (view: PeerView | undefined): boolean =>
  view?.membership === 'member' || view?.membership === 'set_aside';

/** All peers this host exchanges events with. A peer set aside by the node cap still learns why. */
export function partners(deps: MachineDeps): PeerView[] {
  const { peerId } = deps.identity;
  // Out of the cluster ourselves, by our own decision or another's: there is nobody to talk to.
  if (!isPartner(deps.views.peers.get(peerId))) return [];
  return deps.views.peers.list().filter((view) => view.id !== peerId && isPartner(view));
}

/** Fisher-Yates with the given randomness; `count` distinct elements. */
export function sample<T>(items: readonly T[], count: number, fraction: () => number): T[] {
  const pool = [...items];
  const taken: T[] = [];
  while (taken.length < count && pool.length > 0) {
    const [one] = pool.splice(Math.floor(fraction() * pool.length), 1);
    if (one !== undefined) taken.push(one);
  }
  return taken;
}
