import type { Finding } from '../../src/health/contract.ts';
import type { AgentFacts, Facts, PeerFacts, ServiceFacts } from '../../src/health/facts.ts';
import type { Client } from '../client.ts';
import { closedPortsOf } from '../closed-ports.ts';
import type { Context } from '../context.ts';
import { toFailure } from '../failure.ts';
import { isRow, type Row, show, textOf } from '../fields.ts';
import { readStatus } from '../service-status.ts';
import { type PeerPorts, type Tried, tryPeers } from './peer-facts.ts';

export interface Asked {
  readonly facts: Partial<Facts>;
  /** What could not be asked, and why. */
  readonly gaps: readonly string[];
  /** Conditions the agent itself reports, for those the facts here do not cover. */
  readonly reported: readonly Finding[];
}

const rowsOf = (row: Row | undefined, field: string): readonly Row[] =>
  Array.isArray(row?.[field]) ? row[field].filter(isRow) : [];
const numberOf = (row: Row, field: string): number => (typeof row[field] === 'number' ? row[field] : 0);

/** Whether the agent answers at all: /livez, then /readyz. */
export async function askReadiness(client: Client, url: string): Promise<AgentFacts> {
  try {
    await client.get('/livez', { open: true });
    const { body } = await client.call('GET', '/readyz', { open: true, accept: [503] });
    const check = (name: string) =>
      rowsOf(isRow(body) ? body : undefined, 'checks').find((one) => one['name'] === name);
    const bootstrap = check('bootstrap');
    return {
      url,
      silence: undefined,
      caughtUp: check('projections')?.['ok'] !== false,
      bootstrapped: bootstrap?.['ok'] === true,
      ...(bootstrap?.['ok'] === true ? { clusterId: show(bootstrap, 'detail') } : {}),
    };
  } catch (error) {
    const { message } = toFailure(error);
    return { url, silence: /: ([^:]+?)\. Check/.exec(message)?.[1] ?? message.replace(/\.$/, '') };
  }
}

const isFinding = (row: Row): boolean =>
  typeof row['code'] === 'string' && typeof row['text'] === 'string' && typeof row['remedy'] === 'string';

/** Peers of a service that are no members any more. */
const goneEnds = (service: Row, status: Row): ServiceFacts['gone'] =>
  rowsOf(status, 'peers').flatMap((peer) => {
    const state = peer['state'];
    const ends = [service['source_peer_id'], service['target_peer_id']].includes(peer['id']);
    return ends && (state === 'left' || state === 'removed') ? [{ name: show(peer, 'name'), state }] : [];
  });

