import type { Position, ServiceId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import type {
  Difference,
  DriftReport,
  ReconcilerName,
  ReconcilerStatus,
  ServiceReconcileStatus,
} from './contract.ts';
import { Fights } from './fights.ts';
import type { Passable, Problem } from './pass.ts';

/** What a loop writes its lines to; a pino child with `reconciler=<name>` is one. */
export interface LoopLogger {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface LoopOptions {
  /** Milliseconds between passes that observe everything, when nothing else asks for one. */
  readonly resyncMs: number;
  /** Report what differs, and apply nothing. Default false. */
  readonly observeOnly?: boolean;
}

export interface LoopDeps {
  readonly clock: Clock;
  readonly random: Pick<Random, 'fraction'>;
  readonly logger: LoopLogger;
  /** Undefined when nothing may be applied yet, with the reason. */
  readonly waitingFor: () => string | undefined;
  readonly position: () => Position;
  /** SHA-256 of what is desired now. */
  readonly digest: () => string;
  readonly record: (events: readonly AnyNewEvent[]) => void;
}

/** Who made a foreign change, where the kernel tells. */
export interface Culprit {
  readonly pid: number | undefined;
  readonly program: string | undefined;
}

type PassScope = 'change' | 'notice' | 'full';
const STRENGTH: Readonly<Record<PassScope, number>> = { change: 0, notice: 1, full: 2 };

/** First retry after a failure; doubles up to the longest, each jittered by half so that hosts do not retry in step. */
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 60_000;
/** Attempts within one pass when another program committed between observing and applying. */
const STALE_ATTEMPTS = 10;
/** Foreign changes that turn out not to concern us (a routing daemon at work) may cost a fifth of the time at most. */
const IDLE_SHARE = 4;
/** Limits of the events' schema. */
const MOST_DIFFERENCES = 50;
const LONGEST_REASON = 2_000;
const LONGEST_ITEM = 300;
const LONGEST_VALUE = 1_000;

/** Runs one reconciler: wakes, coalesces, retries, resyncs, and reports transitions. */
export class ReconcileLoop {
  readonly name: ReconcilerName;
  readonly #passable: Passable;
  readonly #options: LoopOptions;
  readonly #deps: LoopDeps;
  #running = false;
  #stopped = true;
  /** What the next pass has to look at. */
  #scope: PassScope = 'full';
  #observedAt = Number.NEGATIVE_INFINITY;
  /** One pass or observation at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  /** A pass will run as soon as the present tick's work is done. */
  #queued = false;
  #timer: { readonly due: number; readonly cancel: () => void } | undefined;
  #dirty = true;
  #failures = 0;
  #state: ReconcilerStatus['state'] = 'pending';
  #lastRun: string | null = null;
  #lastError: string | null = null;
  #recordedFailure: string | null = null;
  #applied: { readonly digest: string; readonly position: Position } | undefined;
  /** The last pass ended with everything in place but the problems. */
  #settled = false;
  #problems: ReadonlyMap<ServiceId, string> = new Map();
  /** How long the last pass took that found nothing to do; 0 when it found something. */
  #idlePassMs = 0;
  #culprit: Culprit | undefined;
  readonly #fights = new Fights();
  /** What was last reported without being repaired. */
  #reported = '';

  constructor(passable: Passable, options: LoopOptions, deps: LoopDeps) {
    this.name = passable.name;
    this.#passable = passable;
    this.#options = options;
    this.#deps = deps;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.wake(0);
  }

  /** Ends timers and waits for a pass under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#turn.catch(() => undefined);
  }

  /** What is desired may have changed: a pass within `afterMs`, together with whatever else wakes until then. */
  wake(afterMs: number): void {
    this.#dirty = true;
    this.#schedule(afterMs, 'change');
  }

  /** Somebody else changed what we look after; `lost`: it is not known what. */
  wakeForForeignChange(culprit: Culprit, afterMs: number, lost = false): void {
    if (culprit.program !== undefined || this.#culprit === undefined) this.#culprit = culprit;
    const delay = this.#fights.delayMs(this.#deps.clock.monotonic());
    this.#schedule(Math.max(afterMs, delay, this.#idlePassMs * IDLE_SHARE), lost ? 'full' : 'notice');
  }

  /** A pass over everything now, whatever the retry timer says; resolves when it ran. */
  passNow(): Promise<void> {
    this.#scope = 'full';
    return this.#inTurn(() => this.#pass());
  }

  /** What differs, without touching it. */
  async drift(): Promise<DriftReport> {
    const { differences } = await this.#inTurn(() => this.#passable.prepare(() => undefined));
    const fought = this.#fights.item(this.#deps.clock.monotonic()) !== undefined;
    return { reconciler: this.name, differences, repair_at: fought ? this.#nextRun() : null };
  }

  async cleanup(scope: 'shutdown' | 'all'): Promise<void> {
    if (this.#options.observeOnly === true && scope === 'shutdown') return;
    return this.#inTurn(() => this.#passable.cleanup(scope));
  }

  status(): ReconcilerStatus {
    return {
      name: this.name,
      state: this.#state,
      last_run_at: this.#lastRun,
      last_error: this.#lastError,
      next_run_at: this.#nextRun(),
      applied_digest: this.#applied?.digest ?? null,
      applied_position: this.#applied?.position ?? null,
      consecutive_failures: this.#failures,
      condition: this.#condition(),
    };
  }

  #nextRun(): string | null {
    const { clock } = this.#deps;
    return this.#timer
      ? new Date(clock.now() + Math.max(0, this.#timer.due - clock.monotonic())).toISOString()
      : null;
  }

  serviceStatus(service: ServiceId): ServiceReconcileStatus {
    const own = this.#passable.serviceStatus(service);
    if (own) return own;
    const problem = this.#problems.get(service);
    if (problem !== undefined) return { state: 'failed', reason: problem };
    if (this.#state === 'failed' && this.#problems.size === 0)
      return { state: 'failed', reason: this.#lastError };
    if (this.#dirty || this.#running || this.#state === 'pending')
      return { state: 'pending', reason: this.#deps.waitingFor() ?? this.#condition() };
    return { state: 'applied', reason: null };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  #schedule(afterMs: number, scope: PassScope): void {
    if (this.#stopped) return;
    if (STRENGTH[scope] > STRENGTH[this.#scope]) this.#scope = scope;
    this.#arm(afterMs);
  }

  #arm(afterMs: number): void {
    if (afterMs <= 0) {
      this.#timer?.cancel();
      this.#timer = undefined;
      if (this.#queued) return;
      this.#queued = true;
      // The tick's other changes join in; a timer would cost a millisecond.
      void this.#inTurn(() => {
        this.#queued = false;
        return this.#pass();
      });
      return;
    }
    const due = this.#deps.clock.monotonic() + afterMs;
    if (this.#timer) {
      if (this.#timer.due <= due) return;
      this.#timer.cancel();
    }
    const cancel = this.#deps.clock.after(afterMs, () => {
      this.#timer = undefined;
      if (!this.#stopped) void this.#inTurn(() => this.#pass());
    });
    this.#timer = { due, cancel };
  }

  /** Never rejects: a failure is a state and a retry. */
  async #pass(): Promise<void> {
    if (this.#stopped) return;
    if (this.#deps.waitingFor() !== undefined) {
      this.#arm(this.#options.resyncMs);
      return;
    }
    this.#running = true;
    this.#lastRun = new Date(this.#deps.clock.now()).toISOString();
    const culprit = this.#culprit;
    this.#culprit = undefined;
    const started = this.#deps.clock.monotonic();
    try {
      const changes = await this.#attempt(culprit);
      this.#idlePassMs = changes === 0 ? this.#deps.clock.monotonic() - started : 0;
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error), error);
    } finally {
      this.#running = false;
    }
  }

  /** Observes and applies; answers how many differences there were. */
  async #attempt(culprit: Culprit | undefined): Promise<number> {
    const { clock } = this.#deps;
    const isDue = clock.monotonic() - this.#observedAt >= this.#options.resyncMs;
    let scope: PassScope = isDue ? 'full' : this.#scope;
    this.#scope = 'change';
    for (let attempt = 1; ; attempt += 1) {
      let digest = '';
      let position = this.#deps.position();
      const prepared = await this.#passable.prepare(() => {
        this.#dirty = false;
        digest = this.#deps.digest();
        position = this.#deps.position();
      }, scope);
      if (prepared.observed) this.#observedAt = clock.monotonic();
      const { differences, problems } = prepared;
      if (this.#options.observeOnly === true) {
        this.#report(differences, culprit);
        return differences.length;
      }
      const drifted = this.#isDrift(digest, differences, problems);
      if (drifted && attempt === 1) this.#recordDrift(differences, culprit);
      if (differences.length > 0) {
        try {
          await prepared.apply();
        } catch (error) {
          scope = 'full';
          if (isStale(error) && attempt < STALE_ATTEMPTS && !this.#stopped) continue;
          throw error;
        }
      }
      this.#succeed({ digest, position, differences, problems, drifted });
      return differences.length;
    }
  }

  /** The same was desired and in place before, so what differs now was changed from outside. */
  #isDrift(digest: string, differences: readonly Difference[], problems: readonly Problem[]): boolean {
    if (!this.#settled || this.#applied?.digest !== digest) return false;
    // What could not be done before and can be now (a parent interface came back) is no drift, nor what a problem brings.
    const hindered = new Set([...this.#problems.keys(), ...problems.map(({ service_id }) => service_id)]);
    return differences.some(({ service_id }) => service_id === undefined || !hindered.has(service_id));
  }

  #succeed(pass: {
    readonly digest: string;
    readonly position: Position;
    readonly differences: readonly Difference[];
    readonly problems: readonly Problem[];
    readonly drifted: boolean;
  }): void {
    const { digest, position, differences, problems, drifted } = pass;
    const { logger, record } = this.#deps;
    this.#settled = true;
    this.#problems = new Map(problems.map((problem) => [problem.service_id, problem.reason]));
    if (drifted) {
      this.#noteRepairs(differences);
      const total = differences.length;
      record([this.#event('drift.repaired', { reconciler: this.name, digest, total })]);
      logger.info({ repaired: total, digest }, 'drift repaired');
    }
    // Also a pass that had nothing to do leaves the digest of what is desired now, so that `drift --at` can compare.
    const news = this.#applied?.digest !== digest;
    const recovered = this.#state === 'failed' && problems.length === 0;
    this.#applied = { digest, position };
    if (differences.length > 0 || news || recovered) {
      const changes = differences.length;
      record([this.#event('reconcile.applied', { reconciler: this.name, digest, position, changes })]);
      logger.info({ changes, position, digest }, 'applied');
    }
    if (problems.length > 0) {
      this.#fail(problems.map((problem) => `${problem.service_id}: ${problem.reason}`).join('; '));
      return;
    }
    this.#state = 'applied';
    this.#lastError = null;
    this.#recordedFailure = null;
    this.#failures = 0;
    this.#arm(this.#options.resyncMs);
  }

  #fail(reason: string, error?: unknown): void {
    const { logger, record, clock, random } = this.#deps;
    this.#failures += 1;
    this.#state = 'failed';
    this.#lastError = reason;
    if (error !== undefined) {
      this.#settled = false;
      this.#problems = new Map();
    }
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.#failures - 1, 20));
    const retryMs = Math.round(longest * (0.5 + random.fraction() / 2));
    if (reason !== this.#recordedFailure) {
      this.#recordedFailure = reason;
      record([
        this.#event('reconcile.failed', {
          reconciler: this.name,
          reason: reason.slice(0, LONGEST_REASON),
          position: this.#deps.position(),
        }),
      ]);
      logger.error({ retry_ms: retryMs, failures: this.#failures, reason }, 'failed');
    } else logger.debug({ retry_ms: retryMs, failures: this.#failures, at: clock.now() }, 'failed again');
    this.#schedule(retryMs, 'full');
  }

  #recordDrift(differences: readonly Difference[], culprit: Culprit | undefined): void {
    const { logger, record } = this.#deps;
    const shown = differences.slice(0, MOST_DIFFERENCES).map(({ item, desired, observed }) => ({
      item: item.slice(0, LONGEST_ITEM),
      desired: desired?.slice(0, LONGEST_VALUE) ?? null,
      observed: observed?.slice(0, LONGEST_VALUE) ?? null,
    }));
    record([
      this.#event('drift.found', {
        reconciler: this.name,
        differences: shown,
        total: differences.length,
        pid: culprit?.pid ?? null,
        program: culprit?.program?.slice(0, 64) ?? null,
      }),
    ]);
    const [first] = shown;
    logger.warn(
      {
        total: differences.length,
        ...(first ? { item: first.item, desired: first.desired, observed: first.observed } : {}),
        ...(culprit?.pid === undefined ? {} : { pid: culprit.pid, program: culprit.program }),
      },
      'drift found',
    );
  }

  #noteRepairs(differences: readonly Difference[]): void {
    const now = this.#deps.clock.monotonic();
    const began = this.#fights.repaired(
      differences.map(({ item }) => item),
      now,
    );
    if (began !== undefined)
      this.#deps.logger.error(
        { item: began, delay_ms: this.#fights.delayMs(now) },
        'another program keeps changing this back; repairs slow down',
      );
  }

  /** What is wrong beside failing: undefined while nothing is. */
  #condition(): string | null {
    if (this.#options.observeOnly === true) return 'observe only: nothing is applied';
    const item = this.#fights.item(this.#deps.clock.monotonic());
    return item === undefined ? null : `another program keeps changing ${item} back; repairs are slowed down`;
  }

  /** Says what differs, once for each state of affairs. */
  #report(differences: readonly Difference[], culprit: Culprit | undefined): void {
    this.#state = differences.length === 0 ? 'applied' : 'pending';
    this.#lastError = null;
    const seen = JSON.stringify(differences.slice(0, MOST_DIFFERENCES));
    if (seen !== this.#reported && differences.length > 0) this.#recordDrift(differences, culprit);
    this.#reported = seen;
    this.#arm(this.#options.resyncMs);
  }

  #event<T extends 'reconcile.applied' | 'reconcile.failed' | 'drift.found' | 'drift.repaired'>(
    type: T,
    data: Extract<AnyNewEvent, { type: T }>['data'],
  ): AnyNewEvent {
    return { type, entity: `reconciler:${this.name}`, data } as AnyNewEvent;
  }
}

/** Another program's commit came between observing and applying: look again, nothing is wrong. */
const isStale = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ESTALE';
