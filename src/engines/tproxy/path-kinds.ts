/** Keeps, for each peer that links lead to or come from, the kind of path judged last. */
import { recurring } from '../recurring.ts';
import type { EngineClock } from './dependencies.ts';
import { judgePath, LEAST_SENT, type PathSeen, type PathVerdict } from './path-kind.ts';

export interface PathKindsDependencies {
  readonly clock: Pick<EngineClock, 'monotonic' | 'after'>;
  /** Counters since the relay started, of each peer that still is one; what was judged of any other is dropped. */
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

  function review(): void {
    const now = clock.monotonic();
    const present = new Map(paths());
    for (const kept of [verdicts, before]) {
      for (const peerId of kept.keys()) if (!present.has(peerId)) kept.delete(peerId);
    }
    for (const [peerId, path] of present) {
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

  const looks = recurring(clock, LOOK_EVERY, review);
  return {
    start: looks.start,
    stop() {
      looks.stop();
      verdicts.clear();
      before.clear();
    },
    review,
  };
}