/** Asks a bootstrapped agent for what it knows, each part by itself: one that is refused leaves the others. */
export async function askAgent(
  context: Context,
  client: Client,
  agent: AgentFacts,
  ports: PeerPorts,
): Promise<Asked> {
  const gaps: string[] = [];
  const ask = async (what: string, path: string): Promise<Row | undefined> => {
    try {
      const answer = await client.get(path);
      return isRow(answer) ? answer : undefined;
    } catch (error) {
      gaps.push(`${what}: ${toFailure(error).message}`);
      return undefined;
    }
  };
  const status = await ask('peers, clock and lock', '/v1/cluster/status');
  if (status === undefined) return { facts: { agent }, gaps, reported: [] };
  const [license, services, reconcilers, drift] = await Promise.all([
    ask('license', '/v1/license'),
    ask('services', '/v1/services?limit=500'),
    ask('reconcilers', '/v1/reconcilers'),
    ask('drift', '/v1/drift'),
  ]);
  const self = textOf(status, 'peer_id');
  const remote = rowsOf(status, 'peers').filter(
    (row) => row['is_local'] !== true && row['state'] !== 'left' && row['state'] !== 'removed',
  );
  const tried = await tryPeers(
    context,
    remote.map((row) => {
      const [first] = Array.isArray(row['endpoints']) ? row['endpoints'].map(String) : [];
      const address = show(row, 'address');
      return { address, base: first !== undefined && URL.canParse(first) ? first : `http://${address}` };
    }),
    ports,
  );
  const lock = status['lock'];
  // A tunnel's port is open only while there is a tunnel: without a service that carries something between the two, a refusal means nothing.
  const served = new Set(
    rowsOf(services, 'services')
      .filter((row) => numberOf(row, 'route_count') > 0)
      .map((row) => [show(row, 'source_peer_id'), show(row, 'target_peer_id')])
      .filter((ends) => ends.includes(self ?? ''))
      .flat(),
  );
  const peers = remote.map(
    (row, at): PeerFacts => ({
      id: show(row, 'id'),
      name: show(row, 'name'),
      address: show(row, 'address'),
      state: show(row, 'state'),
      reason: textOf(row, 'reason') ?? null,
      ...(typeof row['forked_at'] === 'number' ? { forkedAt: row['forked_at'] } : {}),
      closedPorts: closedPortsOf(row),
      lag: numberOf(row, 'lag'),
      clockSkewMs:
        tried[at]?.clockSkewMs ?? (typeof row['clock_skew_ms'] === 'number' ? row['clock_skew_ms'] : null),
      ...(typeof row['changes_held_until'] === 'string'
        ? { changesHeldUntil: row['changes_held_until'] }
        : {}),
      version: textOf(row, 'agent_version') ?? null,
      ...triedOf(tried[at], served.has(show(row, 'id'))),
    }),
  );
  const version = textOf(status, 'version');
  const facts: Partial<Facts> = {
    agent: { ...agent, ...(version === undefined ? {} : { version }), cliVersion: context.version },
    peers,
    lock: isRow(lock)
      ? { holder: show(lock, 'holder'), purpose: show(lock, 'purpose'), expiresAt: show(lock, 'expires_at') }
      : null,
    ...(license === undefined
      ? {}
      : {
          license: {
            licenseId: show(license, 'license_id'),
            state: show(license, 'state'),
            expiresAt: show(license, 'expires_at'),
            maxNodes: numberOf(license, 'max_nodes'),
            maxServices: numberOf(license, 'max_services'),
            nodes: numberOf(license, 'nodes'),
            services: numberOf(license, 'services'),
          },
        }),
    ...(services === undefined
      ? {}
      : {
          services: rowsOf(services, 'services').map((row) => ({
            id: show(row, 'id'),
            name: show(row, 'name'),
            fromHere: row['source_peer_id'] === self,
            routes: numberOf(row, 'route_count'),
            requiresInterface: row['requires_interface'] === true,
            limitMbps: numberOf(row, 'bandwidth_limit_mbps'),
            failed: readStatus(row['status'])
              .filter(({ state }) => state === 'failed')
              .map(({ reconciler, reason }) => ({ reconciler, reason: reason || 'no reason given' })),
            gone: goneEnds(row, status),
            tunnel: readStatus(row['status']).find(({ reconciler }) => reconciler === 'iptun')?.reason,
          })),
        }),
    ...(reconcilers === undefined
      ? {}
      : {
          reconcilers: rowsOf(reconcilers, 'reconcilers').map((row) => ({
            name: show(row, 'name'),
            state: show(row, 'state'),
            error: textOf(row, 'last_error') ?? null,
            failures: numberOf(row, 'consecutive_failures'),
            condition: textOf(row, 'condition') ?? null,
          })),
        }),
    ...(drift === undefined
      ? {}
      : {
          drift: rowsOf(drift, 'reconcilers').map((row) => ({
            reconciler: show(row, 'reconciler'),
            items: rowsOf(row, 'differences').map((one) => show(one, 'item')),
          })),
        }),
  };
  return { facts, gaps, reported: rowsOf(status, 'conditions').filter(isFinding).map(asFinding) };
}

/** Without what a closed tunnel port would say where nothing has to be open. */
export const triedOf = (one: Tried | undefined, served: boolean): Pick<PeerFacts, 'tried'> =>
  one === undefined ? {} : { tried: served ? one.tried : { ...one.tried, tunnel: undefined } };

const asFinding = (row: Row): Finding => ({
  code: show(row, 'code'),
  severity: row['severity'] === 'critical' ? 'critical' : row['severity'] === 'warning' ? 'warning' : 'info',
  area: show(row, 'area') as Finding['area'],
  symptoms: [],
  text: show(row, 'text'),
  remedy: show(row, 'remedy'),
  ...(textOf(row, 'subject') === undefined ? {} : { subject: show(row, 'subject') }),
});
