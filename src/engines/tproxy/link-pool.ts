/**
 * Warm links to one peer, dialed ahead of need. A flow leases one, so that opening it costs no round trip; the link
 * used last is leased first, because its congestion window and receive buffer are the best grown.
 */
import type { EngineClock } from './dependencies.ts';
import type { Link } from './link.ts';

export interface PoolOptions {
  /** Idle links kept ready while the peer has services. */
  readonly warm: number;
  /** Links to one peer, leased and idle. Default as many as flows. */
  readonly most: number;
  /** Milliseconds a flow waits for a link. */
  readonly waitTimeout: number;
  /** Milliseconds after which an idle link beyond `warm` is closed. */
  readonly idleTimeout: number;
  /** Milliseconds between PINGs on an idle link; one without an answer in this time is closed. */
  readonly pingEvery: number;
  /** Milliseconds before the first retry after a failed dial; doubled up to `backoffMost`. */
  readonly backoffLeast: number;
  readonly backoffMost: number;
}

export interface PoolDependencies {
  readonly clock: EngineClock;
  /**
   * Dials one link: `established` hands it over, `failed` tells that there will be none; one of them is called once,
   * never before `dial` returns.
   */
  readonly dial: (established: (link: Link) => void, failed: () => void) => void;
}

export interface LinkPool {
  /** Calls back once: with a link, or with undefined after `waitTimeout`. The returned function withdraws the wish. */
  lease(take: (link: Link | undefined) => void): () => void;
  /** Gives a link back; a dead or retiring one is dropped. */
  release(link: Link): void;
  /** A link died, leased or idle. */
  dropped(link: Link): void;
  /** Keep `warm` idle links (true) or only what flows ask for. */
  keepWarm(wanted: boolean): void;
  /** Closes the idle links that `which` picks, and dials new ones for them. */
  closeIdle(which: (link: Link) => boolean): void;
  counts(): {
    readonly idle: number;
    readonly leased: number;
    readonly dialed: number;
    readonly reused: number;
    readonly failed: number;
  };
  /** Closes idle links and fails waiting flows; leased links stay with their flows. */
  stop(): void;
}

/** Dials under way at once; a burst of flows must not become a burst of handshakes. */
const MOST_DIALING = 64;

const YOUNG_MS = 1_000;

interface Waiter {
  readonly take: (link: Link | undefined) => void;
  readonly cancelTimeout: () => void;
}

export function createLinkPool(options: PoolOptions, deps: PoolDependencies): LinkPool {
  const { clock } = deps;
  /** The one used last at the end. */
  const idle: { readonly link: Link; readonly since: number; pingedAt: number }[] = [];
  const leased = new Set<Link>();
  const used = new WeakSet<Link>();
  const waiting: Waiter[] = [];
  let dialing = 0;
  let dialed = 0;
  let reused = 0;
  let failed = 0;
  let warm = false;
  let stopped = false;
  let backoff = options.backoffLeast;
  let cancelBackoff: (() => void) | undefined;
  let cancelRound: (() => void) | undefined;

  function refill(): void {
    if (stopped || cancelBackoff !== undefined) return;
    for (;;) {
      const ready = idle.length + dialing;
      const wanted = waiting.length + (warm ? options.warm : 0);
      const room = idle.length + leased.size + dialing < options.most;
      if (ready >= wanted || dialing >= MOST_DIALING || !room) return;
      dialing += 1;
      deps.dial(established, dialFailed);
    }
  }

  function established(link: Link): void {
    dialing -= 1;
    dialed += 1;
    offer(link);
    refill();
  }

  function dialFailed(): void {
    dialing -= 1;
    failed += 1;
    backOff();
  }

  function backOff(): void {
    if (stopped || cancelBackoff !== undefined) return;
    cancelBackoff = clock.after(backoff, () => {
      cancelBackoff = undefined;
      refill();
    });
    backoff = Math.min(options.backoffMost, backoff * 2);
  }

  /** To the flow that waits longest, or to the idle ones. */
  function offer(link: Link): void {
    if (stopped || link.closed || link.retiring) {
      link.destroy();
      return;
    }
    const waiter = waiting.shift();
    if (waiter === undefined) {
      const now = clock.monotonic();
      // No PING is out: the link's last word may be older than its last flow.
      idle.push({ link, since: now, pingedAt: Number.NEGATIVE_INFINITY });
      round();
      return;
    }
    waiter.cancelTimeout();
    hand(link, waiter.take);
  }

  function hand(link: Link, take: (link: Link) => void): void {
    leased.add(link);
    backoff = options.backoffLeast;
    if (used.has(link)) reused += 1;
    used.add(link);
    take(link);
  }

  /** Pings and trims while there are idle links. */
  function round(): void {
    if (stopped || cancelRound !== undefined || idle.length === 0) return;
    cancelRound = clock.after(Math.max(100, options.pingEvery / 3), () => {
      cancelRound = undefined;
      const now = clock.monotonic();
      for (const one of [...idle]) {
        const beyond = idle.length > (warm ? options.warm : 0);
        const silent = one.pingedAt > one.link.heardAt && now - one.pingedAt >= options.pingEvery;
        if (silent) one.link.destroy(new Error('the peer does not answer on an idle link'));
        else if (beyond && now - one.since >= options.idleTimeout) remove(one.link)?.destroy();
        else if (now - Math.max(one.link.heardAt, one.pingedAt, one.since) >= options.pingEvery) {
          one.pingedAt = now;
          one.link.ping(() => undefined);
        }
      }
      refill();
      round();
    });
  }

  function remove(link: Link): Link | undefined {
    const index = idle.findIndex((one) => one.link === link);
    if (index < 0) return undefined;
    idle.splice(index, 1);
    return link;
  }

  return {
    lease(take) {
      for (let one = idle.pop(); one !== undefined; one = idle.pop()) {
        if (one.link.closed) continue;
        hand(one.link, take);
        refill();
        return () => undefined;
      }
      if (stopped) {
        take(undefined);
        return () => undefined;
      }
      const withdraw = (): void => {
        const index = waiting.indexOf(waiter);
        if (index >= 0) waiting.splice(index, 1);
        waiter.cancelTimeout();
      };
      const waiter: Waiter = {
        take,
        cancelTimeout: clock.after(options.waitTimeout, () => {
          withdraw();
          take(undefined);
        }),
      };
      waiting.push(waiter);
      refill();
      return withdraw;
    },
    release(link) {
      if (!leased.delete(link)) return;
      offer(link);
      refill();
    },
    dropped(link) {
      leased.delete(link);
      const young = idle.some((one) => one.link === link && clock.monotonic() - one.since < YOUNG_MS);
      remove(link);
      // A peer that accepts links and closes them at once is no better than one that refuses them.
      if (young) backOff();
      refill();
    },
    keepWarm(wanted) {
      warm = wanted;
      refill();
    },
    closeIdle(which) {
      for (const { link } of [...idle]) if (which(link)) remove(link)?.destroy();
      refill();
    },
    counts: () => ({ idle: idle.length, leased: leased.size, dialed, reused, failed }),
    stop() {
      stopped = true;
      cancelBackoff?.();
      cancelRound?.();
      for (const waiter of waiting.splice(0)) {
        waiter.cancelTimeout();
        waiter.take(undefined);
      }
      for (const { link } of idle.splice(0)) link.destroy();
    },
  };
}
