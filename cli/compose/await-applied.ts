import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../events/clock.ts';
import type { Client } from '../client.ts';
import { Failure } from '../failure.ts';
import { asRow, isRow, type Row, show, textOf } from '../fields.ts';
import { type ReconcilerStatus, readStatus } from '../service-status.ts';
import type { MemberState } from './cluster-state.ts';
import { patiently } from './patience.ts';

/** Where a peer stands with the changes of a run. */
export interface PeerProgress {
  readonly peer: string;
  /** The changes have reached it. */
  readonly received: boolean;
  readonly reconcilers: readonly ReconcilerStatus[];
  /** Nothing more is waited for. */
  readonly settled: boolean;
  /** Why it is not as it should be, or what there is to know. */
  readonly note: string;
  readonly failed: boolean;
}

export interface AwaitRequest {
  readonly peers: readonly MemberState[];
  /** Ids of services that were made, changed or deleted. */
  readonly touched: readonly string[];
}

interface AwaitDeps {
  readonly client: Client;
  readonly clock: Clock;
  /** Called when something has moved. */
  readonly progress: (peers: readonly PeerProgress[]) => void;
  /** Keeps the lock alive. */
  readonly keepLease: () => Promise<unknown>;
}

/** Changes apply within a second or two; a minute is the backstop resync. */
const PATIENCE_MS = 75_000;
/** A reconciler retries by itself; one that still fails after this is reported. */
const FAILURE_MS = 10_000;
/** For a reconciler that has done its pass and yet calls a service pending, with a reason: it waits for something else. */
const REASON_MS = 3_000;
/** A peer that cannot be asked for so long is not only restarting. */
const SILENCE_MS = 20_000;
const POLL_MS = 150;

/** The part of a service that every peer has alike, as one text. */
const configOf = (row: Row): string => {
  const {
    status: _status,
    carried_by: _carriedBy,
    tunnel: _tunnel,
    interface_ipv4_cidr: _v4,
    interface_ipv6_cidr: _v6,
    ...config
  } = row;
  return JSON.stringify(config);
};

/** Waits until every peer has received the changes and each of its reconcilers has applied them. */
export async function awaitApplied(request: AwaitRequest, deps: AwaitDeps): Promise<readonly PeerProgress[]> {
  const { client, clock, progress } = deps;
  const wanted = await patiently(clock, () => services(client, undefined, request.touched));
  const began = clock.monotonic();
  const watchers = request.peers.map((member) => createWatcher(member, wanted, request.touched, deps));
  let shown = '';
  for (;;) {
    const states = await Promise.all(watchers.map((watch) => watch()));
    const text = JSON.stringify(states);
    if (text !== shown) progress(states);
    shown = text;
    const late = clock.monotonic() - began > PATIENCE_MS;
    if (late || states.every(({ settled }) => settled))
      return states.map((state) =>
        state.settled
          ? state
          : { ...state, failed: true, note: state.note || `not applied within ${PATIENCE_MS / 1_000} s` },
      );
    await deps.keepLease();
    await sleep(POLL_MS);
  }
}

/** Above this a list of all is less to ask for than one by one. */
const ONE_BY_ONE = 5;

/** The services as a member has them (undefined: the agent that is asked), by id. */
async function services(
  client: Client,
  member: MemberState | undefined,
  ids: readonly string[],
): Promise<ReadonlyMap<string, Row | undefined>> {
  const headers = member === undefined ? {} : { 'x-arctic-peer': member.id };
  if (ids.length > ONE_BY_ONE) {
    const all = new Map<string, Row>();
    let cursor: string | undefined;
    do {
      const page = asRow(
        await client.get('/v1/services', { headers, query: { limit: 500, cursor } }),
        'services list',
      );
      const rows = (Array.isArray(page['services']) ? page['services'] : []).filter(isRow);
      for (const row of rows) all.set(show(row, 'id'), row);
      cursor = textOf(page, 'next_cursor');
    } while (cursor !== undefined);
    return new Map(ids.map((id) => [id, all.get(id)]));
  }
  const rows = await Promise.all(
    ids.map(async (id) => {
      const { status, body } = await client.call('GET', `/v1/services/${id}`, { headers, accept: [404] });
      return [id, status === 404 ? undefined : asRow(body, 'services get')] as const;
    }),
  );
  return new Map(rows);
}

