import { EXIT } from '../events/errors.ts';
import { didYouMean } from '../events/suggest.ts';
import type { Client } from './client.ts';
import type { Config } from './config.ts';
import { Failure } from './failure.ts';
import { type Row, textOf } from './fields.ts';
import { currentCluster } from './target.ts';

const PEER_ID = /^peer_[0-9A-HJKMNP-TV-Z]{26}$/;
const SERVICE_ID = /^svc_[0-9A-HJKMNP-TV-Z]{26}$/;

/** The one row with this name, or with an id that begins so. @throws Failure when there is none, or more than one. */
function pick(kind: string, wanted: string, rows: readonly Row[]): string {
  const ids = (found: readonly Row[]) => found.flatMap((row) => textOf(row, 'id') ?? []);
  const named = ids(rows.filter((row) => row['name'] === wanted));
  const prefixed = wanted.includes('_') ? ids(rows).filter((id) => id.startsWith(wanted)) : [];
  const found = named.length > 0 ? named : prefixed;
  const only = found[0];
  if (found.length > 1)
    throw new Failure(
      EXIT.usage,
      `there are ${found.length} ${kind}s that '${wanted}' could be: ${found.join(', ')}. Give the id.`,
    );
  if (only !== undefined) return only;
  const names = rows.flatMap((row) => textOf(row, 'name') ?? []);
  throw new Failure(
    EXIT.general,
    `there is no ${kind} '${wanted}'.${didYouMean(wanted, names)} 'arctic ${kind}s list' shows them.`,
  );
}

/** The id of a member given by id or name; the configuration is looked at before the agent is asked. */
export async function resolvePeer(
  wanted: string,
  config: Config,
  connect: () => Promise<Client>,
): Promise<string> {
  if (PEER_ID.test(wanted)) return wanted;
  const known = currentCluster(config)?.peers.filter((peer) => peer.name === wanted) ?? [];
  if (known.length === 1 && known[0] !== undefined) return known[0].peer_id;
  const client = await connect();
  return pick('peer', wanted, await client.list('/v1/peers', 'peers'));
}

/** The id of a peer given by id or name, as the agent knows it now. An id is taken as it is. */
export async function peerId(wanted: string, client: Client): Promise<string> {
  if (PEER_ID.test(wanted)) return wanted;
  return pick('peer', wanted, await client.list('/v1/peers', 'peers'));
}

export async function serviceId(wanted: string, client: Client): Promise<string> {
  if (SERVICE_ID.test(wanted)) return wanted;
  return pick('service', wanted, await client.list('/v1/services', 'services'));
}

/** Names of the peers by id, for people; a client that may not read peers sees ids. */
export const peerNames = (client: Client): Promise<ReadonlyMap<string, string>> => namesOf(client, 'peers');

/** Names of peers and services by id. */
export async function allNames(client: Client): Promise<ReadonlyMap<string, string>> {
  return new Map([...(await namesOf(client, 'peers')), ...(await namesOf(client, 'services'))]);
}

async function namesOf(client: Client, kind: 'peers' | 'services'): Promise<ReadonlyMap<string, string>> {
  try {
    const rows = await client.list(`/v1/${kind}`, kind);
    return new Map(rows.flatMap((row) => [[String(row['id']), String(row['name'])] as const]));
  } catch {
    return new Map();
  }
}
