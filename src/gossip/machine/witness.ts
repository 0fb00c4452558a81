import type { PeerId } from '../../../events/brand.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import type { Reply, Request } from '../messages.ts';
import { checkpointEvery, retryWitness, WITNESSES } from '../parameters.ts';
import type { CallResult } from './channel.ts';
import type { MachineDeps } from './core.ts';
import { type Link, sample } from './links.ts';

export interface WitnessingDeps {
  readonly machine: MachineDeps;
  readonly links: ReadonlyMap<PeerId, Link>;
  readonly call: (link: Link, request: Request, done: (result: CallResult) => void) => void;
  readonly record: (events: readonly AnyNewEvent[]) => void;
  readonly holdReason: () => string | undefined;
  /** Whether this host is known to have signed two histories. */
  readonly forked: () => boolean;
}

/** Checkpoints travel: this host's go to its peers to be cosigned, and theirs are compared with what is held here. */
export interface Witnessing {
  /** Makes the checkpoint that is due and shows it to whoever has not seen it. */
  tick(): void;
  answer(link: Link, note: string): Reply;
}

export function createWitnessing(deps: WitnessingDeps, options: { readonly heartbeat: number }): Witnessing {
  const { clock, random, report, views, witness } = deps.machine;
  /** Contradictions already said, by origin, size and root. */
  const said = new Set<string>();
  /** Size of the own checkpoint a peer was shown last, and when it may be asked about it again. */
  const shown = new Map<PeerId, { readonly size: number; readonly again: number }>();
  let current: { readonly size: number; readonly note: string } | undefined;
  let chosen: readonly PeerId[] = [];
  let dueAt = Number.NEGATIVE_INFINITY;

  const keyOf = (peer: PeerId): Uint8Array | undefined => {
    const key = views.peers.get(peer)?.public_key;
    return key === undefined ? undefined : new Uint8Array(Buffer.from(key, 'base64'));
  };

  /** A log that cannot be read or written now is asked again at the next turn. */
  const guarded = <T>(what: string, run: () => T): T | undefined => {
    try {
      return run();
    } catch (error) {
      report('warn', what, { reason: error instanceof Error ? error.message : String(error) });
      return undefined;
    }
  };

  const make = (): void => {
    if (witness === undefined || clock.monotonic() < dueAt) return;
    // Who has forgotten events of its own must not sign for what is left. Who has signed two histories shows the one it holds:
    // nothing else it says counts any more, and this is what convicts it where the other one is held.
    if (deps.holdReason() !== undefined && !deps.forked()) return;
    // After 100,000 events at once the next turns hash as well.
    if (guarded('could not read the own events', () => witness.advance()) === false) return;
    dueAt = clock.monotonic() + checkpointEvery(options.heartbeat);
    guarded('could not make a checkpoint', () => witness.checkpoint());
    current = guarded('could not read the own checkpoint', () => witness.newest());
    chosen = [];
  };

  /** The witnesses of this checkpoint: the same ones until the next, with others in the place of those that are gone. */
  const witnesses = (): readonly Link[] => {
    const present = [...deps.links.values()].filter((link) => link.state === 'active');
    const kept = present.filter((link) => chosen.includes(link.peer));
    const others = present.filter((link) => !chosen.includes(link.peer));
    const all = [...kept, ...sample(others, Math.max(0, WITNESSES - kept.length), () => random.fraction())];
    chosen = all.map((link) => link.peer);
    return all;
  };

  const show = (link: Link, size: number, note: string): void => {
    if (witness === undefined) return;
    shown.set(link.peer, { size, again: clock.monotonic() + retryWitness(options.heartbeat) });
    deps.call(link, { kind: 'witness', note }, (result) => {
      const reply = result.ok ? result.reply : undefined;
      // Not reached, or our events are still on their way there: it is asked again.
      if (reply?.kind !== 'witnessed' || reply.note === null) return;
      shown.set(link.peer, { size, again: Number.POSITIVE_INFINITY });
      const key = keyOf(link.peer);
      const cosigned = reply.note;
      if (key !== undefined)
        guarded('could not store a cosignature', () => witness.collect(link.peer, key, cosigned));
    });
  };

  return {
    tick() {
      make();
      if (current === undefined) return;
      const { size, note } = current;
      for (const link of witnesses()) {
        const last = shown.get(link.peer);
        if (last === undefined || last.size < size || clock.monotonic() >= last.again) show(link, size, note);
      }
    },
    answer(link, note) {
      const none: Reply = { kind: 'witnessed', note: null };
      const key = keyOf(link.peer);
      if (witness === undefined || key === undefined) return none;
      const verdict = guarded('could not judge a checkpoint', () => witness.judge(link.peer, key, note));
      if (verdict?.kind === 'cosigned') return { kind: 'witnessed', note: verdict.note };
      if (verdict?.kind === 'refused')
        report('warn', 'a checkpoint of a peer was refused', { peer: link.peer, reason: verdict.reason });
      if (verdict?.kind !== 'inconsistent') return none;
      const { kind: _, ...evidence } = verdict;
      const contradiction = `${link.peer} ${evidence.size} ${evidence.offered}`;
      if (said.has(contradiction)) return none;
      said.add(contradiction);
      deps.record([
        { type: 'checkpoint.inconsistent', entity: link.peer, data: { origin: link.peer, ...evidence } },
      ]);
      report('warn', 'a peer signed a checkpoint that contradicts the events it signed before', {
        peer: link.peer,
        size: evidence.size,
        remedy:
          'its database was altered, or somebody else holds its key: `arctic log verify --full` there, then remove the peer',
      });
      return none;
    },
  };
}
