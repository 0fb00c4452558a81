import type { PeerId } from '../../../events/brand.ts';
import type { Clock, Random } from '../../../events/clock.ts';
import type { Actor, AnyNewEvent } from '../../../events/envelope.ts';
import { ArcticError } from '../../../events/errors.ts';
import type { Log } from '../../../events/log-contract.ts';
import type { Witness } from '../../../events/witness.ts';
import type { LicenseDocumentView, Views } from '../../../projections/views.ts';
import type { Identity, Verify } from '../../identity/contract.ts';
import type { Ephemeral, PairKeys } from '../../identity/key-schedule.ts';
import type { TransportFault } from '../failures.ts';
import type { Sessions } from '../sessions.ts';
import type { Channel } from './channel-contract.ts';
import type { DataPlane } from './data-plane.ts';

/**
 * What the machine is given. It opens no socket, reads no clock and draws no random number but through these, so the same code
 * runs in the agent and, thousands of times faster than time, in the simulator.
 */
export interface MachineDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly identity: Identity;
  readonly verify: Verify;
  readonly log: GossipLog;
  readonly views: Pick<Views, 'cluster' | 'license' | 'peers'>;
  readonly transport: Transport;
  /** How far this host has signed, kept beside the log; without it a restored copy of the log is only noticed by its peers. */
  readonly mark?: HistoryMark;
  /** Makes and judges checkpoints; without it none are exchanged. */
  readonly witness?: Witness;
  /** Tries the data planes' ports; without it they are named at most. */
  readonly dataPlane?: DataPlane;
  /** Protocol versions spoken; PROTOCOLS, unless a test stands for another release. */
  readonly protocols?: readonly number[];
  /** Other sessions and sealing than the real ones, in simulations of so many peers that a million key agreements would only heat. */
  readonly security?: {
    readonly sessions: Sessions;
    readonly channel: Channel;
    readonly agreement?: Agreement;
  };
  /** How this host presents itself; `address` and `endpoints` are those other peers can reach. */
  readonly profile: () => Profile;
  /** True when a trust root signed the document. Expiry is not its affair. */
  readonly verifyLicense: (license: LicenseDocumentView) => boolean;
  /** The pure decision: `peer.admitted` for the candidate, or the refusal (node cap over the union, another customer). */
  readonly admit: (
    candidate: AdmissionCandidate,
    context: JoinContext,
  ) => readonly AnyNewEvent[] | ArcticError;
  /** Digest of this host's projections, shown to peers; null while it is not known. */
  readonly projectionDigest: () => string | null;
  readonly report: Report;
}

/** What is kept beside the database, so that an older copy of it is recognised. */
export interface Mark {
  /** Number of `config` events this host has signed. */
  readonly seq: number;
  /** The other members at that time. The same array as before: nothing about them changed. */
  readonly peers: readonly { readonly id: PeerId; readonly address: string }[];
}

export interface HistoryMark {
  read(): Mark | undefined;
  /** Never throws. */
  write(mark: Mark): void;
}

/** How two hosts come to a secret and its keys: `identity/key-schedule.ts`, but in simulations. */
export interface Agreement {
  readonly createEphemeral: (seed: Uint8Array) => Ephemeral;
  readonly derivePairKeys: (shared: Uint8Array, transcript: Uint8Array) => PairKeys;
}

/** The part of the log that gossip uses. */
export type GossipLog = Pick<
  Log,
  'origin' | 'head' | 'append' | 'receive' | 'versionVector' | 'range' | 'read' | 'subscribe' | 'meta'
>;

export interface Profile {
  readonly name: string;
  readonly address: string;
  readonly endpoints: readonly string[];
  readonly version: string;
}

/** A peer that has proved its identity and its license, asking to be a member. */
export interface AdmissionCandidate {
  readonly peer_id: PeerId;
  readonly public_key: string;
  readonly name: string | null;
  readonly address: string;
  readonly endpoints: readonly string[];
  readonly license: LicenseDocumentView;
  /** Members of the cluster it comes from, itself among them: the cap counts the union. */
  readonly members: readonly PeerId[];
  /** An operator of this host asked for it; false: it came by itself. */
  readonly invited: boolean;
}

/** On whose behalf an admission is appended. */
export interface JoinContext {
  readonly actor: Actor;
  readonly correlationId: string;
}

export interface PostOptions {
  /** Tried in order until one takes the connection. */
  readonly endpoints: readonly string[];
  readonly path: string;
  readonly contentType: string;
  readonly body: Uint8Array;
  /** Limit of each endpoint's try, ms. */
  readonly timeoutMs: number;
}

export type PostOutcome =
  | { readonly kind: 'answer'; readonly status: number; readonly body: Uint8Array; readonly endpoint: string }
  | { readonly kind: 'fault'; readonly fault: TransportFault };

/** The way to other agents. `done` is called exactly once, never before `post` returns. */
export interface Transport {
  post(options: PostOptions, done: (outcome: PostOutcome) => void): void;
}

/** One line for the operator's log. Never a secret. */
export type Report = (
  level: 'debug' | 'info' | 'warn',
  message: string,
  fields?: Readonly<Record<string, string | number | boolean | null>>,
) => void;

export const SYSTEM: Actor = { kind: 'system', id: null, address: null };

/** Calls each callback exactly once, whichever way a flow ends. */
export const once = <A extends readonly unknown[]>(run: (...args: A) => void): ((...args: A) => void) => {
  let called = false;
  return (...args) => {
    if (called) return;
    called = true;
    run(...args);
  };
};

/** `reason` as `Machine.holdReason` gives it. */
export const cannotChange = (reason: string) =>
  new ArcticError('UNAVAILABLE', `Nothing can be changed on this host now: ${reason}.`);
