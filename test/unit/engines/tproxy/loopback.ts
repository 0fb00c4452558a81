/** Two engines on loopback: an entry whose listener stands for the transparent one, and an exit. */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { systemClock } from '../../../../events/clock.ts';
import type {
  CarrierKeys,
  CarrierSession,
  TproxyConfig,
  TproxyEngine,
} from '../../../../src/engines/tproxy/contract.ts';
import type { Endpoint } from '../../../../src/engines/tproxy/frames.ts';
import { createTypescriptRelay } from '../../../../src/engines/tproxy/relay.ts';
import type { RelayOptions } from '../../../../src/engines/tproxy/relay-options.ts';
import { createTransparentSockets } from '../../../../src/engines/tproxy/transparent-sockets.ts';
import { loadAddon } from '../../../../src/native/addon.ts';

export const SERVICE = 'svc_01J00000000000000000000001';
export const MARK = 0x4100_0001;
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Sessions of one side, renewed and removed by the test. */
export interface TestKeys extends CarrierKeys {
  set(session: CarrierSession): void;
  retire(sessionId: string, reason: 'renewed' | 'removed'): void;
}

export function createTestKeys(): TestKeys {
  const sessions = new Map<string, CarrierSession>();
  const current = new Map<string, CarrierSession>();
  const listeners = new Set<(sessionId: string, reason: 'renewed' | 'removed', peerId: string) => void>();
  const currentListeners = new Set<(peerId: string) => void>();
  return {
    current: (peerId) => current.get(peerId),
    byId: (sessionId) => sessions.get(sessionId),
    onCurrent(listener) {
      currentListeners.add(listener);
      return () => currentListeners.delete(listener);
    },
    onRetired(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    set(session) {
      sessions.set(session.sessionId, session);
      current.set(session.peerId, session);
      for (const listener of currentListeners) listener(session.peerId);
    },
    retire(sessionId, reason) {
      const session = sessions.get(sessionId);
      sessions.delete(sessionId);
      if (session !== undefined && current.get(session.peerId)?.sessionId === sessionId) {
        current.delete(session.peerId);
      }
      for (const listener of listeners) listener(sessionId, reason, session?.peerId ?? '');
    },
  };
}

/** A new session, known to both sides. Answers its id. */
export function agree(entry: TestKeys, exit: TestKeys): string {
  const key = randomBytes(32);
  const sessionId = randomBytes(16).toString('hex');
  entry.set({ sessionId, peerId: 'exit', key, initiator: true });
  exit.set({ sessionId, peerId: 'entry', key, initiator: false });
  return sessionId;
}

export interface Pair {
  readonly entry: TproxyEngine;
  readonly exit: TproxyEngine;
  readonly entryKeys: TestKeys;
  readonly exitKeys: TestKeys;
  readonly exitPort: number;
  /** Where the next connections to the entry are said to have been going. */
  destination: Endpoint;
  /** Mark the next connections are said to carry. */
  mark: number;
  configure(change?: Partial<{ allowed: string[]; limit: number; entries: boolean }>): void;
  stop(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

export async function startPair(options: Partial<RelayOptions> = {}): Promise<Pair> {
  const addon = loadAddon();
  const own = { ownMark: 0x41f0_0001, transparent: false };
  const entryKeys = createTestKeys();
  const exitKeys = createTestKeys();
  agree(entryKeys, exitKeys);
  const exitPort = await freePort();
  const random = { bytes: (count: number) => randomBytes(count) };
  const relay = (carrierPort: number, keys: CarrierKeys): TproxyEngine =>
    createTypescriptRelay(
      { listenPort: 0, carrierPort, ...options },
      {
        keys,
        clock: systemClock,
        random,
        logger: silent,
        sockets: {
          ...createTransparentSockets(addon, own),
          markOf: () => pair.mark,
          destinationOf: () => pair.destination,
        },
      },
    );
  const entry = relay(0, entryKeys);
  const exit = relay(exitPort, exitKeys);
  const pair: Pair = {
    entry,
    exit,
    entryKeys,
    exitKeys,
    exitPort,
    destination: { address: '127.0.0.1', port: 9 },
    mark: MARK,
    configure(change = {}) {
      const service = {
        serviceId: SERVICE,
        name: 'test',
        mark: MARK,
        transport: 'tcp' as const,
        fullyTransparent: false,
        limitBitsPerSecond: change.limit ?? 0,
      };
      const allowed = (change.allowed ?? ['127.0.0.0/8']).map((destination) => ({
        source: null,
        destination,
      }));
      const empty: TproxyConfig = { entries: [], exits: [], peers: [] };
      entry.configure({
        ...empty,
        entries: change.entries === false ? [] : [{ ...service, peerId: 'exit' }],
        peers: [{ peerId: 'exit', host: '127.0.0.1', port: exitPort }],
      });
      exit.configure({ ...empty, exits: [{ ...service, peerId: 'entry', allowed }] });
    },
    async stop() {
      await Promise.all([entry.stop(), exit.stop()]);
    },
  };
  pair.configure();
  await exit.start();
  await entry.start();
  return pair;
}

/** A server on loopback that is closed with the test. */
export async function serve(
  t: { teardown(run: () => void): void },
  handle: (socket: Socket) => void,
): Promise<Endpoint> {
  const server: Server = createServer({ allowHalfOpen: true }, handle);
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return { address: '127.0.0.1', port: typeof address === 'object' && address !== null ? address.port : 0 };
}
