import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Config, ConfigCluster } from '../config.ts';
import type { Context } from '../context.ts';
import { Unreachable } from '../exchange.ts';
import { configurationFailure, Failure, systemReason, usageFailure } from '../failure.ts';
import { asRow, isRow, type Row, show, showTime, textOf } from '../fields.ts';
import { DEFAULT_URL } from '../target.ts';
import { isThisHost } from '../this-host.ts';

/** The license document in a file, or on stdin for `-`. @throws Failure (usage) naming the file */
export async function readLicenseFile(context: Context, path: string): Promise<Row> {
  let text: string;
  try {
    text = path === '-' ? await context.terminal.readAll() : readFileSync(path, 'utf8');
  } catch (error) {
    throw usageFailure(`cannot read the license file ${path}: ${systemReason(error)}.`);
  }
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw usageFailure(`${path} is not a license: it is not JSON.`);
  }
  if (!isRow(document)) throw usageFailure(`${path} is not a license: it must be a JSON object.`);
  return document;
}

function required(answer: Row, field: string): string {
  const value = textOf(answer, field);
  if (value === undefined)
    throw new Failure(EXIT.general, `the agent was bootstrapped, but its answer has no ${field}.`);
  return value;
}

/** What the agent can be reached by, as seen from here, then as it says of itself. */
async function describePeer(context: Context, url: string, cluster: ConfigCluster, config: Config) {
  const peer = cluster.peers[0];
  if (peer === undefined) return cluster;
  try {
    const client = await context.clientFor(url, { ...config, clusters: { [cluster.cluster_id]: cluster } });
    const row = asRow(await client.get(`/v1/peers/${peer.peer_id}`), 'peers get');
    const endpoints = Array.isArray(row['endpoints']) ? row['endpoints'].map(String) : [];
    const more = endpoints.filter((one) => !peer.endpoints.includes(one) && URL.canParse(one));
    const name = textOf(row, 'name') ?? peer.name;
    return { ...cluster, name, peers: [{ ...peer, name, endpoints: [...peer.endpoints, ...more] }] };
  } catch {
    // The agent said yes and the credentials are what matters; the rest comes with the next 'peers list'.
    return cluster;
  }
}

const START_MS = 5_000;
const LOOK_AGAIN_MS = 200;

/** `systemctl start arctic` returns when the agent runs, not when it listens, and this is what is typed next. */
async function untilItListens(context: Context, client: Client): Promise<void> {
  const limit = context.clock.monotonic() + START_MS;
  for (;;) {
    try {
      await client.call('GET', '/livez', { open: true, direct: true, accept: [503] });
      return;
    } catch (error) {
      const starting =
        error instanceof Failure && error.cause instanceof Unreachable && error.cause.neverSent;
      // Whatever else is the matter, the request itself says better.
      if (!starting || context.clock.monotonic() > limit) return;
      context.terminal.status('waiting for the agent to start ...');
      await sleep(LOOK_AGAIN_MS);
    }
  }
}

/** What `bootstrapAgent` gave: the agent's answer without the secret, and the cluster as it was saved. */
export interface Bootstrapped {
  readonly answer: Row;
  readonly cluster: ConfigCluster;
}

/**
 * Bootstraps the agent at `url`, saves its credentials and makes its cluster the current one.
 * @throws Failure; (configuration) when the credentials cannot be saved
 */
export async function bootstrapAgent(
  context: Context,
  options: {
    readonly url: string;
    readonly license: Row;
    readonly name: string | undefined;
    readonly description: string | undefined;
  },
): Promise<Bootstrapped> {
  const { url, license, name, description } = options;
  // Before anything is changed: credentials that cannot be saved would be lost.
  const config = await context.config();
  await context.changeConfig((current) => current);
  const client = await context.clientFor(url);
  if (isThisHost(url)) await untilItListens(context, client);
  const answer = asRow(
    await client.post('/v1/bootstrap', {
      open: true,
      direct: true,
      body: {
        license,
        ...(name === undefined ? {} : { name }),
        ...(description === undefined ? {} : { description }),
      },
    }),
    'bootstrap',
  );
  const clusterId = required(answer, 'cluster_id');
  const peerId = required(answer, 'peer_id');
  const fresh: ConfigCluster = {
    cluster_id: clusterId,
    customer_id: textOf(license, 'customer_id') ?? '',
    client_id: required(answer, 'client_id'),
    client_secret: required(answer, 'client_secret'),
    peers: [{ peer_id: peerId, name: name ?? peerId, endpoints: [url] }],
    default_peer: peerId,
    name: name ?? clusterId,
  };
  const save = (cluster: ConfigCluster) =>
    context.changeConfig((current) => ({
      ...current,
      current_cluster: clusterId,
      clusters: { ...current.clusters, [clusterId]: cluster },
    }));
  try {
    await save(fresh);
  } catch (error) {
    throw configurationFailure(
      `the agent was bootstrapped (cluster ${clusterId}), but its credentials could not be saved: ` +
        `${error instanceof Error ? error.message : String(error)} Use the recovery token to create new ones.`,
    );
  }
  const described = await describePeer(context, url, fresh, config);
  if (described !== fresh) await save(described);
  const { client_secret: _secret, ...shown } = answer;
  return { answer: shown, cluster: described };
}

export const bootstrap: Run = async (context, input) => {
  const { answer, cluster } = await bootstrapAgent(context, {
    license: await readLicenseFile(context, input.requiredText('license-file')),
    url: context.url ?? DEFAULT_URL,
    name: input.text('name'),
    description: input.text('description'),
  });
  await context.output.fields(answer, [
    ['Peer ID', show(answer, 'peer_id')],
    ['Cluster ID', cluster.cluster_id],
    ['Client ID', cluster.client_id],
    ['License ID', show(answer, 'license_id')],
    ['Expires', showTime(answer, 'expires_at')],
    ['Max Nodes', show(answer, 'max_nodes')],
    ['Max Services', show(answer, 'max_services')],
  ]);
  context.terminal.note(
    `The credentials are saved in ${context.configPath}; this cluster is the current one.`,
  );
  return EXIT.success;
};
