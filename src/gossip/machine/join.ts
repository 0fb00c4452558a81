import type { PeerId } from '../../../events/brand.ts';
import type { AnyNewEvent } from '../../../events/envelope.ts';
import { ArcticError, type ErrorDetail } from '../../../events/errors.ts';
import { admissionFailure, FAILURES, type HandshakeFailure, toError, transportFailure } from '../failures.ts';
import { HANDSHAKE_PAUSES, HANDSHAKE_TRIES, JOIN_LIMIT } from '../parameters.ts';
import { type AdmissionCandidate, type JoinContext, type MachineDeps, once } from './core.ts';
import type { DataPort } from './data-plane.ts';
import type { Exchange } from './exchange.ts';
import { type Agreement, initiate, licenseOf, localParty } from './handshake.ts';
import { addressEndpoints, type Link } from './links.ts';
import type { Membership } from './membership.ts';
import type { Reach } from './reach.ts';

export interface JoinDeps {
  readonly machine: MachineDeps;
  readonly exchange: Exchange;
  readonly membership: Membership;
  readonly joining: Set<PeerId>;
  readonly record: (events: readonly AnyNewEvent[]) => void;
  readonly running: () => boolean;
  readonly holdReason: () => string | undefined;
  /** Asks the peer to open a connection to this host. */
  readonly askBack: (link: Link) => void;
  /** How long that may take, ms. */
  readonly reverseLimit: number;
  /** Limit of one handshake request, ms. */
  readonly handshakeTimeout: number;
  readonly reach: Reach;
  /** What the data planes need, for the operator who opens ports. */
  readonly dataPorts: readonly DataPort[];
}

/** Pause between two comparisons while both logs grow together, ms. */
const SETTLE_PAUSE = 50;

/** What the admission decision gets to see of a finished handshake. */
export function candidateOf(
  agreement: Agreement,
  address: string,
  name: string | null,
  invited: boolean,
): AdmissionCandidate {
  const { party, endpoint, credentials } = agreement;
  return {
    peer_id: party.peer_id,
    public_key: party.public_key,
    name,
    address,
    endpoints: [...new Set([...(endpoint === undefined ? [] : [endpoint]), ...party.endpoints])].slice(0, 16),
    license: licenseOf(credentials),
    members: credentials.members as PeerId[],
    invited,
  };
}

/** Appends the admission of a peer unless it is a member already; the failure when it may not be one. */
export function admit(
  deps: MachineDeps,
  candidate: AdmissionCandidate,
  context: JoinContext,
): HandshakeFailure | undefined {
  if (deps.views.peers.get(candidate.peer_id)?.membership === 'member') return undefined;
  const decision = deps.admit(candidate, context);
  if (decision instanceof ArcticError) return admissionFailure(decision);
  if (decision.length === 0) return undefined;
  try {
    deps.log.append(decision, context);
    return undefined;
  } catch (error) {
    if (error instanceof ArcticError) return admissionFailure(error);
    throw error;
  }
}

/** The ports beside the API's, in a sentence: whoever opens or forwards one of them had better do all at once. */
const alsoNeeded = (ports: readonly DataPort[]): string =>
  ports.length === 0
    ? ''
    : `; the traffic itself needs ${new Intl.ListFormat('en').format(ports.map(({ protocol, port }) => `${protocol.toUpperCase()} port ${port}`))} ` +
      "open in both directions ('arctic doctor' tries them)";

/** What to open when nothing came back from an address: port, protocol and direction. */
function blockedWay(
  failure: HandshakeFailure,
  address: string,
  dataPorts: readonly DataPort[],
): readonly ErrorDetail[] {
  const port = /:(\d+)$/.exec(address)?.[1];
  const silent = NO_ANSWER.some((fault) => transportFailure(fault).text === failure.text);
  if (!silent || port === undefined) return [];
  return [
    {
      pointer: '/address',
      message:
        `nothing answers at ${address}: TCP port ${port} has to be open there for connections from this host ` +
        `(inbound; on a NAT, forwarded to the agent)${alsoNeeded(dataPorts)}`,
    },
  ];
}
const NO_ANSWER = ['refused', 'timeout', 'no_route', 'reset'] as const;

