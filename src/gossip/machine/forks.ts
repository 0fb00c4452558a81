import type { PeerId } from '../../../events/brand.ts';
import { canonicalJson, eventPreimage } from '../../../events/canonical.ts';
import type { EventData } from '../../../events/catalogue.ts';
import type { AnyEvent, AnyNewEvent } from '../../../events/envelope.ts';
import type { ReceiveOutcome } from '../../../events/log-contract.ts';
import type { MachineDeps } from './core.ts';

export interface ForksDeps {
  readonly machine: MachineDeps;
  readonly record: (events: readonly AnyNewEvent[]) => void;
  readonly holdReason: () => string | undefined;
  /** Milliseconds within which one of several members that found the same speaks first. */
  readonly patience: number;
  /** How long the exact place of a fork is looked for before the number found first is given, ms. */
  readonly searchFor: number;
}

/**
 * Origins that signed two histories. Each host that is offered the other history closes the origin at once and keeps both
 * events; one of them tells everybody (`peer.forked`), and from the number it gives nothing of that origin counts anywhere.
 * So hosts that held different branches agree again, in the fold and in the digest of what they hold.
 */
export interface Forks {
  /** The first sequence number of an origin that does not count; infinite for one history. */
  endOf(origin: PeerId): number;
  /** Evidence came in. True when the place where the histories part is still to be found. */
  found(origin: PeerId, outcome: Extract<ReceiveOutcome, { kind: 'equivocation' }>): boolean;
  /** A removal, an admission or a fork may have come in. */
  changed(): void;
  /** To be called on every tick. */
  review(): void;
}

interface Finding {
  /** First number that does not count: the start of the transaction in which the histories part, as far as it is known. */
  seq: number;
  /** The events before it are known to be the same. */
  exact: boolean;
  first: AnyEvent;
  second: AnyEvent;
  /** Monotonic ms. */
  readonly since: number;
}

type Claim = EventData['peer.forked'];

/** Bytes of a branch that travel in the claim, characters; the catalogue's limit. */
const MOST_BODY = 16_384;
/** Events looked at together for the start of a transaction. */
const STRIDE = 500;

const evidenceKey = (origin: PeerId): string => `gossip.equivocation.${origin}`;

/** The event as evidence: signed and small enough, it carries its own proof. */
function branchOf(event: AnyEvent): Claim['first'] {
  const { id, hash, signature } = event;
  const body = signature === null ? '' : eventPreimage(event, canonicalJson(event.data));
  return body === '' || body.length > MOST_BODY
    ? { id, hash, body: null, signature: null }
    : { id, hash, body, signature };
}

