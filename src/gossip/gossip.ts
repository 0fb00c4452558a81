import type { PeerId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { ArcticError } from '../../events/errors.ts';
import { createIds } from '../../events/ids.ts';
import type { Witness } from '../../events/witness.ts';
import type { LicenseDocumentView, Views } from '../../projections/views.ts';
import type { Identity } from '../identity/contract.ts';
import { verifyRaw } from '../identity/handshake-keys.ts';
import { createAdmission } from './admission.ts';
import { allowanceOf } from './allowance.ts';
import type { Gossip } from './contract.ts';
import type { GossipLog, HistoryMark, Profile, Report } from './machine/core.ts';
import { cannotChange, once } from './machine/core.ts';
import type { DataPlane, DataPort } from './machine/data-plane.ts';
import { createMachine } from './machine/machine.ts';
import type { Sessions, TunnelKeys } from './sessions.ts';
import { createHttpTransport, type HttpTransport } from './transport.ts';

export interface GossipOptions {
  /** HEARTBEAT_SECONDS. */
  readonly heartbeatSeconds: number;
  /** Limit of one handshake request, ms; 5 s unless a test cannot wait. */
  readonly handshakeTimeoutMs?: number;
  /** Ports of the data planes, named to the operator beside one that is found closed. */
  readonly dataPorts?: readonly DataPort[];
}

export interface GossipDeps {
  readonly clock: Clock;
  /** `bytes` must be fit for secrets: challenges and ephemeral keys are made of it. */
  readonly random: Random;
  readonly identity: Identity;
  readonly log: GossipLog;
  /** Caught up with the log before `start`, and folded in the append's own tick. */
  readonly views: Views;
  /** How other peers see and reach this host. */
  readonly profile: () => Profile;
  /** True when a trust root signed the license. */
  readonly verifyLicense: (license: LicenseDocumentView) => boolean;
  /** Digest of the projections, for `cluster status`. */
  readonly projectionDigest: () => string | null;
  readonly report: Report;
  /** Makes and judges checkpoints. */
  readonly witness?: Witness;
  /** Tries the ports of the data planes, at a join and while one is closed. */
  readonly dataPlane?: DataPlane;
  /** Kept beside the database (history-mark.ts). */
  readonly mark?: HistoryMark;
  /** Protocol versions spoken; those of this release unless a test stands for another one. */
  readonly protocols?: readonly number[];
  /** Another way to the peers than HTTP, in tests. */
  readonly transport?: HttpTransport;
}

/** The peer-to-peer side with what only this process's other parts may see. */
export interface GossipService extends Gossip {
  /** Session keys for the TCP engine. */
  readonly keys: Pick<Sessions, 'current' | 'byId' | 'onCurrent' | 'onRetired'>;
  /** Tunnel keys of the newest session with a peer for an epoch; undefined before a handshake. */
  tunnelKeys(peer: PeerId, epoch: number): TunnelKeys | undefined;
  /** Throws UNAVAILABLE while `config` events must not be appended here (own-history rule). To be asked before every write. */
  requireAppendable(): void;
}

/** How long `sync` waits unless told otherwise, ms. */
const SYNC_LIMIT = 10_000;
/** How long a stopping host waits for its peers to take its farewell, ms. */
const LEAVE_LIMIT = 2_000;

/** Runs the gossip machine over HTTP and the system's clock. */
export function createGossip(options: GossipOptions, deps: GossipDeps): GossipService {
  const { clock, random, identity, views } = deps;
  const transport = deps.transport ?? createHttpTransport();
  const ids = createIds({ clock, random });
  const machine = createMachine(
    {
      heartbeat: options.heartbeatSeconds * 1_000,
      ...(options.handshakeTimeoutMs === undefined ? {} : { handshakeTimeout: options.handshakeTimeoutMs }),
      dataPorts: options.dataPorts ?? [],
    },
    {
      clock,
      random,
      identity,
      verify: verifyRaw,
      log: deps.log,
      views,
      transport,
      profile: deps.profile,
      verifyLicense: deps.verifyLicense,
      admit: createAdmission({
        views,
        localPeer: identity.peerId,
        ids,
        now: () => clock.now(),
        fraction: () => random.fraction(),
      }),
      projectionDigest: deps.projectionDigest,
      report: deps.report,
      ...(deps.protocols === undefined ? {} : { protocols: deps.protocols }),
      ...(deps.dataPlane === undefined ? {} : { dataPlane: deps.dataPlane }),
      ...(deps.witness === undefined ? {} : { witness: deps.witness }),
      ...(deps.mark === undefined ? {} : { mark: deps.mark }),
    },
  );

  /** Runs a flow of the machine, for at most `limitMs`. */
  const within = (limitMs: number, flow: (done: () => void) => void): Promise<void> =>
    new Promise((resolve) => {
      const done = once(() => {
        cancel();
        resolve();
      });
      const cancel = clock.after(limitMs, () => done());
      flow(() => done());
    });

  return {
    async start() {
      machine.start();
    },
    async stop() {
      machine.stop();
      await transport.close();
    },
    addPeer: (address, name, context) =>
      new Promise((resolve, reject) => {
        machine.join({ address, name, context }, (result) =>
          result instanceof ArcticError ? reject(result) : resolve(result),
        );
      }),
    sync: (timeoutMs = SYNC_LIMIT) => within(timeoutMs, (done) => machine.round(done)),
    observed: (peer) => machine.observed(peer),
    allowance: (path, head) => allowanceOf(machine.sessions, path, head),
    handle: async (request) => machine.handle(request),
    // After what was just appended has left: a peer that takes its leave says so in its last push.
    leave: () => within(LEAVE_LIMIT, (done) => clock.after(0, () => machine.farewell(done))),
    keys: machine.sessions,
    tunnelKeys: (peer, epoch) => machine.sessions.tunnel(peer, epoch),
    requireAppendable() {
      const reason = machine.holdReason();
      if (reason !== undefined) throw cannotChange(reason);
    },
  };
}
