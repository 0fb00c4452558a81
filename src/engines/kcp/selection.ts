/** Keeps, for each peer that services with `transport_type: auto` lead to, the transport chosen for now. */
import { recurring } from '../recurring.ts';
import { type Choice, chooseTransport, type PathMeasure } from './choose.ts';

export interface SelectionDependencies {
  readonly clock: {
    /** Milliseconds. */
    monotonic(): number;
    after(ms: number, run: () => void): () => void;
  };
  /** Those that a choice is needed for; one may come twice. */
  readonly peers: () => readonly string[];
  readonly pathTo: (peerId: string) => PathMeasure | undefined;
  /** Called after the transport, not just the reason, has become another one. */
  readonly changed: (peerId: string, choice: Choice) => void;
}

export interface Selection {
  start(): void;
  stop(): void;
  /** Looks at every path now. */
  review(): void;
  of(peerId: string): Choice | undefined;
}

/** Milliseconds between looks; a failure of UDP is noticed by the relay itself, flow by flow. */
const LOOK_EVERY = 2_000;

export function createSelection({ clock, peers, pathTo, changed }: SelectionDependencies): Selection {
  const choices = new Map<string, Choice>();

  function review(): void {
    const wanted = new Set(peers());
    for (const peerId of choices.keys()) if (!wanted.has(peerId)) choices.delete(peerId);
    for (const peerId of wanted) {
      const path = pathTo(peerId) ?? { state: 'trying', roundTripMs: 0, loss: null, lossSamples: 0 };
      const last = choices.get(peerId);
      const choice = chooseTransport(path, last, clock.monotonic());
      choices.set(peerId, choice);
      if (choice.transport !== (last?.transport ?? 'tcp')) changed(peerId, choice);
    }
  }

  return {
    ...recurring(clock, LOOK_EVERY, review),
    review,
    of: (peerId) => choices.get(peerId),
  };
}
