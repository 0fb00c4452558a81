/** Decodes the counters of the native threads (native/tunnel/loop.cc, Loop::Read). All integers are u64, little-endian. */
import { addressText } from '../../native/sockaddr.ts';

export interface PeerTotals {
  readonly id: number;
  readonly sentPackets: number;
  readonly sentBytes: number;
  readonly sentDatagrams: number;
  readonly sentWireBytes: number;
  readonly droppedUnready: number;
  readonly droppedSocket: number;
  readonly droppedLimit: number;
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  readonly receivedDatagrams: number;
  readonly receivedWireBytes: number;
  readonly lost: number;
  readonly replayed: number;
  readonly forged: number;
  readonly malformed: number;
  readonly refused: number;
  readonly congested: number;
  readonly undelivered: number;
  readonly tooBig: number;
  readonly tunFaults: number;
  /** The peer says it opens AEGIS-128L. */
  readonly opensAegis: boolean;
  readonly endpoint: { readonly address: string; readonly port: number } | undefined;
  /** Datagrams by id of the key. */
  readonly sent: ReadonlyMap<number, number>;
  readonly received: ReadonlyMap<number, number>;
}

export interface Totals {
  readonly foreign: number;
  readonly unknown: number;
  readonly forged: number;
  /** Those that have changed since the last reading, or came with a snapshot since. */
  readonly peers: readonly PeerTotals[];
}

export function decodeTotals(bytes: Buffer): Totals {
  let at = 0;
  const next = (): number => {
    const value = bytes.readBigInt64LE(at);
    at += 8;
    return Number(value);
  };
  const keys = (): ReadonlyMap<number, number> => {
    const found = new Map<number, number>();
    for (let left = next(); left > 0; left -= 1) found.set(next(), next());
    return found;
  };
  const endpoint = (): PeerTotals['endpoint'] => {
    const port = next();
    const raw = bytes.subarray(at, at + 16);
    at += 16;
    if (port === 0) return undefined;
    const mapped = raw.subarray(0, 12).equals(MAPPED);
    return { address: addressText(mapped ? raw.subarray(12) : raw), port };
  };
  const foreign = next();
  const unknown = next();
  const forged = next();
  const peers: PeerTotals[] = [];
  for (let left = next(); left > 0; left -= 1) {
    peers.push({
      id: next(),
      sentPackets: next(),
      sentBytes: next(),
      sentDatagrams: next(),
      sentWireBytes: next(),
      droppedUnready: next(),
      droppedSocket: next(),
      droppedLimit: next(),
      receivedPackets: next(),
      receivedBytes: next(),
      receivedDatagrams: next(),
      receivedWireBytes: next(),
      lost: next(),
      replayed: next(),
      forged: next(),
      malformed: next(),
      refused: next(),
      congested: next(),
      undelivered: next(),
      tooBig: next(),
      tunFaults: next(),
      opensAegis: next() === 1,
      endpoint: endpoint(),
      sent: keys(),
      received: keys(),
    });
  }
  return { foreign, unknown, forged, peers };
}

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex');
