import { EXIT } from '../../events/errors.ts';
import { didYouMean } from '../../events/suggest.ts';
import type { Run } from '../command.ts';
import type { Config, ConfigCluster } from '../config.ts';
import { configurationFailure, usageFailure } from '../failure.ts';
import { maskValue } from '../masking.ts';
import { currentCluster } from '../target.ts';

/** The key of a cluster given by id or name. @throws Failure (usage) */
function findCluster(config: Config, wanted: string): string {
  const entries = Object.entries(config.clusters);
  const byId = entries.find(([id]) => id === wanted);
  if (byId !== undefined) return byId[0];
  const named = entries.filter(([, cluster]) => cluster.name === wanted);
  if (named.length > 1)
    throw usageFailure(`'${wanted}' is the name of ${named.length} clusters; give the id.`);
  const only = named[0];
  if (only !== undefined) return only[0];
  const names = entries.flatMap(([id, cluster]) => [id, cluster.name]);
  throw usageFailure(
    `the configuration has no cluster '${wanted}'.${didYouMean(wanted, names)} 'arctic config view' shows them.`,
  );
}

export const view: Run = async (context) => {
  const config = maskValue(await context.config());
  if (context.output.format !== 'table') {
    await context.output.either(config, () => '');
    return EXIT.success;
  }
  const { stringify } = await import('../yaml-writer.ts');
  context.terminal.data(`# ${context.configPath}\n${stringify(config, { lineWidth: 0 })}`);
  return EXIT.success;
};

export const use: Run = async (context, input) => {
  const id = findCluster(await context.config(), input.arg(0));
  const config = await context.changeConfig((current) => ({ ...current, current_cluster: id }));
  const name = config.clusters[id]?.name ?? id;
  await context.output.either({ current_cluster: id }, () => `Current cluster: ${name} (${id})\n`);
  return EXIT.success;
};

const withCluster = (
  config: Config,
  id: string,
  change: (cluster: ConfigCluster) => ConfigCluster,
): Config => {
  const cluster = config.clusters[id];
  return cluster === undefined
    ? config
    : { ...config, clusters: { ...config.clusters, [id]: change(cluster) } };
};

export const rename: Run = async (context, input) => {
  const config = await context.config();
  const id = findCluster(config, input.arg(0));
  const name = input.arg(1);
  if (name.trim() === '') throw usageFailure('NAME must not be empty.');
  const taken = Object.entries(config.clusters).find(([other, one]) => other !== id && one.name === name);
  if (taken !== undefined) throw usageFailure(`cluster ${taken[0]} has the name '${name}' already.`);
  await context.changeConfig((current) => withCluster(current, id, (cluster) => ({ ...cluster, name })));
  await context.output.either({ cluster_id: id, name }, () => `Cluster ${id} is now called ${name}.\n`);
  return EXIT.success;
};

export const deletePeer: Run = async (context, input) => {
  const config = await context.config();
  const cluster = currentCluster(config);
  const key = config.current_cluster;
  if (cluster === undefined || key === undefined)
    throw configurationFailure("there is no current cluster; 'arctic config use' chooses one.");
  const wanted = input.arg(0);
  const matching = cluster.peers.filter((peer) => peer.peer_id === wanted || peer.name === wanted);
  if (matching.length > 1)
    throw usageFailure(`'${wanted}' is the name of ${matching.length} peers; give the id.`);
  const peer = matching[0];
  if (peer === undefined)
    throw usageFailure(
      `the configuration has no peer '${wanted}' in ${cluster.name}.` +
        didYouMean(
          wanted,
          cluster.peers.map((one) => one.name),
        ),
    );
  await context.confirm(`Forget peer ${peer.name} (${peer.peer_id}) in ${context.configPath}?`);
  await context.changeConfig((current) =>
    withCluster(current, key, (known) => {
      const peers = known.peers.filter((one) => one.peer_id !== peer.peer_id);
      const gone = known.default_peer === peer.peer_id;
      return { ...known, peers, default_peer: gone ? (peers[0]?.peer_id ?? '') : known.default_peer };
    }),
  );
  await context.output.either({ deleted: peer.peer_id }, () => `Peer ${peer.name} forgotten.\n`);
  return EXIT.success;
};
