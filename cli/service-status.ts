import { isRow, show } from './fields.ts';
import type { Style } from './style.ts';

export interface ReconcilerStatus {
  readonly reconciler: string;
  /** `applied`, `pending` or `failed`. */
  readonly state: string;
  readonly reason: string;
}

/** In the order in which a packet meets them. */
const ORDER = ['network', 'firewall', 'tproxy', 'iptun'];

/** `status` of a service, one entry a reconciler. */
export function readStatus(value: unknown): readonly ReconcilerStatus[] {
  if (!isRow(value)) return [];
  const rank = (name: string) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return Object.entries(value)
    .map(([reconciler, entry]) => {
      if (!isRow(entry)) return { reconciler, state: '-', reason: '' };
      const state = show(entry, 'state');
      const reason = show(entry, 'reason');
      return { reconciler, state, reason: reason === '-' ? '' : reason };
    })
    .sort((a, b) => rank(a.reconciler) - rank(b.reconciler));
}

/** The worst of them: one that failed outweighs one that waits. */
export function overallStatus(status: readonly ReconcilerStatus[]): string {
  const states = status.map((one) => one.state);
  return ['failed', 'pending', 'applied'].find((state) => states.includes(state)) ?? states[0] ?? '-';
}

export const paintStatus = (state: string, style: Style): string => {
  if (state === 'applied') return style.green(state);
  return state === 'pending' ? style.yellow(state) : style.red(state);
};