function createWatcher(
  member: MemberState,
  wanted: ReadonlyMap<string, Row | undefined>,
  ids: readonly string[],
  deps: AwaitDeps,
): () => Promise<PeerProgress> {
  const { client, clock } = deps;
  const headers = { 'x-arctic-peer': member.id };
  const base = {
    peer: member.name,
    received: false,
    reconcilers: [],
    settled: false,
    note: '',
    failed: false,
  };
  const since = new Map<string, number>();
  let last: PeerProgress = base;
  let synced = false;

  /** For how long a thing has been so, milliseconds. */
  const lasting = (what: string, is: boolean): number => {
    if (!is) {
      since.delete(what);
      return 0;
    }
    const start = since.get(what) ?? clock.monotonic();
    since.set(what, start);
    return clock.monotonic() - start;
  };

  /** Its API is closed to clients, so what it has received is all that can be seen, by what it tells the others. */
  const fromOutside = async (): Promise<PeerProgress> => {
    const status = asRow(await client.get('/v1/cluster/status'), 'cluster status');
    const rows = Array.isArray(status['peers']) ? status['peers'].filter(isRow) : [];
    const row = rows.find((one) => one['id'] === member.id);
    const received = row?.['lag'] === 0;
    const note = 'its API is internal: its reconcilers cannot be asked';
    return { ...base, received, settled: received, note };
  };

  const look = async (): Promise<PeerProgress> => {
    if (member.api_access === 'internal') return fromOutside();
    const own = await services(client, member, ids);
    const received = [...wanted].every(([id, row]) => {
      const here = own.get(id);
      return row === undefined ? here === undefined : here !== undefined && configOf(here) === configOf(row);
    });
    if (!received) return { ...base, note: 'waiting for gossip' };
    const live = [...own.values()].filter((row) => row !== undefined);
    // Where no service is left to ask about, a full pass says the same.
    if (live.length === 0 && !synced) {
      await client.post('/v1/cluster/sync', { headers, body: {} });
      synced = true;
    }
    const answer = asRow(await client.get('/v1/reconcilers', { headers }), 'reconcilers');
    const loops = (Array.isArray(answer['reconcilers']) ? answer['reconcilers'] : []).filter(isRow);
    const reconcilers = loops.map((loop) => stateOf(loop, live));
    const failed = reconcilers.filter(({ state }) => state === 'failed');
    const waiting = reconcilers.filter(({ state }) => state === 'pending');
    const failing = lasting('failed', failed.length > 0) > FAILURE_MS;
    const explained = waiting.length > 0 && waiting.every(({ reason }) => reason !== '');
    const passed = waiting.every(({ reconciler }) =>
      loops.some((loop) => loop['name'] === reconciler && loop['state'] === 'applied'),
    );
    const stuck = lasting('explained', failed.length === 0 && explained && passed) > REASON_MS;
    const done = failed.length === 0 && waiting.length === 0;
    return {
      peer: member.name,
      received,
      reconcilers,
      settled: done || failing || stuck,
      failed: failing,
      note: failing
        ? failed.map(({ reconciler, reason }) => `${reconciler}: ${reason}`).join('; ')
        : stuck
          ? waiting.map(({ reconciler, reason }) => `${reconciler}: ${reason}`).join('; ')
          : '',
    };
  };

  return async () => {
    if (last.settled) return last;
    try {
      last = await look();
      lasting('silent', false);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const gone = lasting('silent', true) > SILENCE_MS;
      last = { ...last, settled: gone, failed: gone, note: error.message };
    }
    return last;
  };
}

/** The worst that a reconciler says of the services, or its own state where there is none to ask about. */
function stateOf(loop: Row, live: readonly Row[]): ReconcilerStatus {
  const reconciler = show(loop, 'name');
  const own = live.flatMap((row) => readStatus(row['status']).filter((one) => one.reconciler === reconciler));
  for (const state of ['failed', 'pending']) {
    const found = own.find((one) => one.state === state);
    if (found !== undefined) return found;
  }
  const state = own.length > 0 ? 'applied' : show(loop, 'state');
  const reason = state === 'failed' ? show(loop, 'last_error') : '';
  return { reconciler, state, reason };
}
