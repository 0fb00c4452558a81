import { usageFailure } from './failure.ts';

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds of `500ms`, `30s`, `2m`, `1h`, `90d` or a plain number of seconds; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text.trim());
  if (match === null) return undefined;
  return Math.round(Number(match[1]) * (UNITS[match[2] ?? 's'] ?? 1_000));
}

/** Longest wait for a request. Node's timers end at 2^31 - 1 ms. @throws Failure (usage) */
export function parseTimeout(text: string, name: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms < 1 || ms > 2_147_483_647)
    throw usageFailure(`${name} must be a time such as 500ms, 30s or 2m, not '${text}'.`);
  return ms;
}

/** `12s`, `4m`, `3h`, `2d`: how long ago, for people. */
export function ago(then: string | null | undefined, now: number): string {
  if (then === null || then === undefined || then === '') return 'never';
  const seconds = Math.floor((now - Date.parse(then)) / 1_000);
  if (!Number.isFinite(seconds)) return then;
  if (seconds < 1) return 'now';
  if (seconds < 60) return `${seconds}s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h ago`;
  return `${Math.floor(seconds / 86_400)}d ago`;
}
