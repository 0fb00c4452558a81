import type { ClientId, ClusterId, LicenseId, PeerId } from '../../events/brand.ts';
import { ArcticError } from '../../events/errors.ts';
import { newClientId, newClusterId } from '../../events/ids.ts';
import type { LicenseDocumentView, Views } from '../../projections/views.ts';
import type { Decision, DecisionContext } from './decision.ts';

export interface BootstrapCommand {
  /** Verified against the trust roots already. */
  readonly license: LicenseDocumentView;
  readonly name: string;
  readonly description: string | null;
  readonly peer: {
    /** base64, 32 bytes. */
    readonly publicKey: string;
    /** `host:port`. */
    readonly address: string;
    readonly endpoints: readonly string[];
    readonly agentVersion: string;
  };
  /** Hash of the first client's secret. */
  readonly secretHash: string;
}

export interface Bootstrapped {
  readonly peerId: PeerId;
  readonly clusterId: ClusterId;
  readonly clientId: ClientId;
  readonly licenseId: LicenseId;
}

/** Makes a bare agent the first peer of a cluster, with a license and the shared credential. Once. */
export function decideBootstrap(
  views: Views,
  command: BootstrapCommand,
  context: DecisionContext,
): Decision<Bootstrapped> {
  const existing = views.cluster().cluster_id;
  if (existing !== undefined) {
    throw new ArcticError(
      'ALREADY_BOOTSTRAPPED',
      `this agent belongs to cluster ${existing} already; to start over, stop it, delete its database and bootstrap again.`,
    );
  }
  const { license, peer } = command;
  refuseExpired(license, context.now);
  const clusterId = newClusterId(context.ids);
  const clientId = newClientId(context.ids);
  return {
    events: [
      {
        type: 'cluster.created',
        entity: clusterId,
        data: {
          cluster_id: clusterId,
          customer_id: license.customer_id,
          name: null,
          description: command.description,
        },
      },
      { type: 'license.installed', entity: license.license_id, data: { license: copyLicense(license) } },
      {
        type: 'peer.registered',
        entity: context.localPeer,
        data: {
          peer_id: context.localPeer,
          public_key: peer.publicKey,
          name: command.name,
          address: peer.address,
          endpoints: [...peer.endpoints],
          api_access: 'open',
          cluster_id: clusterId,
          license_id: license.license_id,
          version: peer.agentVersion,
        },
      },
      {
        type: 'credential.created',
        entity: clientId,
        data: {
          client_id: clientId,
          secret_hash: command.secretHash,
          scopes: ['admin'],
          license_id: license.license_id,
          shared: true,
        },
      },
    ],
    result: { peerId: context.localPeer, clusterId, clientId, licenseId: license.license_id },
  };
}

/** A license is installed only while it lives; afterwards its own states decide. */
export function refuseExpired(license: LicenseDocumentView, now: number): void {
  if (Date.parse(license.expires_at) > now) return;
  throw new ArcticError(
    'LICENSE_EXPIRED',
    `license ${license.license_id} expired on ${license.expires_at}; ask its issuer for a new one.`,
  );
}

/** A mutable copy in the shape of the event; views are read-only. */
export const copyLicense = (license: LicenseDocumentView) => ({
  ...license,
  features: [...license.features],
});
