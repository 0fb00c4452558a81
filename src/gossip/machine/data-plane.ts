import type { PeerId } from '../../../events/brand.ts';

/** A port that agents reach each other by, beside the API's. */
export interface DataPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

/** One try of the ways between this host and a peer. It ends with `end`. */
export interface DataPlaneTry {
  /** Ports at which nobody proved to be the peer; undefined while they are being tried. */
  closed(): readonly DataPort[] | undefined;
  /** What the peer sent to the tunnel port of this host has come in. */
  heard(): boolean;
  end(): void;
}

/** The sockets of it are not this machine's affair. */
export interface DataPlane {
  /** The port that answers nobody: whoever listens says what came in. */
  readonly tunnel: DataPort;
  try(peer: PeerId, host: string, token: string): DataPlaneTry;
}

export interface ClosedPort extends DataPort {
  /** Out: of the peer, closed to this host. In: of this host, closed to the peer. */
  readonly direction: 'out' | 'in';
  /** The address that was tried. */
  readonly host: string;
}

const listed = (ports: readonly DataPort[]): string =>
  new Intl.ListFormat('en').format(
    ports.map(({ protocol, port }) => `${protocol.toUpperCase()} port ${port}`),
  );

/**
 * For the operator: protocol, port, address and direction; null when nothing is closed. The condition `peer-ports-closed` knows it
 * by its first words.
 */
export function portsReason(closed: readonly ClosedPort[]): string | null {
  const part = (direction: 'in' | 'out', words: (ports: string, host: string) => string): string[] => {
    const ports = closed.filter((port) => port.direction === direction);
    const [first] = ports;
    return first === undefined ? [] : [words(listed(ports), first.host)];
  };
  const parts = [
    ...part('out', (ports, host) => `${ports} of the peer (${host}) for what this host sends`),
    ...part('in', (ports, host) => `${ports} of this host (${host}) for what the peer sends`),
  ];
  return parts.length === 0 ? null : `ports are closed: ${parts.join('; ')}`;
}
