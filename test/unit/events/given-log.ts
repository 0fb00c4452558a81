import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PeerId } from '../../../events/brand.ts';
import type { Clock, Random } from '../../../events/clock.ts';
import { createSigner } from '../../../events/ed25519.ts';
import type { AnyEvent, AnyNewEvent } from '../../../events/envelope.ts';
import { type LogDeps, openLog } from '../../../events/log.ts';
import type { AppendContext, Log } from '../../../events/log-contract.ts';
import type { Scope } from '../../../events/verify.ts';

/** What the tests of the log share: a directory that goes away, a clock that is set by hand, repeatable randomness. */
interface Teardown {
  teardown(run: () => void): void;
}

export function temporaryDirectory(t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-log-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface SetClock extends Clock {
  set(ms: number): void;
  advance(ms: number): void;
}

export function setClock(start = Date.UTC(2026, 0, 1)): SetClock {
  let now = start;
  return {
    now: () => now,
    monotonic: () => now,
    after: () => () => {},
    set: (ms) => {
      now = ms;
    },
    advance: (ms) => {
      now += ms;
    },
  };
}

/** xorshift32: repeatable, and not for anything else. */
export function seededRandom(seed: number): Random {
  let state = seed | 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  return {
    bytes: (count) => Uint8Array.from({ length: count }, () => next() & 0xff),
    fraction: () => next() / 2 ** 32,
  };
}

export const seedOf = (n: number): Uint8Array => new Uint8Array(32).fill(n);

export interface HostOptions {
  readonly path: string;
  readonly n?: number;
  readonly clock?: Clock;
  readonly verify?: Scope;
  readonly origin?: PeerId;
  readonly onError?: (error: unknown) => void;
  readonly connect?: LogDeps['connect'];
}

/** A log as host number `n` would open it. */
export const openHost = ({
  path,
  n = 1,
  clock = setClock(),
  verify,
  origin,
  onError,
  connect,
}: HostOptions): Log =>
  openLog(
    { path, ...(origin === undefined ? {} : { origin }), ...(verify === undefined ? {} : { verify }) },
    {
      signer: createSigner(seedOf(n)),
      clock,
      random: seededRandom(n * 7919),
      ...(connect === undefined ? {} : { connect }),
      onError:
        onError ??
        ((error) => {
          throw error;
        }),
    },
  );

export const keyOf = (n: number): Uint8Array => createSigner(seedOf(n)).publicKey;

export const operator: AppendContext = {
  actor: { kind: 'client', id: 'cli_01JD0000000000000000000000', address: '192.0.2.7' },
  correlationId: 'cor_01JD0000000000000000000000',
};

const SERVICE = 'svc_01JD0000000000000000000000';

export const routeAdded = (number: number): AnyNewEvent => ({
  type: 'route.added',
  entity: `rte_${String(number).padStart(26, '0')}`,
  data: {
    service_id: SERVICE as never,
    number,
    priority: 100,
    source_cidr: `10.${(number >> 8) & 255}.${number & 255}.0/24`,
    dest_cidr: '192.168.100.0/24',
  },
});

export const routeUpdated = (number: number, priority: number): AnyNewEvent => ({
  type: 'route.updated',
  entity: `rte_${String(number).padStart(26, '0')}`,
  data: { service_id: SERVICE as never, priority },
});

export const agentStarted: AnyNewEvent = {
  type: 'agent.started',
  entity: 'agent',
  data: { version: '1.4.0', node: 'v20.20.2', kernel: '6.1.0' },
};

export const agentStopped = (reason: string): AnyNewEvent => ({
  type: 'agent.stopped',
  entity: 'agent',
  data: { reason },
});

/** As a peer gets them: through JSON. */
export const overTheWire = (events: readonly AnyEvent[]): AnyEvent[] => JSON.parse(JSON.stringify(events));
