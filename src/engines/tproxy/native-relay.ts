/**
 * The TCP engine's native relay as the rest of Arctic sees it. TypeScript decides: it opens the listeners, hands over
 * configuration, limits and session keys, and answers when the relay's thread meets a session it does not know.
 * Bytes, frames and flows are the thread's (`src/native/relay`).
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { type NativeAddon, READABLE, systemCall } from '../../native/addon.ts';
import type { RelayAddon } from '../../native/relay/addon.ts';
import { carriageOf } from '../kcp/carriage.ts';
import { createSelection } from '../kcp/selection.ts';
import type { KcpStats } from '../kcp/stats.ts';
import { BACKLOG, type BoundListener, bindCaptured, bindCarriers } from './bound-listeners.ts';
import { type CarrierTuningOptions, createCarrierTuning } from './carrier-tuning.ts';
import type { CarrierKeys, TproxyConfig, TproxyEngine, TproxyPeer, TproxyStats } from './contract.ts';
import { createCounters } from './counters.ts';
import type { EngineClock, EngineLogger } from './dependencies.ts';
import { compileExitPolicy } from './exit-policy.ts';
import {
  type ChosenService,
  encodeConfigure,
  encodeLimits,
  encodeListen,
  encodeListenDatagrams,
  encodeNoSession,
  encodeResetAll,
  encodeRetire,
  encodeSampleFlows,
  encodeSetPath,
  encodeSetSession,
  encodeStopAccepting,
} from './native-commands.ts';
import { createEventLog } from './native-events.ts';
import { createFlowViews } from './native-flows.ts';
import { parseStats } from './native-stats.ts';
import { type PathSeen, SHORT_RTT_MS } from './path-kind.ts';
import { createPathKinds } from './path-kinds.ts';
import { createWarnSeldom } from './rate-limited-log.ts';
import { completeOptions, type RelayOptions } from './relay-options.ts';

export interface NativeRelayOptions extends RelayOptions {
  readonly sockets: CarrierTuningOptions;
}

export interface NativeRelayDependencies {
  readonly addon: NativeAddon;
  readonly relay: RelayAddon;
  readonly keys: CarrierKeys;
  readonly clock: EngineClock;
  readonly logger: EngineLogger;
}

const EMPTY: TproxyConfig = { entries: [], exits: [], peers: [] };
/** Milliseconds between looks at what is left while stopping. */
const DRAIN_POLL = 20;
/** Milliseconds between look-ups of peers that are given by name, when they cannot be dialed. */
const LOOKUP_EVERY = 5_000;

const pathsOf = (carriers: TproxyStats['carriers']): (readonly [string, PathSeen])[] =>
  Object.entries(carriers).flatMap(([peerId, { path }]) =>
    path === undefined ? [] : [[peerId, path] as const],
  );