export function createForks(deps: ForksDeps): Forks {
  const { clock, identity, log, random, report, views } = deps.machine;
  const findings = new Map<PeerId, Finding>();
  /** Monotonic time at which this host speaks, unless somebody else did before. */
  const due = new Map<PeerId, number>();
  let stale = true;

  for (const event of log.read({ types: ['origin.quarantined'] })) {
    if (event.type !== 'origin.quarantined') continue;
    const origin = event.data.origin as PeerId;
    const stored = log.meta.get(evidenceKey(origin));
    const evidence = stored === undefined ? undefined : JSON.parse(stored);
    if (evidence === undefined) continue;
    findings.set(origin, {
      seq: evidence.seq ?? event.data.seq,
      exact: evidence.exact ?? true,
      first: evidence.held,
      second: evidence.offered,
      since: clock.monotonic(),
    });
  }

  const keep = (origin: PeerId, { seq, exact, first, second }: Finding): void =>
    log.meta.set(evidenceKey(origin), JSON.stringify({ seq, exact, held: first, offered: second }));

  /** Nothing less than a transaction is signed, so nothing less can end a history that others are to verify. */
  const startOfTransaction = (origin: PeerId, seq: number): number => {
    for (let until = seq; until > 1; ) {
      const from = Math.max(1, until - STRIDE);
      const before = log.range(origin, from, until - from).filter((event) => event.seq < until);
      // Not held so far: nothing to say about it.
      if (before.at(-1)?.seq !== until - 1) return seq;
      const signed = before.findLast((event) => event.signature !== null);
      if (signed !== undefined) return signed.seq + 1;
      until = from;
    }
    return 1;
  };

  const endOf = (origin: PeerId): number =>
    Math.min(
      views.peers.get(origin)?.forked_at ?? Number.POSITIVE_INFINITY,
      findings.get(origin)?.seq ?? Number.POSITIVE_INFINITY,
    );

  const tell = (origin: PeerId, { seq, first, second }: Finding): void => {
    // Both signed versions are the evidence; either alone proves nothing.
    deps.record([
      {
        type: 'origin.quarantined',
        entity: origin,
        data: { origin, seq, first: first.id, second: second.id },
      },
    ]);
    report(
      'warn',
      'two different events were signed under one sequence number; nothing of their origin counts from there on',
      {
        origin,
        seq,
        first: first.id,
        second: second.id,
        remedy:
          "find out who else holds that host's key or restored its database, remove the peer with `arctic peers delete`, " +
          'bootstrap the host again (it comes back under a new id), and repeat what it had changed since then',
      },
    );
  };

  /** What this host has to say: what it found itself, or what it knows only from a history that is cut off itself. */
  const unsaid = (): ReadonlyMap<PeerId, Claim> => {
    const wanted = new Map<PeerId, Claim>();
    const now = clock.monotonic();
    const want = (claim: Claim): void => {
      const origin = claim.peer_id as PeerId;
      if (origin !== identity.peerId && claim.seq < (wanted.get(origin)?.seq ?? Number.POSITIVE_INFINITY))
        wanted.set(origin, claim);
    };
    for (const [origin, finding] of findings) {
      const said = views.peers.get(origin)?.forked_at ?? Number.POSITIVE_INFINITY;
      if (finding.seq < said && (finding.exact || now - finding.since > deps.searchFor))
        want({
          peer_id: origin,
          seq: finding.seq,
          first: branchOf(finding.first),
          second: branchOf(finding.second),
        });
    }
    const claims = log.read({ types: ['peer.forked'] }).filter((event) => event.type === 'peer.forked');
    const ends = new Map<PeerId, number>();
    for (const { origin, seq, data } of claims) {
      const reporter = views.peers.get(origin);
      const last = Math.min(
        endOf(origin) - 1,
        reporter?.membership === 'removed' ? (reporter.last_seq ?? 0) : Number.POSITIVE_INFINITY,
      );
      const of = data.peer_id as PeerId;
      if (seq <= last) ends.set(of, Math.min(data.seq, ends.get(of) ?? Number.POSITIVE_INFINITY));
    }
    for (const { data } of claims) {
      const of = data.peer_id as PeerId;
      // Whoever holds the origin's transaction knows where it starts; the one that spoke may have held another.
      const seq = startOfTransaction(of, data.seq);
      if (seq < (ends.get(of) ?? Number.POSITIVE_INFINITY)) want({ ...data, seq });
    }
    return wanted;
  };

  return {
    endOf,
    changed() {
      stale = true;
    },
    found(origin, { seq, held, offered }) {
      const exact = held.seq === offered.seq && held.prev_hash === offered.prev_hash;
      const before = findings.get(origin);
      const finding: Finding = {
        seq: startOfTransaction(origin, seq),
        exact,
        first: held,
        second: offered,
        since: before?.since ?? clock.monotonic(),
      };
      if (before === undefined || finding.seq < before.seq || (exact && !before.exact)) {
        findings.set(origin, finding);
        keep(origin, finding);
        if (before === undefined) tell(origin, finding);
      }
      stale = true;
      return !exact;
    },
    review() {
      if (!stale) return;
      // Who is out of the cluster has no say, and who has forgotten its own events may not sign.
      if (views.peers.get(identity.peerId)?.membership !== 'member') return;
      if (deps.holdReason() !== undefined) return;
      const now = clock.monotonic();
      const wanted = unsaid();
      for (const origin of due.keys()) if (!wanted.has(origin)) due.delete(origin);
      for (const [origin, claim] of wanted) {
        const at = due.get(origin) ?? now + random.fraction() * deps.patience;
        due.set(origin, at);
        if (now < at) continue;
        due.delete(origin);
        deps.record([{ type: 'peer.forked', entity: origin, data: claim }]);
      }
      const searching = ({ exact, since }: Finding) => !exact && now - since <= 2 * deps.searchFor;
      stale = due.size > 0 || [...findings.values()].some(searching);
    },
  };
}
