import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import type { PeerFacts } from '../../src/health/facts.ts';
import type { Context } from '../context.ts';
import { createExchange, Unreachable } from '../exchange.ts';
import { errorCode } from '../failure.ts';
import { isRow, textOf } from '../fields.ts';

const PATIENCE_MS = 3_000;
/** Peers asked at a time. */
const WIDTH = 16;

export interface PeerToTry {
  readonly address: string;
  /** `http://HOST:PORT`. */
  readonly base: string;
}

export interface Tried {
  readonly tried: NonNullable<PeerFacts['tried']>;
  /** Its clock minus ours, by the time it gave; null without an answer. */
  readonly clockSkewMs: number | null;
}

const hostOf = (base: string): string => new URL(base).hostname.replace(/^\[|\]$/g, '');

async function resolves(host: string): Promise<boolean> {
  if (isIP(host) !== 0) return true;
  try {
    await lookup(host);
    return true;
  } catch {
    return false;
  }
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'the network is unreachable',
};

/** Undefined when a TCP connection can be made. */
export function tryTcp(host: string, port: number, patienceMs = PATIENCE_MS): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (outcome: string | undefined) => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(patienceMs, () => end('connection timeout'));
    socket.once('connect', () => end(undefined));
    socket.once('error', (error) => end(reasons[errorCode(error) ?? ''] ?? error.message));
  });
}

/** How long a refusal (ICMP port unreachable) may take to come back from the far side of the world. */
const REFUSAL_MS = 700;

/** Undefined unless the port refuses: one byte is sent, which the tunnel drops as no packet of its own. */
export function tryUdp(host: string, port: number, patienceMs = REFUSAL_MS): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const end = (outcome: string | undefined) => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on('error', () => {});
      socket.close();
      resolve(outcome);
    };
    const timer = setTimeout(() => end(undefined), patienceMs);
    socket.once('error', (error) => end(reasons[errorCode(error) ?? ''] ?? error.message));
    // Connected, for only then does the kernel tell of the refusal (udp(7)).
    socket.connect(port, host, () => socket.send(Buffer.of(0), () => {}));
  });
}

export interface PeerPorts {
  readonly carrier: number;
  readonly tunnel: number;
}

/** Tries the ways to each peer from this host, as the troubleshooting page does by hand. */
export async function tryPeers(
  context: Context,
  peers: readonly PeerToTry[],
  ports: PeerPorts,
): Promise<readonly Tried[]> {
  const { clock } = context;
  const common = { carrierPort: ports.carrier, tunnelPort: ports.tunnel };
  const quiet = { ...context.terminal, status: () => {} };
  const exchange = createExchange(
    { timeoutMs: PATIENCE_MS, debug: false, trace: false },
    { terminal: quiet, clock },
  );
  const tryOne = async ({ base }: PeerToTry): Promise<Tried> => {
    const host = hostOf(base);
    if (!(await resolves(host)))
      return {
        tried: {
          ...common,
          api: 'the name does not resolve',
          carrier: undefined,
          tunnel: undefined,
          resolves: false,
        },
        clockSkewMs: null,
      };
    const carrier = tryTcp(host, ports.carrier);
    const tunnel = tryUdp(host, ports.tunnel);
    const asked = clock.now();
    let api: string | undefined;
    let clockSkewMs: number | null = null;
    try {
      const answer = await exchange.send({ method: 'GET', base, path: '/livez', headers: {} });
      const body: unknown = JSON.parse(answer.text);
      const theirs = isRow(body) ? Date.parse(textOf(body, 'timestamp') ?? '') : Number.NaN;
      if (answer.status !== 200 || Number.isNaN(theirs)) api = 'it does not answer as an Arctic agent';
      else clockSkewMs = theirs - (asked + clock.now()) / 2;
    } catch (error) {
      api = error instanceof Unreachable ? error.reason : 'it does not answer as an Arctic agent';
    }
    return {
      tried: { ...common, api, carrier: await carrier, tunnel: await tunnel, resolves: true },
      clockSkewMs,
    };
  };
  const outcomes: Tried[] = [];
  try {
    for (let at = 0; at < peers.length; at += WIDTH)
      outcomes.push(...(await Promise.all(peers.slice(at, at + WIDTH).map(tryOne))));
  } finally {
    await exchange.close();
  }
  return outcomes;
}
