import type { Static } from 'typebox';
import {
  ClusterCreated,
  ClusterInitialised,
  ClusterLockAcquired,
  ClusterLockReleased,
} from './catalogue/cluster.ts';
import { Credential, CredentialRevoked, CredentialRotated, CredentialUsed } from './catalogue/credential.ts';
import { LicenseInstalled, LicenseStateChanged } from './catalogue/license.ts';
import {
  AgentStarted,
  AgentStopped,
  CheckpointInconsistent,
  ClockSkewDetected,
  DriftFound,
  DriftRepaired,
  HandshakeFailed,
  HandshakeSucceeded,
  OriginQuarantined,
  PeerReachable,
  PeerUnreachable,
  ReconcileApplied,
  ReconcileFailed,
  RecoveryUsed,
} from './catalogue/local.ts';
import {
  PeerAdmitted,
  PeerForked,
  PeerLeft,
  PeerRegistered,
  PeerRemoved,
  PeerUpdated,
} from './catalogue/peer.ts';
import { RouteAdded, RouteDeleted, RouteUpdated } from './catalogue/route.ts';
import { ServiceCreated, ServiceDeleted, ServiceFlowsReset, ServiceUpdated } from './catalogue/service.ts';
import type { Stream } from './stream.ts';

/**
 * Everything that can happen. One row a type: its stream, its current version, the schema of its data and a one-line
 * meaning from which the documentation is generated. Older versions are lifted by `upcast.ts` on read.
 */
const row = <S extends Stream, D>(stream: S, version: number, schema: D, meaning: string) => ({
  stream,
  version,
  schema,
  meaning,
});

export const CATALOGUE = {
  'cluster.created': row(
    'config',
    1,
    ClusterCreated,
    'A first peer was bootstrapped and its cluster came into being.',
  ),
  'cluster.initialised': row('config', 1, ClusterInitialised, 'The cluster record was initialised again.'),
  'cluster.lock_acquired': row(
    'config',
    1,
    ClusterLockAcquired,
    'An operator took the cluster lock (a lease).',
  ),
  'cluster.lock_released': row(
    'config',
    1,
    ClusterLockReleased,
    'The cluster lock was given back or broken.',
  ),
  'license.installed': row('config', 1, LicenseInstalled, 'A verified license became the one in force.'),
  'peer.registered': row('config', 1, PeerRegistered, 'A peer described itself, at its bootstrap.'),
  'peer.admitted': row('config', 1, PeerAdmitted, 'A member admitted a peer after a handshake.'),
  'peer.updated': row('config', 1, PeerUpdated, 'Settings of a peer changed.'),
  'peer.left': row('config', 1, PeerLeft, 'A peer left the cluster by its own decision.'),
  'peer.removed': row('config', 1, PeerRemoved, 'A member removed a peer.'),
  'peer.forked': row(
    'config',
    1,
    PeerForked,
    'A member found two histories signed by one peer; nothing of that peer counts from there on.',
  ),
  'service.created': row('config', 1, ServiceCreated, 'A service was created.'),
  'service.updated': row('config', 1, ServiceUpdated, 'Settings of a service changed.'),
  'service.flows_reset': row(
    'config',
    1,
    ServiceFlowsReset,
    'Established connections of a service were asked to be ended.',
  ),
  'service.deleted': row('config', 1, ServiceDeleted, 'A service and its routes were deleted.'),
  'route.added': row('config', 1, RouteAdded, 'A route was added to a service.'),
  'route.updated': row('config', 1, RouteUpdated, 'A route changed.'),
  'route.deleted': row('config', 1, RouteDeleted, 'A route was deleted.'),
  'credential.created': row('config', 1, Credential, 'An OAuth2 client was created.'),
  'credential.rotated': row(
    'config',
    1,
    CredentialRotated,
    'A client secret was replaced; the old one has a grace period.',
  ),
  'credential.revoked': row('config', 1, CredentialRevoked, 'An OAuth2 client was revoked.'),
  'credential.used': row(
    'local',
    1,
    CredentialUsed,
    'A client obtained a token (recorded at most once an hour).',
  ),
  'license.state_changed': row(
    'local',
    1,
    LicenseStateChanged,
    'The license moved to another state on this host.',
  ),
  'agent.started': row('local', 1, AgentStarted, 'The agent started.'),
  'agent.stopped': row('local', 1, AgentStopped, 'The agent stopped in order.'),
  'handshake.succeeded': row('local', 1, HandshakeSucceeded, 'A handshake gave a new session.'),
  'handshake.failed': row('local', 1, HandshakeFailed, 'A handshake failed.'),
  'peer.unreachable': row('local', 1, PeerUnreachable, 'This host lost contact with a peer.'),
  'peer.reachable': row('local', 1, PeerReachable, 'This host regained contact with a peer.'),
  'clock.skew_detected': row('local', 1, ClockSkewDetected, 'A peer clock is too far from ours.'),
  'origin.quarantined': row(
    'local',
    1,
    OriginQuarantined,
    'An origin signed two events with one sequence number.',
  ),
  'checkpoint.inconsistent': row(
    'local',
    1,
    CheckpointInconsistent,
    'An origin signed a checkpoint that contradicts the events it signed before.',
  ),
  'reconcile.applied': row(
    'local',
    1,
    ReconcileApplied,
    'A reconciler changed the kernel or an engine, and it matches.',
  ),
  'reconcile.failed': row('local', 1, ReconcileFailed, 'A reconciler could not apply the desired state.'),
  'drift.found': row('local', 1, DriftFound, 'The kernel or an engine differed from the desired state.'),
  'drift.repaired': row('local', 1, DriftRepaired, 'A difference was repaired.'),
  'recovery.used': row('local', 1, RecoveryUsed, 'The recovery token was used for one request.'),
} as const;

export type EventType = keyof typeof CATALOGUE;
export type EventData = { [T in EventType]: Static<(typeof CATALOGUE)[T]['schema']> };
export type ConfigEventType = {
  [T in EventType]: (typeof CATALOGUE)[T]['stream'] extends 'config' ? T : never;
}[EventType];
export type LocalEventType = Exclude<EventType, ConfigEventType>;

export const isKnownType = (type: string): type is EventType => Object.hasOwn(CATALOGUE, type);

const VERSIONS: ReadonlyMap<string, number> = new Map(
  Object.entries(CATALOGUE).map(([type, { version }]) => [type, version]),
);

/** Current version of a type; undefined for one we do not know. */
export const versionOf = (type: string): number | undefined => VERSIONS.get(type);
