import { connect } from 'node:net';
import { errorCode, systemReason } from '../failure.ts';

/** The TCP engine's counters of one service on its entry, from /metrics. */
export interface FlowCounts {
  readonly connections: number;
  readonly failed: number;
  readonly refused: number;
}

/** Reads Prometheus text. */
export function flowCounts(metrics: string, service: string): FlowCounts {
  const value = (name: string): number => {
    const line = metrics
      .split('\n')
      .find(
        (one) =>
          one.startsWith(`arctic_tproxy_${name}{`) &&
          one.includes(`service="${service}"`) &&
          one.includes('side="entry"'),
      );
    return Number(line?.split(' ').at(-1) ?? 0);
  };
  return {
    connections: value('connections_total'),
    failed: value('failed_total'),
    refused: value('refused_total'),
  };
}

export interface Spoken {
  /** Undefined when the connection was made. */
  readonly refusal: string | undefined;
  /** Bytes that came back. */
  readonly bytes: number;
}

const WAIT_MS = 5_000;

/** Connects, says something that most servers answer, and counts what comes back. */
export function speak(host: string, port: number): Promise<Spoken> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    let bytes = 0;
    const end = (refusal: string | undefined) => {
      socket.destroy();
      resolve({ refusal, bytes });
    };
    socket.setTimeout(WAIT_MS, () => end(socket.connecting ? 'connection timeout' : undefined));
    socket.once('connect', () => socket.write('HEAD / HTTP/1.0\r\n\r\n'));
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      end(undefined);
    });
    socket.once('end', () => end(undefined));
    socket.once('error', (error) => {
      if (bytes > 0) end(undefined);
      else end(errorCode(error) === 'ECONNREFUSED' ? 'connection refused' : systemReason(error));
    });
  });
}

export interface Proof {
  readonly proved: boolean;
  readonly text: string;
}

/** Judges a connection by what the client saw and what the engine counted. Pure. */
export function judge(
  address: string,
  service: string,
  before: FlowCounts,
  after: FlowCounts,
  spoken: Spoken,
): Proof {
  const captured = after.connections > before.connections || after.refused > before.refused;
  if (!captured)
    return {
      proved: false,
      text: `the connection to ${address} did not go through service ${service}: the kernel did not hand it over. 'arctic doctor' looks for the cause.`,
    };
  if (spoken.refusal !== undefined || after.failed > before.failed)
    return {
      proved: false,
      text: `service ${service} took the connection to ${address}, but it failed behind the exit (${spoken.refusal ?? 'no way on'}). Check that something listens there and that the exit reaches it.`,
    };
  return {
    proved: true,
    text:
      spoken.bytes > 0
        ? `a connection to ${address} went through service ${service}: ${spoken.bytes} bytes came back.`
        : `a connection to ${address} went through service ${service}; it was accepted there and nothing was said.`,
  };
}
