import type { Config, ConfigCluster } from './config.ts';
import { usageFailure } from './failure.ts';

export interface Endpoint {
  readonly base: string;
  /** The member it belongs to, when the configuration knows. */
  readonly peerId: string | undefined;
  readonly peerName: string | undefined;
}

/** Where requests go, in the order they are tried, and whose credentials they carry. */
export interface Target {
  readonly cluster: ConfigCluster | undefined;
  readonly endpoints: readonly Endpoint[];
  /** An address the person gave that the configuration does not know: whose it is must be asked first. */
  readonly unknown: boolean;
}

export const DEFAULT_URL = 'http://localhost:8080';

/** `http://HOST:PORT` without a path; a bare `HOST:PORT` is taken as HTTP. @throws Failure (usage) */
export function normaliseUrl(text: string, name: string): string {
  const full = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '')
    throw usageFailure(`${name} must be an address such as http://10.0.0.1:8080, not '${text}'.`);
  if (url.username !== '' || url.password !== '')
    throw usageFailure(`${name} must not hold credentials; use --token or the configuration.`);
  return url.origin;
}

const sameUrl = (a: string, b: string): boolean =>
  URL.canParse(a) && URL.canParse(b) && new URL(a).origin === new URL(b).origin;

const peerOf = (cluster: ConfigCluster, base: string) =>
  cluster.peers.find((peer) => peer.endpoints.some((endpoint) => sameUrl(endpoint, base)));

/** The cluster of a URL by the endpoints in the configuration; the current cluster wins over others. */
function clusterOf(config: Config, base: string): ConfigCluster | undefined {
  const current = currentCluster(config);
  const all = Object.values(config.clusters);
  return [...(current === undefined ? [] : [current]), ...all].find((one) => peerOf(one, base) !== undefined);
}

export const currentCluster = (config: Config): ConfigCluster | undefined =>
  config.current_cluster === undefined ? undefined : config.clusters[config.current_cluster];

/** Endpoints in order: the default peer's, then the other peers'; the last good one before all. */
function ordered(cluster: ConfigCluster, lastGood: string | undefined): readonly Endpoint[] {
  const peers = [...cluster.peers].sort(
    (a, b) => Number(b.peer_id === cluster.default_peer) - Number(a.peer_id === cluster.default_peer),
  );
  const endpoints = peers.flatMap((peer) =>
    peer.endpoints.map((base) => ({
      base: new URL(base).origin,
      peerId: peer.peer_id,
      peerName: peer.name,
    })),
  );
  return [
    ...endpoints.filter((endpoint) => endpoint.base === lastGood),
    ...endpoints.filter((endpoint) => endpoint.base !== lastGood),
  ];
}

/**
 * Decides where to send requests: the URL given, else the current cluster's endpoints, else the agent on this host.
 * @param lastGood endpoint that answered last, by cluster id
 */
export function chooseTarget(
  config: Config,
  url: string | undefined,
  lastGood: (clusterId: string) => string | undefined,
): Target {
  if (url !== undefined) {
    const cluster = clusterOf(config, url);
    const peer = cluster === undefined ? undefined : peerOf(cluster, url);
    return {
      cluster,
      endpoints: [{ base: url, peerId: peer?.peer_id, peerName: peer?.name }],
      unknown: cluster === undefined,
    };
  }
  const cluster = currentCluster(config);
  const endpoints = cluster === undefined ? [] : ordered(cluster, lastGood(cluster.cluster_id));
  if (endpoints.length > 0) return { cluster, endpoints, unknown: false };
  return {
    cluster,
    endpoints: [{ base: DEFAULT_URL, peerId: undefined, peerName: undefined }],
    unknown: false,
  };
}

/** The cluster an agent says it belongs to, by cluster id, else by the peer itself (a merged cluster changes its id). */
export function clusterOfIdentity(
  config: Config,
  identity: { readonly cluster_id?: unknown; readonly peer_id?: unknown },
): ConfigCluster | undefined {
  const all = Object.values(config.clusters);
  return (
    all.find((cluster) => cluster.cluster_id === identity.cluster_id) ??
    all.find((cluster) => cluster.peers.some((peer) => peer.peer_id === identity.peer_id))
  );
}