/** `peers add`: up to three tries of the handshake, admission, then both logs are brought together. */
export function join(
  command: { readonly address: string; readonly name: string | undefined; readonly context: JoinContext },
  deps: JoinDeps,
  finished: (result: PeerId | ArcticError) => void,
): void {
  const { clock, report } = deps.machine;
  const { address, context } = command;
  const done = once(finished);

  const refuse = (failure: HandshakeFailure, peer: PeerId | undefined): void => {
    deps.record([
      {
        type: 'handshake.failed',
        entity: peer ?? `address:${address}`,
        data: { peer_id: peer ?? null, address, reason: failure.text },
      },
    ]);
    report('warn', failure.text, { address, ...(peer === undefined ? {} : { peer }) });
    done(toError(failure, blockedWay(failure, address, deps.dataPorts)));
  };

  /** The operator named a member: one that was given up on is tried again. */
  const knownAlready = (peer: PeerId): void => {
    const link = deps.membership.linkOf(peer);
    deps.membership.revive(link);
    deps.membership.contact(link, () => {});
    done(toError(FAILURES.alreadyMember));
  };

  const attempt = (number: number): void =>
    initiate(
      {
        endpoints: addressEndpoints(address),
        intent: 'join',
        expected: undefined,
        timeoutMs: deps.handshakeTimeout,
      },
      deps.machine,
      (result) => {
        if (!deps.running()) {
          done(new ArcticError('UNAVAILABLE', 'The agent is stopping.'));
        } else if (result.ok) {
          complete(result.agreement);
        } else if (result.failure === FAILURES.alreadyMember && result.peer !== undefined) {
          knownAlready(result.peer);
        } else if (result.failure.retry && number < HANDSHAKE_TRIES) {
          report('info', result.failure.text, { address, try: number });
          clock.after(HANDSHAKE_PAUSES[number - 1] ?? 0, () => attempt(number + 1));
        } else {
          refuse(result.failure, result.peer);
        }
      },
    );

  const complete = (agreement: Agreement): void => {
    const peer = agreement.party.peer_id;
    const limit = clock.monotonic() + JOIN_LIMIT;
    deps.joining.add(peer);
    deps.membership.establish(agreement);
    const link = deps.membership.linkOf(peer);
    deps.exchange.remembers(link, agreement.credentials.holds);
    catchUp(link, limit, (caughtUp) => {
      const candidate = candidateOf(agreement, address, command.name ?? agreement.party.name, true);
      const failure = caughtUp ? admit(deps.machine, candidate, context) : FAILURES.unavailable;
      if (failure === undefined) return settle(link, limit);
      deps.joining.delete(peer);
      if (deps.machine.views.peers.get(peer)?.membership !== 'member') deps.membership.drop(peer);
      refuse(failure, peer);
    });
  };

  /** Own-history rule: a host that forgot events of its own fetches them before it appends. */
  const catchUp = (link: Link, limit: number, next: (caughtUp: boolean) => void): void => {
    if (deps.holdReason() === undefined) {
      next(true);
    } else if (clock.monotonic() >= limit) {
      next(false);
    } else {
      deps.exchange.compare(link, () => clock.after(SETTLE_PAUSE, () => catchUp(link, limit, next)));
    }
  };

  const settle = (link: Link, limit: number): void =>
    deps.exchange.compare(link, (outcome) => {
      if (outcome !== 'same' && clock.monotonic() < limit && deps.running()) {
        clock.after(SETTLE_PAUSE, () => settle(link, limit));
        return;
      }
      // Whatever turns out to be closed, the peer is a member: it is said, and nothing is taken back.
      let left = 2;
      const tested = (): void => {
        left -= 1;
        if (left > 0) return;
        deps.joining.delete(link.peer);
        done(link.peer);
      };
      testReverse(link, tested);
      deps.reach.test(link, tested);
    });

  /** The way back: behind a NAT or a firewall it may be missing, and then pushes and probes of the peer come to nothing. */
  const testReverse = (link: Link, tested: () => void): void => {
    const startedAt = clock.monotonic();
    const wait = (): void => {
      const over = clock.monotonic() - startedAt >= deps.reverseLimit || !deps.running();
      if (link.inboundAt === undefined && !over) {
        clock.after(SETTLE_PAUSE, wait);
        return;
      }
      if (link.inboundAt === undefined) {
        const own = deps.machine.profile().address;
        const port = /:(\d+)$/.exec(own)?.[1] ?? 'of the API';
        link.oneWay = true;
        link.reason =
          `only one direction works: this agent reaches the peer, but the peer's connections to this agent (${own}) do not arrive; ` +
          `let TCP port ${port} in to this host (on a NAT, forward it), or set ADVERTISE_ADDRESS to an address that others reach`;
        report('warn', link.reason, {
          peer: link.peer,
          address,
          protocol: 'tcp',
          port,
          direction: 'inbound',
        });
      }
      tested();
    };
    if (link.inboundAt === undefined) deps.askBack(link);
    wait();
  };

  if (localParty(deps.machine) === undefined)
    done(
      new ArcticError('NOT_BOOTSTRAPPED', 'This agent is not bootstrapped; run `arctic bootstrap` first.'),
    );
  else attempt(1);
}
