import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Config, ConfigCluster } from '../config.ts';
import type { Context } from '../context.ts';
import { connectionFailure, Failure } from '../failure.ts';
import { clusterOfIdentity, currentCluster } from '../target.ts';
import type { Asked } from './contact.ts';
import type { Credentials } from './credentials-file.ts';
import type { PeerSpec } from './spec.ts';

/** The one agent a run speaks to: it holds the lock, takes every change, and passes questions on to the others. */
export type Coordinator =
  | { readonly kind: 'member'; readonly base: string; readonly peerId: string; readonly client: Client }
  /** No cluster yet: this peer of the file is bootstrapped first. */
  | { readonly kind: 'bare'; readonly base: string; readonly peer: PeerSpec };

export interface CoordinatorRequest {
  readonly peers: readonly PeerSpec[];
  /** What the peers of the file said, by name. */
  readonly asked: ReadonlyMap<string, Asked>;
  /** What the agent of --url said. */
  readonly given: Asked | undefined;
  readonly credentials: Credentials | undefined;
  /** --token or a recovery token: it goes to whichever agent is asked. */
  readonly explicitAuthority: boolean;
}

/** A client for one agent and no other, with the credentials given or those of the configuration. */
export async function clientOf(
  context: Context,
  base: string,
  peerId: string,
  clusterId: string,
  credentials: Credentials | undefined,
): Promise<Client> {
  if (credentials === undefined) return context.clientFor(base);
  const cluster: ConfigCluster = {
    cluster_id: clusterId,
    customer_id: '',
    ...credentials,
    peers: [{ peer_id: peerId, name: peerId, endpoints: [base] }],
    default_peer: peerId,
    name: clusterId,
  };
  const config: Config = { current_cluster: clusterId, clusters: { [clusterId]: cluster }, preferences: {} };
  return context.clientFor(base, config);
}

interface Member {
  readonly peer: PeerSpec;
  readonly base: string;
  readonly peerId: string;
  readonly clusterId: string;
}

/**
 * Which cluster the file is about, and whom to ask in it: the agent of --url; else a peer of the file that belongs to a
 * cluster there are credentials for, the current cluster first; else, where none does, the first bare peer, which begins a
 * new cluster. A current cluster that has nothing to do with the file is left alone.
 * @throws Failure when nobody can be asked
 */
export async function findCoordinator(context: Context, request: CoordinatorRequest): Promise<Coordinator> {
  const { peers, asked, given, credentials } = request;
  if (given !== undefined) return fromUrl(context, given, request);
  const config = await context.config();
  // A peer that is to become internal can be asked only until then.
  const order = [...peers].sort(
    (a, b) => Number(a.api_access === 'internal') - Number(b.api_access === 'internal'),
  );
  const members = order.flatMap((peer): readonly Member[] => {
    const answer = asked.get(peer.name);
    if (answer?.contact.kind !== 'bootstrapped') return [];
    const { peerId, clusterId } = answer.contact;
    return [{ peer, base: answer.base, peerId, clusterId }];
  });
  const current = currentCluster(config);
  const known = members
    .map((member) => ({
      member,
      cluster: clusterOfIdentity(config, { cluster_id: member.clusterId, peer_id: member.peerId }),
    }))
    .filter(({ cluster }) => cluster !== undefined || credentials !== undefined || request.explicitAuthority)
    .sort((a, b) => Number(b.cluster === current) - Number(a.cluster === current));
  const [best] = known;
  if (best !== undefined) {
    const { base, peerId, clusterId } = best.member;
    return {
      kind: 'member',
      base,
      peerId,
      client: await clientOf(context, base, peerId, clusterId, credentials),
    };
  }
  const elsewhere = current === undefined ? undefined : await throughConfig(context, peers);
  if (elsewhere !== undefined) return elsewhere;
  const bare = order.find(({ name }) => asked.get(name)?.contact.kind === 'bare');
  const base = bare === undefined ? undefined : asked.get(bare.name)?.base;
  if (bare !== undefined && base !== undefined) return { kind: 'bare', base, peer: bare };
  const [stranger] = members;
  if (stranger !== undefined)
    throw new Failure(
      EXIT.authentication,
      `there are no credentials for cluster ${stranger.clusterId}, to which '${stranger.peer.name}' (${stranger.peer.address}) belongs; ` +
        'give --credentials-file, or its recovery token with --url and --recovery-token-file.',
    );
  throw connectionFailure(
    `none of the ${peers.length} peers of the file answers: ${reasons(peers, asked)}. Check that their agents run ('systemctl status arctic') and that their ports are open.`,
  );
}

export const reasons = (peers: readonly PeerSpec[], asked: ReadonlyMap<string, Asked>): string =>
  peers
    .flatMap(({ name, address }) => {
      const contact = asked.get(name)?.contact;
      return contact?.kind === 'unreachable' ? [`'${name}' (${address}): ${contact.reason}`] : [];
    })
    .join('; ');

async function fromUrl(context: Context, given: Asked, request: CoordinatorRequest): Promise<Coordinator> {
  const { base, contact } = given;
  if (contact.kind === 'bootstrapped') {
    const { peerId, clusterId } = contact;
    return {
      kind: 'member',
      base,
      peerId,
      client: await clientOf(context, base, peerId, clusterId, request.credentials),
    };
  }
  if (contact.kind === 'unreachable') {
    // An internal peer tells nobody who it is, but its recovery token opens it.
    if (!request.explicitAuthority)
      throw connectionFailure(`cannot ask the agent at ${base}: ${contact.reason}.`);
    const client = await context.clientFor(base);
    return { kind: 'member', base, peerId: await localPeerId(client), client };
  }
  const host = new URL(base).host.toLowerCase();
  const peer = request.peers.find(({ address }) => address.toLowerCase() === host);
  if (peer === undefined)
    throw new Failure(
      EXIT.configuration,
      `the agent at ${base} is not bootstrapped, and ${host} is not the address of one of the peers of the file.`,
    );
  return { kind: 'bare', base, peer };
}

async function localPeerId(client: Client): Promise<string> {
  const rows = await client.list('/v1/peers', 'peers');
  return String(rows.find((row) => row['is_local'] === true)?.['id'] ?? '');
}

/** The current cluster, reached by other addresses than those of the file, where it has a member that the file names. */
async function throughConfig(context: Context, peers: readonly PeerSpec[]): Promise<Coordinator | undefined> {
  try {
    const client = await context.client();
    const rows = await client.list('/v1/peers', 'peers');
    const shared = rows.some((row) =>
      peers.some(({ name, address }) => row['name'] === name && row['address'] === address),
    );
    if (!shared) return undefined;
    const { base } = client.endpoint();
    const pinned = await context.clientFor(base);
    return { kind: 'member', base, peerId: await localPeerId(pinned), client: pinned };
  } catch (error) {
    // Another cluster that does not answer is none of this file's business.
    if (error instanceof Failure) return undefined;
    throw error;
  }
}
