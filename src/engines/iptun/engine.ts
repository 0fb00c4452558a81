import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Rtnetlink } from '../../kernel/contract.ts';
import { type NativeAddon, systemCall } from '../../native/addon.ts';
import type {
  TunnelConfig,
  TunnelDevice,
  TunnelEngine,
  TunnelKeySource,
  TunnelPeer,
  TunnelPolicy,
} from './contract.ts';
import { type HeldDevice, openDevice } from './device.ts';
import { type Carried, defaultAead, Keyring } from './keyring.ts';
import { type PeerFacts, statsOf } from './peer-stats.ts';
import { AEGIS_128L, createPolicyEncoder, encodeSnapshot } from './snapshot.ts';
import { type Fit, fitOf, openTunnelSocket, pathMtu, UNKNOWN_FIT } from './socket.ts';
import { decodeTotals, type PeerTotals } from './totals.ts';

export interface TunnelOptions {
  /** UDP, both families. */
  readonly port: number;
  /** SO_MARK of the tunnel's own socket, so that it is not captured itself. */
  readonly ownMark: number;
  /** Age at which a key is replaced, ms; the same on all hosts. Default two minutes. */
  readonly rekeyAfterMs?: number;
  /** Default 2^40. */
  readonly rekeyAfterDatagrams?: number;
  /** Whether AEGIS-128L may be used with peers that have it too. Default true. */
  readonly aegis?: boolean;
}

export interface TunnelDeps {
  readonly addon: NativeAddon;
  readonly rt: Pick<Rtnetlink, 'links' | 'setLink' | 'deleteLink'>;
  readonly keys: TunnelKeySource;
  readonly clock: { monotonic(): number; after(ms: number, run: () => void): () => void };
  readonly logger: {
    info(fields: object, text: string): void;
    warn(fields: object, text: string): void;
  };
  /** First address of a host name; the resolver of the system unless given. */
  readonly resolve?: (host: string) => Promise<string>;
}

/** How often keys, endpoints and counters are looked at, ms. After a restart each end waits for a look of the other. */
const TICK_MS = 100;
/** A peer we have sent nothing for so long is sent an empty datagram: NATs on the way forget after 30 s. */
const KEEPALIVE_MS = 25_000;
/** How often the path MTU is asked and host names are looked up again, ms. */
const PATH_CHECK_MS = 5_000;
const RESOLVE_AGAIN_MS = 30_000;
/** A peer unheard for so long, while unknown keys come in, may have moved on to epochs we have not made. */
const SILENT_MS = 3_000;

const NOTHING_CARRIED: Carried = { sent: new Map(), received: new Map() };

interface PeerState {
  readonly peerId: string;
  /** Number in the native tables; also of its policy. */
  readonly number: number;
  readonly keyring: Keyring;
  /** Undefined: no service needs the peer any more, its keys are kept until their sessions end. */
  config: TunnelPeer | undefined;
  device: HeldDevice | undefined;
  policy: TunnelPolicy | undefined;
  fit: Fit;
  endpoint: { readonly address: string; readonly port: number; readonly token: number } | undefined;
  resolvedAt: number;
  checkedAt: number;
  sentAt: number;
  heardAt: number | undefined;
  totals: PeerTotals | undefined;
}

