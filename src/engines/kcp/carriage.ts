/** Over what a service's flows travel now, and why: what `services get` says. */
import type { Choice, PathMeasure } from './choose.ts';

export type TransportSetting = 'tcp' | 'kcp' | 'auto';

export interface Carriage {
  readonly transport: 'tcp' | 'kcp';
  readonly reason: string;
  /** Of the path as KCP measures it; null where nothing has been measured. */
  readonly roundTripMs: number | null;
  readonly loss: number | null;
}

const WAITING: Readonly<Record<Exclude<PathMeasure['state'], 'up'>, string>> = {
  trying: 'the peer has not answered over UDP yet',
  unreachable: 'the peer does not answer over UDP',
  unsupported: 'this host has no KCP',
};

/** `path` is undefined where no KCP association is kept; `choice` only matters for `auto`. */
export function carriageOf(
  setting: TransportSetting,
  path: PathMeasure | undefined,
  choice: Choice | undefined,
): Carriage {
  const up = path !== undefined && path.state === 'up';
  const measured = {
    roundTripMs: up ? path.roundTripMs : null,
    loss: up ? path.loss : null,
  };
  if (setting === 'tcp') return { transport: 'tcp', reason: 'transport_type is tcp', ...measured };
  if (path === undefined || path.state !== 'up') {
    return {
      transport: 'tcp',
      reason: WAITING[path?.state === 'up' ? 'trying' : (path?.state ?? 'trying')],
      ...measured,
    };
  }
  if (setting === 'kcp') return { transport: 'kcp', reason: 'transport_type is kcp', ...measured };
  return {
    transport: choice?.transport ?? 'tcp',
    reason: choice?.reason ?? 'the path is being measured',
    ...measured,
  };
}
