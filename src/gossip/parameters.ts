/**
 * Every tunable of the peer-to-peer side, with its unit and why it has its value. `heartbeat` is HEARTBEAT_SECONDS in
 * milliseconds; whatever measures the health of a peer is a multiple of it, so that one setting moves them all.
 */
export const PROTOCOL = 1;
/** The protocols spoken: that of this release and of the one before it, so that a cluster is upgraded host by host. */
export const PROTOCOLS: readonly number[] = [PROTOCOL, PROTOCOL - 1].filter((version) => version >= 1);

/** Largest request or answer on the wire, bytes. */
export const MAX_BODY = 4 * 1024 * 1024;
/** Largest handshake message, bytes: the sealed license and members of a confirmation, in base64, with room to spare. */
export const MAX_HANDSHAKE = 320 * 1024;
/** Largest message after inflation, bytes: a hostile member cannot make us allocate more. */
export const MAX_MESSAGE = 32 * 1024 * 1024;
/** Messages below this many bytes are not worth deflating. */
export const DEFLATE_FROM = 2_048;

/** Tries of a handshake before the peer counts as unreachable (troubleshooting page). */
export const HANDSHAKE_TRIES = 3;
/** Pause before the second and third try, ms. */
export const HANDSHAKE_PAUSES: readonly number[] = [500, 1_500];
/** Connect and answer limit of one handshake request, ms. */
export const HANDSHAKE_TIMEOUT = 5_000;
/** How long an unconfirmed handshake or session is kept, ms: two requests of HANDSHAKE_TIMEOUT and a margin. */
export const HANDSHAKE_PENDING = 15_000;
/**
 * Unfinished handshakes held at once, about 2 KiB each. Beyond the first number the oldest of the network that has most makes
 * room, so that a flood displaces its own; beyond the second a network's hellos are refused, which bounds what they cost.
 */
export const HANDSHAKES_PENDING_MAX = 256;
export const HANDSHAKES_PENDING_PER_NETWORK = 16;

/** Handshakes and first comparisons that one host has under way at once. */
export const GREETINGS = 24;

/** Age at which a session is renewed, ms (SPEC section 9), and the extra the larger peer id waits for the smaller to do it. */
export const RENEW_AFTER = 3_600_000;
export const RENEW_GRACE = 60_000;
/** How long the replaced session still opens messages under way, ms: above every request time-out. */
export const RETIRE_AFTER = 60_000;
/** A session that could not be renewed dies at this age, ms. */
export const SESSION_MAX_AGE = 2 * RENEW_AFTER;

/** Skew between two hosts that is reported, and how far ahead of us an event may be before it waits, ms. */
export const SKEW_LIMIT = 60_000;
/** How far a sealed request may be from its time, after the skew measured at the handshake, ms. */
export const REQUEST_TIME_WINDOW = 120_000;

/** Up to this many peers a change is pushed to everybody; beyond, to FAN_OUT of them, who pass it on. */
export const PUSH_ALL_LIMIT = 32;
/** Serf's and SWIM's choice: the smallest fan-out that infects n peers in O(log n) rounds with high probability. */
export const FAN_OUT = 3;
/** In a large cluster a change is passed on again this often to peers not known to have it, ms, for `relayRounds` rounds. */
export const RELAY_INTERVAL = 100;
/** memberlist's retransmit limit is 4 x log10(n); acknowledged pushes know whom to leave out, so log10(n) + 1 is enough. */
export const relayRounds = (members: number): number => 1 + Math.ceil(Math.log10(members + 1));
/** Peers a change is offered to in each of those rounds; most have it by then, so only its number is sent. */
export const RELAY_FAN_OUT = 2;
/** Earlier states that are recognised by their digest, and for how long they are told in heartbeats, ms. */
export const RECENT_DIGESTS = 8;
export const RECENT_FOR = 5_000;
/** Events in one push; a peer that lacks more is offered our vector and pulls at its own pace. */
export const PUSH_EVENTS = 256;
/** Events and bytes (before deflating) in one answer to a pull, and origins in one pull. */
export const PULL_EVENTS = 500;
export const PULL_BYTES = 2 * 1024 * 1024;
export const PULL_ORIGINS = 256;