/** The IP tunnel. One instance a process: another one under the same sessions would use counters again. */
export function createTunnelEngine(options: TunnelOptions, deps: TunnelDeps): TunnelEngine {
  const { addon, clock, keys, logger, rt } = deps;
  const resolve = deps.resolve ?? (async (host: string) => (await lookup(host)).address);
  const states = new Map<string, PeerState>();
  const services = new Map<string, number>();
  const keyringOptions = {
    rekeyAfterMs: options.rekeyAfterMs ?? 120_000,
    rekeyAfterDatagrams: options.rekeyAfterDatagrams ?? 2 ** 40,
    aead: defaultAead(addon.tunnelHasAes() === 1),
  };
  const aegis = options.aegis !== false && addon.tunnelHasAegis() === 1;
  let slot = -1;
  let socket = -1;
  let life: 'new' | 'running' | 'stopped' = 'new';
  let config: TunnelConfig = { peers: [] };
  let numbers = 0;
  let keyIds = 0;
  let tokens = 0;
  let refused = { foreign: 0, unknown: 0, forged: 0 };
  /** By number. A peer that nothing has happened to keeps its object, by which that is seen. */
  const counted = new Map<number, PeerTotals>();
  let buffer = Buffer.alloc(4096);
  /** The threads lack something: they refused it, or there was no descriptor left. */
  let behind = false;
  let cancelTick = () => {};
  let unsubscribe = () => {};
  /** One change of devices at a time. */
  let turn: Promise<unknown> = Promise.resolve();

  const serviceNumber = (id: string): number => {
    const known = services.get(id);
    if (known !== undefined) return known;
    services.set(id, services.size + 1);
    return services.size;
  };

  const encodePolicy = createPolicyEncoder(serviceNumber);

  function stateOf(peerId: string): PeerState {
    const known = states.get(peerId);
    if (known) return known;
    numbers += 1;
    const made: PeerState = {
      peerId,
      number: numbers,
      keyring: new Keyring(peerId, keyringOptions, keys, () => {
        keyIds += 1;
        return keyIds;
      }),
      config: undefined,
      device: undefined,
      policy: undefined,
      fit: UNKNOWN_FIT,
      endpoint: undefined,
      resolvedAt: Number.NEGATIVE_INFINITY,
      checkedAt: Number.NEGATIVE_INFINITY,
      sentAt: clock.monotonic(),
      heardAt: undefined,
      totals: undefined,
    };
    states.set(peerId, made);
    return made;
  }

  /** Gives the threads what is true now. */
  function publish(): void {
    if (life !== 'running' || slot < 0) return;
    for (const state of states.values()) {
      const policy = state.config?.policy;
      if (policy === state.policy) continue;
      const encoded = policy === undefined ? undefined : encodePolicy(policy);
      systemCall('tunnelPolicy', addon.tunnelPolicy(slot, state.number, encoded), state.peerId);
      state.policy = policy;
    }
    const snapshot = encodeSnapshot(
      [...states.values()].map((state) => ({
        id: state.number,
        tun:
          state.config === undefined || state.device === undefined
            ? undefined
            : { fd: state.device.fd, token: state.device.token },
        policy: state.number,
        largestDatagram: state.fit.largestDatagram,
        endpoint: state.endpoint,
        send: state.keyring.send,
        receive: state.keyring.receive,
        limits: (state.config?.limits ?? []).map(({ serviceId, bitsPerSecond }) => ({
          service: serviceNumber(serviceId),
          bitsPerSecond,
        })),
      })),
    );
    try {
      systemCall('tunnelApply', addon.tunnelApply(slot, snapshot));
    } finally {
      snapshot.fill(0);
    }
  }

  function read(): void {
    let needed = addon.tunnelRead(slot, buffer);
    if (needed > buffer.length) {
      buffer = Buffer.alloc(needed * 2);
      needed = addon.tunnelRead(slot, buffer);
    }
    if (needed < 0) return;
    const { peers, ...socketTotals } = decodeTotals(buffer.subarray(0, needed));
    refused = socketTotals;
    for (const peer of peers) counted.set(peer.id, peer);
  }

  const factsOf = (state: PeerState, totals: PeerTotals | undefined): PeerFacts => ({
    peerId: state.peerId,
    device: state.device?.name ?? state.config?.device ?? '',
    since: state.keyring.since,
    epoch: state.keyring.epoch,
    aead: aegis && totals?.opensAegis === true ? AEGIS_128L : keyringOptions.aead,
    endpoint: state.endpoint,
    heardAt: state.heardAt,
    mtu: state.fit.mtu,
  });

  /** Looks at keys and counters; true when the threads need a new snapshot. */
  function look(state: PeerState, now: number, unknownCame: boolean): boolean {
    const before = state.totals;
    const after = counted.get(state.number);
    state.totals = after;
    if (after && after.receivedDatagrams !== (before?.receivedDatagrams ?? 0)) state.heardAt = now;
    if (after && after.sentDatagrams !== (before?.sentDatagrams ?? 0)) state.sentAt = now;
    const silent = now - (state.heardAt ?? Number.NEGATIVE_INFINITY) > SILENT_MS;
    if (unknownCame && silent) state.keyring.widen();
    const { changed, switched } = state.keyring.update(now, after ?? NOTHING_CARRIED);
    // The peer learns that we have the session, and from where we speak.
    if (switched) state.sentAt = Number.NEGATIVE_INFINITY;
    return changed;
  }

  function tick(): void {
    const now = clock.monotonic();
    const unknownBefore = refused.unknown;
    if (states.size > 0) read();
    let dirty = false;
    for (const [peerId, state] of states) {
      if (look(state, now, refused.unknown > unknownBefore)) dirty = true;
      if (state.config === undefined && state.keyring.empty) {
        states.delete(peerId);
        counted.delete(state.number);
        addon.tunnelPolicy(slot, state.number);
        dirty = true;
      }
      if (state.config !== undefined) {
        if (now - state.resolvedAt >= RESOLVE_AGAIN_MS) void refreshEndpoint(state, now);
        if (checkPath(state, now)) dirty = true;
      }
    }
    if (dirty || behind) publishOrSay();
    // A word that came before the peer had the keys was lost on it.
    for (const state of states.values())
      if (
        state.keyring.send !== undefined &&
        (now - state.sentAt >= KEEPALIVE_MS || state.keyring.unheard(now))
      ) {
        state.sentAt = now;
        addon.tunnelKeepalive(slot, state.number);
      }
  }

  function publishOrSay(): void {
    try {
      publish();
      behind = false;
    } catch (error) {
      behind = true;
      logger.warn({ err: error }, 'the tunnel threads refuse their configuration');
    }
  }

  function schedule(): void {
    cancelTick = clock.after(TICK_MS, () => {
      tick();
      if (life === 'running') schedule();
    });
  }

  /** A host name is looked up; what was found is used until something else is. */
  async function refreshEndpoint(state: PeerState, now: number): Promise<void> {
    const wanted = state.config?.endpoint;
    if (wanted === undefined || now - state.resolvedAt < RESOLVE_AGAIN_MS) return;
    state.resolvedAt = now;
    try {
      const address = isIP(wanted.host) === 0 ? await resolve(wanted.host) : wanted.host;
      if (state.config?.endpoint !== wanted || life !== 'running') return;
      if (state.endpoint?.address === address && state.endpoint.port === wanted.port) return;
      tokens += 1;
      state.endpoint = { address, port: wanted.port, token: tokens };
      state.checkedAt = Number.NEGATIVE_INFINITY;
      state.sentAt = Number.NEGATIVE_INFINITY;
      publishOrSay();
    } catch (error) {
      logger.warn({ err: error, peer_id: state.peerId, host: wanted.host }, 'cannot look a peer up');
    }
  }

  /** Follows the path MTU; true when the largest datagram has changed. */
  function checkPath(state: PeerState, now: number): boolean {
    if (now - state.checkedAt < PATH_CHECK_MS) return false;
    const to = state.totals?.endpoint ?? state.endpoint;
    if (to === undefined) return false;
    state.checkedAt = now;
    const path = pathMtu(addon, to, options.ownMark);
    if (path === undefined) return false;
    const fit = fitOf(to.address, path);
    if (fit.mtu === state.fit.mtu) return false;
    logger.info({ peer_id: state.peerId, path_mtu: path, mtu: fit.mtu }, 'path MTU');
    state.fit = fit;
    const { device } = state;
    if (device !== undefined)
      rt.setLink(device.index, { mtu: fit.mtu }).catch((error: unknown) =>
        logger.warn({ err: error, device: device.name }, 'cannot set the MTU'),
      );
    return true;
  }

  async function release(state: PeerState): Promise<void> {
    const { device } = state;
    if (device === undefined) return;
    state.device = undefined;
    // The threads hold the queue a moment longer; deleting the device ends it at once.
    addon.close(device.fd);
    await rt.deleteLink(device.index);
  }

  async function hold(state: PeerState, wanted: TunnelPeer, present: ReadonlySet<number>): Promise<void> {
    const { device } = state;
    if (device !== undefined && device.name === wanted.device && present.has(device.index)) {
      await rt.setLink(device.index, { up: true, mtu: state.fit.mtu });
      return;
    }
    if (device !== undefined) {
      state.device = undefined;
      addon.close(device.fd);
      if (present.has(device.index)) await rt.deleteLink(device.index);
    }
    tokens += 1;
    state.device = await openDevice(addon, rt, {
      name: wanted.device,
      peerId: wanted.peerId,
      mtu: state.fit.mtu,
      token: tokens,
    });
  }

  /** The port and the threads come with the first peer: a host without tunnels has neither. */
  function open(): void {
    const bound = openTunnelSocket(addon, options.port, options.ownMark);
    const opened = addon.tunnelOpen(bound, aegis ? 1 : 0);
    if (opened < 0) {
      addon.close(bound);
      systemCall('tunnelOpen', opened);
    }
    socket = bound;
    slot = opened;
    schedule();
  }

  async function reconfigure(next: TunnelConfig): Promise<void> {
    if (life !== 'running') throw new Error('the tunnel engine is not running');
    if (slot < 0) {
      if (next.peers.length === 0) return;
      open();
    }
    const wanted = new Set(next.peers.map((peer) => peer.peerId));
    const leaving = [...states.values()].filter(
      (state) => state.config !== undefined && !wanted.has(state.peerId),
    );
    for (const state of leaving) {
      state.config = undefined;
      state.endpoint = undefined;
    }
    // Nothing reaches a device that is about to go.
    if (leaving.length > 0) publish();
    for (const state of leaving) await release(state);
    const present = new Set((await rt.links()).map((link) => link.index));
    const now = clock.monotonic();
    for (const peer of next.peers) {
      const state = stateOf(peer.peerId);
      const moved =
        state.config?.endpoint?.host !== peer.endpoint?.host ||
        state.config?.endpoint?.port !== peer.endpoint?.port;
      await hold(state, peer, present);
      state.config = peer;
      if (moved) state.resolvedAt = Number.NEGATIVE_INFINITY;
      await refreshEndpoint(state, now);
      look(state, now, false);
    }
    config = next;
    publish();
  }

  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work);
    turn = result.catch(() => undefined);
    return result;
  };

  return {
    async start() {
      if (life !== 'new') throw new Error('a tunnel engine starts once: its keys would be used again');
      life = 'running';
      unsubscribe = keys.onRetired((sessionId) => {
        let ours = false;
        for (const state of states.values()) if (state.keyring.retire(sessionId)) ours = true;
        if (ours) publishOrSay();
      });
    },

    stop: () =>
      inTurn(async () => {
        if (life !== 'running') return;
        life = 'stopped';
        cancelTick();
        unsubscribe();
        if (slot >= 0) {
          addon.tunnelClose(slot);
          addon.close(socket);
        }
        for (const state of states.values()) {
          state.keyring.wipe();
          await release(state);
        }
        states.clear();
        config = { peers: [] };
      }),

    configure: (next) => inTurn(() => reconfigure(next)),
    configured: () => config,

    devices() {
      const held = new Map<string, TunnelDevice>();
      for (const { peerId, device } of states.values())
        if (device !== undefined) held.set(peerId, { name: device.name, index: device.index });
      return held;
    },

    stats() {
      if (life === 'running' && states.size > 0) read();
      const now = clock.monotonic();
      return {
        port: options.port,
        refused,
        peers: [...states.values()]
          .filter((state) => state.config !== undefined)
          .map((state) => {
            const totals = counted.get(state.number);
            return statsOf(factsOf(state, totals), totals, now);
          }),
      };
    },
  };
}
