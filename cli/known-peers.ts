import type { Client } from './client.ts';
import type { ConfigPeer } from './config.ts';
import type { Context } from './context.ts';
import { type Row, show, textOf } from './fields.ts';
import { rememberNames } from './known-names.ts';

const PRESENT = new Set(['active', 'pending', 'unreachable']);

const endpointsOf = (row: Row): readonly string[] => {
  const listed = Array.isArray(row['endpoints'])
    ? row['endpoints'].filter((one) => typeof one === 'string')
    : [];
  const address = textOf(row, 'address');
  const usable = listed.filter((one) => URL.canParse(one) && /^https?:/.test(one));
  return usable.length > 0 || address === undefined ? usable : [`http://${address}`];
};

/**
 * Brings the peers of the cluster in the configuration up to date with a full list of peers, so that another member is
 * asked when one is down. Endpoints that were typed by a person and work stay in front. A configuration that cannot be
 * written is no reason to fail: the list itself was asked for.
 */
export async function rememberPeers(context: Context, client: Client, rows: readonly Row[]): Promise<void> {
  rememberNames(
    context.configPath,
    'peer',
    rows.flatMap((row) => (PRESENT.has(String(row['state'])) ? [show(row, 'name')] : [])),
  );
  const cluster = client.cluster();
  if (cluster === undefined) return;
  const key = Object.entries((await context.config()).clusters).find(
    ([, one]) => one.cluster_id === cluster.cluster_id,
  )?.[0];
  if (key === undefined) return;
  const peers = rows
    .filter((row) => PRESENT.has(String(row['state'])))
    .flatMap((row): ConfigPeer[] => {
      const id = textOf(row, 'id');
      if (id === undefined) return [];
      const before = cluster.peers.find((peer) => peer.peer_id === id)?.endpoints ?? [];
      const endpoints = [...before, ...endpointsOf(row).filter((one) => !before.includes(one))];
      return endpoints.length === 0 ? [] : [{ peer_id: id, name: textOf(row, 'name') ?? id, endpoints }];
    });
  if (peers.length === 0 || JSON.stringify(peers) === JSON.stringify(cluster.peers)) return;
  try {
    await context.changeConfig((config) => {
      const known = config.clusters[key];
      if (known === undefined) return config;
      const stillThere = peers.some((peer) => peer.peer_id === known.default_peer);
      const next = {
        ...known,
        peers,
        default_peer: stillThere ? known.default_peer : (peers[0]?.peer_id ?? known.default_peer),
      };
      return { ...config, clusters: { ...config.clusters, [key]: next } };
    });
  } catch (error) {
    context.terminal.note(`Warning: ${error instanceof Error ? error.message : String(error)}`);
  }
}