export function createNativeRelay(options: NativeRelayOptions, deps: NativeRelayDependencies): TproxyEngine {
  const { addon, relay, keys, clock, logger } = deps;
  const chosen = completeOptions(options);
  const carrier = createCarrierTuning(options.sockets);
  // Accepted links begin as those of a short path (src/native/relay/congestion.cc).
  const listening = createCarrierTuning({
    ...options.sockets,
    congestionControl: carrier.options.shortCongestionControl,
  });
  const warnSeldom = createWarnSeldom(logger, clock);
  const logEvent = createEventLog(logger, warnSeldom);
  let config: TproxyConfig = EMPTY;
  let slot: number | undefined;
  let poll = -1;
  let listenPort = chosen.listenPort;
  let unsubscribe: () => void = () => undefined;
  let lookedUpAt = Number.NEGATIVE_INFINITY;
  const selection = createSelection({
    clock,
    peers: () => config.entries.filter(({ transport }) => transport === 'auto').map(({ peerId }) => peerId),
    pathTo: (peerId) => pathTo(peerId),
    changed(peerId, choice) {
      logger.info(
        { peer: peerId, transport: choice.transport, reason: choice.reason },
        'another transport is chosen',
      );
      sendConfig(config);
    },
  });
  const pathKinds = createPathKinds({
    clock,
    // The thread counts for every peer it ever met; one without a session has been removed.
    paths: () =>
      pathsOf(parseStats(slot === undefined ? '' : relay.relayStats(slot)).carriers).filter(
        ([peerId]) => keys.current(peerId) !== undefined,
      ),
    changed(peerId, { kind, reason }) {
      logger.debug({ peer: peerId, path: kind, reason }, 'congestion control follows the path');
      command(encodeSetPath(peerId, kind));
    },
  });
  /** Peers the thread has had a session of; it asks for the first of each. */
  const known = new Set<string>();

  function command(bytes: Buffer, wipe = false): void {
    if (slot === undefined) return;
    systemCall('relayCommand', relay.relayCommand(slot, bytes));
    if (wipe) bytes.fill(0);
  }

  const views = createFlowViews(
    clock,
    (token, serviceId) => command(encodeSampleFlows(token, serviceId)),
    (token) => (slot === undefined ? '' : relay.relayFlows(slot, token)),
  );

  const pathTo = (peerId: string): KcpStats | undefined =>
    parseStats(slot === undefined ? '' : relay.relayStats(slot)).kcp[peerId];

  function handOver(sessionId: string): void {
    const session = keys.byId(sessionId);
    if (session === undefined) {
      command(encodeNoSession(sessionId));
      return;
    }
    const current = keys.current(session.peerId)?.sessionId === sessionId;
    known.add(session.peerId);
    command(encodeSetSession(session, current), true);
  }

  function handOverCurrent(peerId: string): void {
    const session = keys.current(peerId);
    if (session !== undefined) handOver(session.sessionId);
  }

  function drainEvents(): void {
    if (slot === undefined) return;
    for (const line of relay.relayEvents(slot).split('\n')) {
      const [kind = '', subject = '', ...rest] = line.split('\t');
      if (kind === 'session') handOver(subject);
      else if (kind === 'want') handOverCurrent(subject);
      else if (kind === 'flows') views.ready(Number(subject));
      else if (kind !== '') {
        logEvent(kind, subject, rest);
        if (kind === 'dial') lookUpAgain(subject);
      }
    }
  }

  /** Names are looked up here: the thread knows addresses only. */
  async function resolvePeer(peer: TproxyPeer): Promise<TproxyPeer | undefined> {
    try {
      return { ...peer, host: (await lookup(peer.host)).address };
    } catch (error) {
      warnSeldom(
        `lookup ${peer.peerId}`,
        { peer: peer.peerId, host: peer.host, err: error },
        'peer not found',
      );
      return undefined;
    }
  }

  const chosenEntries = (wanted: TproxyConfig): readonly ChosenService[] =>
    wanted.entries.map((service) => ({
      ...service,
      chosen: selection.of(service.peerId)?.transport ?? 'tcp',
    }));

  function sendConfig(wanted: TproxyConfig): void {
    const addresses = wanted.peers.filter((peer) => isIP(peer.host) !== 0);
    command(encodeConfigure({ ...wanted, entries: chosenEntries(wanted), peers: addresses }));
    if (addresses.length < wanted.peers.length) void sendResolved(wanted);
  }

  async function sendResolved(wanted: TproxyConfig): Promise<void> {
    lookedUpAt = clock.monotonic();
    const found = await Promise.all(
      wanted.peers.map((peer) => (isIP(peer.host) === 0 ? resolvePeer(peer) : peer)),
    );
    if (config !== wanted) return;
    command(
      encodeConfigure({
        ...wanted,
        entries: chosenEntries(wanted),
        peers: found.filter((peer) => peer !== undefined),
      }),
    );
  }

  function lookUpAgain(peerId: string): void {
    const peer = config.peers.find((one) => one.peerId === peerId);
    if (peer === undefined || isIP(peer.host) !== 0) return;
    if (clock.monotonic() - lookedUpAt >= LOOKUP_EVERY) void sendResolved(config);
  }

  function handListeners(bound: readonly BoundListener[], captured: boolean): void {
    for (const { fd, port } of bound) {
      systemCall('listen', addon.listen(fd, BACKLOG));
      command(encodeListen(fd, captured, port));
    }
  }

  async function bindAll(): Promise<{
    captured: readonly BoundListener[];
    carriers: readonly BoundListener[];
  }> {
    const captured = await bindCaptured(addon, chosen.listenPort, true);
    try {
      return { captured, carriers: bindCarriers(addon, chosen.carrierPort, listening) };
    } catch (error) {
      for (const { fd } of captured) addon.close(fd);
      throw error;
    }
  }

  return {
    async start() {
      if (slot !== undefined) return;
      const { captured, carriers } = await bindAll();
      slot = systemCall('relayStart', relay.relayStart());
      command(
        encodeLimits({
          ...chosen.pool,
          mostLinks: chosen.pool.most,
          ...chosen.link,
          ...chosen,
          ...carrier.options,
          aegis: carrier.options.aegis ? 1 : 0,
          shortPath: SHORT_RTT_MS * 1_000,
        }),
      );
      sendConfig(config);
      command(encodeListenDatagrams(carriers[0]?.port ?? chosen.carrierPort));
      poll = systemCall(
        'pollStart',
        addon.pollStart(relay.relayEventFd(slot), READABLE, () => drainEvents()),
      );
      const following = [
        keys.onCurrent((peerId) => {
          if (known.has(peerId)) handOverCurrent(peerId);
        }),
        keys.onRetired((sessionId, reason, peerId) =>
          command(encodeRetire(sessionId, peerId, reason === 'removed')),
        ),
      ];
      unsubscribe = () => {
        for (const unfollow of following) unfollow();
      };
      selection.start();
      pathKinds.start();
      listenPort = captured[0]?.port ?? chosen.listenPort;
      handListeners(carriers, false);
      handListeners(captured, true);
    },
    async stop(graceMs = 0) {
      if (slot === undefined) return;
      command(encodeStopAccepting());
      const end = clock.monotonic() + graceMs;
      while (clock.monotonic() < end && parseStats(relay.relayStats(slot)).flows > 0) {
        await new Promise<void>((resolve) => {
          clock.after(Math.min(DRAIN_POLL, graceMs), resolve);
        });
        if (slot === undefined) return;
      }
      command(encodeResetAll());
      selection.stop();
      pathKinds.stop();
      unsubscribe();
      addon.pollStop(poll);
      const ended = slot;
      slot = undefined;
      known.clear();
      relay.relayStop(ended);
    },
    configure(wanted) {
      // Before anything is changed: throws RangeError for a malformed CIDR.
      for (const exit of wanted.exits) compileExitPolicy(exit);
      config = wanted;
      sendConfig(wanted);
      selection.review();
    },
    configured: () => config,
    silentOverKcp() {
      const { kcp } = parseStats(slot === undefined ? '' : relay.relayStats(slot));
      return config.peers.filter(({ peerId }) => kcp[peerId]?.state === 'unreachable');
    },
    carriage(serviceId) {
      const service = config.entries.find((one) => one.serviceId === serviceId);
      if (service === undefined) return undefined;
      return carriageOf(service.transport, pathTo(service.peerId), selection.of(service.peerId));
    },
    stats(): TproxyStats {
      const { flows: _, ...stats } = parseStats(slot === undefined ? '' : relay.relayStats(slot));
      // As the model does: a configured service has counters, also when nothing has happened yet.
      const services = { ...stats.services };
      for (const { serviceId } of [...config.entries, ...config.exits]) {
        services[serviceId] ??= { entry: createCounters(), exit: createCounters() };
      }
      return { ...stats, services };
    },
    flows: async (serviceId) => (slot === undefined ? [] : await views.ask(serviceId)),
    get listenPort() {
      return listenPort;
    },
  };
}