/** For how long a range that is being pulled from one peer is not asked of another, ms; an answer seldom takes longer. */
export const CLAIM_FOR = 1_000;

/** How often a host signs a checkpoint of its own events when there are new ones, ms: a minute. Until then only the chain covers them. */
export const checkpointEvery = (heartbeat: number): number => 12 * heartbeat;
/** A witness that could not cosign (the events are still on their way to it) is asked again after this long, ms. */
export const retryWitness = (heartbeat: number): number => 2 * heartbeat;

/** Peers asked to cosign a checkpoint; one honest of them is enough to catch a rewritten past. */
export const WITNESSES = 8;

/** Members asked to probe a silent peer (SWIM's k). */
export const INDIRECT_PROBES = 3;
/** memberlist's SuspicionMult. */
export const SUSPICION_MULTIPLIER = 4;
/** Lifeguard's awareness: the worst score of this host's own health. */
export const MAX_HEALTH_SCORE = 8;

/** Lifeguard: the longest suspicion as a multiple of the shortest (memberlist's SuspicionMaxTimeoutMult). */
export const SUSPICION_MAX_MULTIPLIER = 6;
/** Lifeguard's k: members whose own suspicion brings the limit down to the shortest (memberlist: SuspicionMult - 2). */
export const SUSPICION_CONFIRMATIONS = SUSPICION_MULTIPLIER - 2;
/** A timer of ours that is late by this share of a heartbeat says that it is this host that is slow. */
export const OWN_LATENESS = 0.25;

/** Limit of one gossip request, ms: at least 2 s, so that a slow link is not taken for a dead one. */
export const requestTimeout = (heartbeat: number): number => Math.max(2_000, heartbeat);

/**
 * Lifeguard's dynamic suspicion (memberlist, suspicion.go): from max down to min as members confirm,
 * `max - (max - min) x log(confirmations + 1) / log(k + 1)`, with min = multiplier x max(1, log10 n) x probe interval and
 * max = 6 x min. A cluster too small to give k confirmations waits for the shortest.
 */
export function suspicionTimeout(heartbeat: number, members: number, confirmations: number): number {
  const shortest = SUSPICION_MULTIPLIER * Math.max(1, Math.log10(Math.max(1, members))) * heartbeat;
  if (members - 2 < SUSPICION_CONFIRMATIONS) return shortest;
  const longest = SUSPICION_MAX_MULTIPLIER * shortest;
  const share = Math.log(confirmations + 1) / Math.log(SUSPICION_CONFIRMATIONS + 1);
  return Math.max(shortest, longest - share * (longest - shortest));
}

/** How long a member's word for a silent peer counts, ms: three of our own failing probes. */
export const vouchLifetime = (heartbeat: number): number => 3 * (heartbeat + requestTimeout(heartbeat));

/** An unreachable peer is tried again this often, ms: a healed partition gives no other sign. */
export const retryUnreachable = (heartbeat: number): number => 6 * heartbeat;

/** A peer that does not know us yet will learn of us by gossip; until then we ask again this often, ms. */
export const retryUnknown = (heartbeat: number): number => Math.max(200, heartbeat / 5);

/** How long the larger peer id waits for the smaller one's handshake before it starts its own, ms. */
export const yieldToSmaller = (heartbeat: number): number => heartbeat / 2;

/** How long a member must go on holding more of a removed peer than its removal lets stand before that is taken in, ms. */
export const beyondPatience = (heartbeat: number): number => 4 * heartbeat;

/** How long the exact place of a fork is looked for before the number that was found is given, ms. */
export const forkSearch = (heartbeat: number): number => 3 * heartbeat;

/** At a start, appends wait at most this long for the first word of a member (own-history rule), ms. */
export const SETTLE_LIMIT = 15_000;
/** Limit of a test of the data planes' ports, ms: beyond what one port is given (src/data-plane-tries.ts). */
export const REACH_LIMIT = 4_000;
/** Pause between two questions how far the other side has come with it, ms. */
export const REACH_POLL = 100;
/** How long this side listens for a peer that began one and does not end it, ms. */
export const REACH_ANSWERING = 2 * REACH_LIMIT;
/** How long `addPeer` waits for both logs to agree, ms. */
export const JOIN_LIMIT = 30_000;
