/** A port that the traffic between two hosts needs and that is closed in one direction. */
export interface ClosedPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** Out: of the peer, closed to this host. In: of this host, closed to the peer. */
  readonly direction: 'out' | 'in';
  /** The address that was tried. */
  readonly host: string;
}

const listed = (ports: readonly ClosedPort[]): string =>
  new Intl.ListFormat('en').format(
    ports.map(({ protocol, port }) => `${protocol.toUpperCase()} port ${port}`),
  );

/** For the operator: protocol, port, address and direction; null when nothing is closed. */
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
