import { readFileSync, rmSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../events/clock.ts';
import type { Client } from '../client.ts';
import { writeOwnFile } from '../config-file.ts';
import { errorCode, Failure, Refusal } from '../failure.ts';
import { asRow, isRow, type Row, show, textOf } from '../fields.ts';
import type { MemberState } from './cluster-state.ts';

/** The cluster lock as a run holds it: a lease with a fencing number that every change carries. */
export interface Lease {
  /** Renews the lease when half of it is gone; the headers a change has to carry now. */
  headers(): Promise<Readonly<Record<string, string>>>;
  /** Renews it now, or takes it anew where a merge with another cluster has made its number history. */
  renew(): Promise<void>;
  fence(): number;
  release(): Promise<void>;
}

/** Longer than the longest single request (a handshake with its tries), so that no change outlives its lease. */
const LEASE_SECONDS = 120;
const RENEW_AT_MS = 60_000;
/** How long the other members may take to show the lock: a push by gossip, or a heartbeat where that is lost. */
const SPREAD_MS = 6_000;
const SPREAD_PAUSE_MS = 50;

interface LeaseDeps {
  readonly client: Client;
  readonly clock: Clock;
  readonly configPath: string;
  readonly note: (text: string) => void;
}

export interface LeaseRequest {
  readonly runId: string;
  /** `compose apply cluster.yaml`. */
  readonly purpose: string;
  /** Who has to know of the lock before it counts. */
  readonly members: readonly MemberState[];
}

const leaseOf = (answer: unknown): Row | undefined => {
  const lock = isRow(answer) ? answer['lock'] : undefined;
  return isRow(lock) ? lock : undefined;
};

const operator = (): string => {
  try {
    return userInfo().username;
  } catch {
    // No entry in the password database, as in some containers.
    return `uid ${process.getuid?.() ?? '?'}`;
  }
};

/**
 * Takes the cluster lock, for this run alone: two operators who ask different agents at the same moment may both be granted
 * one, so it counts only when every member that can be asked shows this run as its holder.
 * @throws Refusal CLUSTER_LOCKED naming the holder
 */
export async function takeLease(request: LeaseRequest, deps: LeaseDeps): Promise<Lease> {
  const { client, clock } = deps;
  const { runId } = request;
  const record = recordOf(deps.configPath);
  const body = {
    holder: `${operator()}@${hostname()}`,
    purpose: `${request.purpose}, run ${runId}`.slice(0, 200),
    ttl_seconds: LEASE_SECONDS,
  };
  const headers = { 'x-request-id': runId };
  const acquire = async (fence: number | undefined) => {
    const answer = asRow(
      await client.post('/v1/cluster/lock', {
        body,
        headers: { ...headers, ...(fence === undefined ? {} : { 'x-arctic-fence': String(fence) }) },
      }),
      'cluster lock',
    );
    return Number(leaseOf(answer)?.['fence']);
  };

  record.write({ run: runId, pid: process.pid, host: hostname() });
  let fence: number;
  let since = clock.monotonic();
  try {
    fence = await acquire(undefined).catch(async (error: unknown) => {
      if (!(error instanceof Refusal) || error.code !== 'CLUSTER_LOCKED') throw error;
      if (!(await breakOwn(deps, record))) throw error;
      return acquire(undefined);
    });
  } catch (error) {
    record.remove(runId);
    throw error;
  }

  const renew = async () => {
    const at = clock.monotonic();
    fence = await acquire(fence);
    since = at;
  };
  const lease: Lease = {
    renew,
    async headers() {
      if (clock.monotonic() - since > RENEW_AT_MS) await renew();
      return { ...headers, 'x-arctic-fence': String(fence) };
    },
    fence: () => fence,
    async release() {
      // Gone is what is wanted: the answer to the first try may have been lost.
      await client.call('DELETE', '/v1/cluster/lock', {
        headers: { ...headers, 'x-arctic-fence': String(fence) },
        accept: [404],
      });
      record.remove(runId);
    },
  };
  try {
    await confirm(request, deps);
  } catch (error) {
    await lease.release().catch(() => undefined);
    throw error;
  }
  return lease;
}

/** Waits until every member that answers shows this run's lock. */
async function confirm({ runId, members }: LeaseRequest, { client, clock }: LeaseDeps): Promise<void> {
  const limit = clock.monotonic() + SPREAD_MS;
  const others = members.filter(
    (member) => !member.is_local && !member.unreachable && member.api_access === 'open',
  );
  let open: readonly (MemberState | undefined)[] = [undefined, ...others];
  for (;;) {
    const seen = await Promise.all(
      open.map(async (member) => [member, await lockAt(client, member)] as const),
    );
    // This host's own view settles who won; another's may just be behind.
    const own = seen.find(([member]) => member === undefined)?.[1];
    if (own !== undefined && !isOurs(own, runId)) throw lockedBy(own);
    const late = clock.monotonic() > limit;
    const foreign = seen.find(([, lock]) => lock !== undefined && !isOurs(lock, runId))?.[1];
    if (late && foreign !== undefined) throw lockedBy(foreign);
    open = [
      undefined,
      ...seen.flatMap(([member, lock]) =>
        member === undefined || (lock !== undefined && isOurs(lock, runId)) ? [] : [member],
      ),
    ];
    if (open.length === 1 || late) return;
    await sleep(SPREAD_PAUSE_MS);
  }
}

const isOurs = (lock: Row, runId: string): boolean => show(lock, 'purpose').endsWith(runId);

/** The lock as a member has it; undefined where it has none yet or cannot be asked. */
async function lockAt(client: Client, member: MemberState | undefined): Promise<Row | undefined> {
  const headers = member === undefined ? {} : { 'x-arctic-peer': member.id };
  try {
    return leaseOf(await client.get('/v1/cluster/lock', { headers }));
  } catch (error) {
    if (member !== undefined && error instanceof Failure) return undefined;
    throw error;
  }
}

const lockedBy = (lock: Row): Refusal =>
  new Refusal(
    409,
    'CLUSTER_LOCKED',
    `the cluster is locked by ${show(lock, 'holder')} (${show(lock, 'purpose')}) until ${show(lock, 'expires_at')}; ` +
      'try again then, or free it with: arctic cluster unlock',
  );

interface RunRecord {
  readonly run: string;
  readonly pid: number;
  readonly host: string;
}

/** Beside the configuration: which runs of this operator may have left a lock behind. */
function recordOf(configPath: string) {
  const path = join(dirname(configPath), 'compose-runs.json');
  const read = (): readonly RunRecord[] => {
    try {
      const content: unknown = JSON.parse(readFileSync(path, 'utf8'));
      return (Array.isArray(content) ? content.filter(isRow) : []).flatMap((row) => {
        const run = textOf(row, 'run');
        return run === undefined ? [] : [{ run, pid: Number(row['pid']), host: show(row, 'host') }];
      });
    } catch {
      return [];
    }
  };
  const save = (runs: readonly RunRecord[]) => {
    try {
      writeOwnFile(path, `${JSON.stringify(runs)}\n`);
    } catch {
      // Only comfort is lost: a lock left behind has to be waited for.
    }
  };
  return {
    read,
    write: (run: RunRecord) => save([...read(), run].slice(-20)),
    remove(id: string) {
      const left = read().filter(({ run }) => run !== id);
      if (left.length > 0) return save(left);
      try {
        rmSync(path, { force: true });
      } catch {
        // As above.
      }
    },
  };
}

/** Whether a run of this host still runs; of other hosts nobody can tell. */
function isAlive({ pid, host }: RunRecord): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === 'EPERM';
  }
}

/** The same for a command that finds nothing left to do. A lock that cannot be looked at ends by itself. */
export async function freeOwnLock(deps: LeaseDeps): Promise<void> {
  await breakOwn(deps, recordOf(deps.configPath)).catch(() => false);
}

/** Frees the lock where a run of this operator left it that is dead; a change it sent late is refused by its fence. */
async function breakOwn({ client, note }: LeaseDeps, record: ReturnType<typeof recordOf>): Promise<boolean> {
  const lock = await lockAt(client, undefined);
  const left = lock && record.read().find((one) => isOurs(lock, one.run) && !isAlive(one));
  if (lock === undefined || left === undefined) return false;
  note(`Note: the lock of your earlier run (pid ${left.pid}, which ended early) is taken over.`);
  await client.delete('/v1/cluster/lock');
  return true;
}
