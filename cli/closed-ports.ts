import type { ClosedPort } from '../src/health/closed-ports.ts';
import { isRow, type Row } from './fields.ts';

/** `closed_ports` of a peer as the agent answers; one that does not try the ports leaves it out. */
export function closedPortsOf(row: Row): readonly ClosedPort[] {
  const ports = row['closed_ports'];
  if (!Array.isArray(ports)) return [];
  return ports
    .filter(isRow)
    .flatMap(({ protocol, port, direction, host }): readonly ClosedPort[] =>
      (protocol === 'tcp' || protocol === 'udp') &&
      typeof port === 'number' &&
      (direction === 'in' || direction === 'out') &&
      typeof host === 'string'
        ? [{ protocol, port, direction, host }]
        : [],
    );
}
