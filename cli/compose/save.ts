import type { Client } from '../client.ts';
import type { ConfigCluster } from '../config.ts';
import type { Context } from '../context.ts';
import { asRow, show } from '../fields.ts';
import type { MemberState } from './cluster-state.ts';
import type { Credentials } from './credentials-file.ts';

/** A cluster as the configuration keeps it. */
export function clusterEntry(
  facts: { readonly clusterId: string; readonly customerId: string; readonly name: string },
  credentials: Credentials,
  peers: readonly { readonly peerId: string; readonly name: string; readonly endpoints: readonly string[] }[],
  first: string,
): ConfigCluster {
  return {
    cluster_id: facts.clusterId,
    customer_id: facts.customerId,
    client_id: credentials.client_id,
    client_secret: credentials.client_secret,
    peers: peers.map(({ peerId, name, endpoints }) => ({ peer_id: peerId, name, endpoints })),
    default_peer: first,
    name: facts.name,
  };
}

/** Puts a cluster into the configuration and makes it the current one; what is known of it by its old id goes. */
export async function saveCluster(
  context: Context,
  entry: ConfigCluster,
  makeCurrent: boolean,
): Promise<void> {
  await context.changeConfig((config) => {
    const mine = (one: ConfigCluster) =>
      one.cluster_id === entry.cluster_id ||
      (one.client_id === entry.client_id && one.peers.some(({ peer_id }) => peer_id === entry.default_peer));
    const others = Object.entries(config.clusters).filter(([, one]) => !mine(one));
    const old = Object.entries(config.clusters).find(([, one]) => mine(one));
    const wasCurrent = old !== undefined && config.current_cluster === old[0];
    return {
      ...config,
      ...(makeCurrent || wasCurrent ? { current_cluster: entry.cluster_id } : {}),
      clusters: {
        ...Object.fromEntries(others),
        [entry.cluster_id]: { ...entry, name: old?.[1].name ?? entry.name },
      },
    };
  });
}

/** The cluster as it stands after a run: its id may be another after a merge, and it may have more peers. */
export async function rememberCluster(
  context: Context,
  client: Client,
  members: readonly MemberState[],
  options: { readonly credentials: Credentials | undefined; readonly save: boolean; readonly base: string },
): Promise<void> {
  const status = asRow(await client.get('/v1/cluster/status'), 'cluster status');
  const local = members.find(({ is_local }) => is_local);
  const config = await context.config();
  const clusterId = show(status, 'cluster_id');
  const known = Object.values(config.clusters).find(
    (one) => one.cluster_id === clusterId || one.peers.some(({ peer_id }) => peer_id === local?.id),
  );
  const credentials = options.save ? (options.credentials ?? known) : known;
  if (credentials === undefined || local === undefined) return;
  const endpointsOf = (member: MemberState): readonly string[] => {
    const before = known?.peers.find(({ peer_id }) => peer_id === member.id)?.endpoints ?? [];
    const own = member.is_local ? [options.base] : [];
    const usable = member.endpoints.filter((one) => URL.canParse(one));
    const listed = usable.length > 0 ? usable : [`http://${member.address}`];
    return [...new Set([...before, ...own, ...listed])];
  };
  const entry = clusterEntry(
    {
      clusterId,
      customerId: show(status, 'customer_id'),
      name: known?.name ?? local.name,
    },
    credentials,
    members.map((member) => ({ peerId: member.id, name: member.name, endpoints: endpointsOf(member) })),
    known?.default_peer ?? local.id,
  );
  await saveCluster(context, entry, options.save);
}
