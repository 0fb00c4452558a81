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
