/** Keeps, for each peer that links lead to or come from, the kind of path judged last. */
import type { EngineClock } from './dependencies.ts';
import { judgePath, LEAST_SENT, type PathSeen, type PathVerdict } from './path-kind.ts';

export interface PathKindsDependencies {
  readonly clock: Pick<EngineClock, 'monotonic' | 'after'>;
  /** Counters of each peer since the relay started. */
  readonly paths: () => Iterable<readonly [peerId: string, path: PathSeen]>;
  /** Called after the kind has become another one. */
  readonly changed: (peerId: string, verdict: PathVerdict) => void;
}

export interface PathKinds {
  start(): void;
  stop(): void;
  /** Looks at every path now. */
  review(): void;
}

/** Milliseconds between looks; the relay samples its links every five seconds while they send. */
const LOOK_EVERY = 3_000;

export function createPathKinds({ clock, paths, changed }: PathKindsDependencies): PathKinds {
  const verdicts = new Map<string, PathVerdict>();
  const before = new Map<string, PathSeen>();
  let cancel: (() => void) | undefined;

  function review(): void {
    const now = clock.monotonic();
    for (const [peerId, path] of paths()) {
      const from = before.get(peerId);
      const since = {
        leastRttMs: path.leastRttMs,
        bytesSent: path.bytesSent - (from?.bytesSent ?? 0),
        bytesRetransmitted: path.bytesRetransmitted - (from?.bytesRetransmitted ?? 0),
      };
      const last = verdicts.get(peerId);
      const verdict = judgePath(since, last, now);
      // What is too little to judge by counts next time.
      if (from === undefined || since.bytesSent >= LEAST_SENT) before.set(peerId, path);
      if (verdict === undefined || verdict === last) continue;
      verdicts.set(peerId, verdict);
      changed(peerId, verdict);
    }
  }

  function look(): void {
    cancel = clock.after(LOOK_EVERY, () => {
      review();
      look();
    });
  }

  return {
    start() {
      if (cancel === undefined) look();
    },
    stop() {
      cancel?.();
      cancel = undefined;
      verdicts.clear();
      before.clear();
    },
    review,
  };
}
