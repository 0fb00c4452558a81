/**
 * The composition root: the one file that knows every part. It makes them in order, starts them in order, and stops them in
 * reverse. Nothing is decided here.
 */
import { hostname, release } from 'node:os';
import { join } from 'node:path';
import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { Agent as HttpAgent } from 'undici';
import type { PeerId } from '../events/brand.ts';
import { CATALOGUE } from '../events/catalogue.ts';
import { systemClock, systemRandom } from '../events/clock.ts';
import type { Actor, AnyNewEvent } from '../events/envelope.ts';
import { ArcticError, EXIT } from '../events/errors.ts';
import { createIds, newCorrelationId } from '../events/ids.ts';
import { openLog } from '../events/log.ts';
import { createWitness } from '../events/witness.ts';
import { MARK } from '../projections/desired/contract.ts';
import { createProjections } from '../projections/runner.ts';
import { createApi } from './api/server.ts';
import { createExecutor, type Executor } from './commands/execute.ts';
import { createLicenseWatch } from './commands/license-watch.ts';
import { createDataPlaneTries } from './data-plane-tries.ts';
import { createTunnelEngine } from './engines/iptun/engine.ts';
import { registerTunnelMetrics } from './engines/iptun/metrics.ts';
import { createTunnelPort } from './engines/reach/tunnel-port.ts';
import { createTproxyEngine } from './engines/tproxy/engine.ts';
import { registerTproxyMetrics } from './engines/tproxy/metrics.ts';
import { createGossip } from './gossip/gossip.ts';
import { createHistoryMark } from './gossip/history-mark.ts';
import { createMembershipWatch } from './gossip/membership-watch.ts';
import { createHttpTransport } from './gossip/transport.ts';
import { boundHeapGrowth } from './heap.ts';
import { advertisedAddress, prepareDirectories, requireNetAdmin } from './host.ts';
import { createRecoveryToken } from './identity/recovery-token.ts';
import { loadTrustRoots } from './identity/trust-roots.ts';
import { createKernel } from './kernel/kernel.ts';
import { createMarkedConnector } from './kernel/marked-connector.ts';
import { judgeKernel } from './kernel-check.ts';
import { createLicensedDesire } from './licensed-desire.ts';
import { createLogger, createLogLevel } from './logging.ts';
import { loadAddon } from './native/addon.ts';
import { loadRelayAddon } from './native/relay/addon.ts';
import { loadIdentity } from './own-identity.ts';
import { createFlowReset } from './reconcilers/flow-reset.ts';
import { createReconciliation } from './reconciliation.ts';
import { nameOfService } from './service-name.ts';
import { readSettings, type Settings } from './settings.ts';
import { requireSoundLicense, verifies } from './stored-license.ts';
import { Unwinding } from './unwinding.ts';
import { readVersion } from './version.ts';

const SYSTEM: Actor = { kind: 'system', id: null, address: null };
/** How long flows may go on after a request to stop; systemd's TimeoutStopSec is longer. */
const DRAIN_MS = 2_000;
/** Descriptors asked for: two a flow and some for everything else. The hard limit bounds it. */
const FILE_LIMIT = 1_048_576;
/** How often the address of the parent interface is looked up again. */
const ADDRESS_REFRESH_MS = 30_000;

export interface StartOptions {
  /** How much of the event log is verified first; default `tail`. */
  readonly verify?: 'tail' | 'full';
  /** Protocol versions spoken to peers; those of this release unless a test stands for another one. */
  readonly protocols?: readonly number[];
}

export interface RunningAgent {
  readonly api: { readonly host: string; readonly port: number };
  stop(reason: string): Promise<void>;
}

/**
 * Starts every part of the agent. Throws an ArcticError that says what is wrong; then nothing is left running.
 * `onFault` is told of an error that nobody handled inside a subscriber of the log.
 */
export async function startAgent(
  settings: Settings,
  logger: Logger,
  options: StartOptions = {},
): Promise<RunningAgent> {
  requireNetAdmin();
  prepareDirectories(settings);
  const undo = new Unwinding(logger);
  try {
    return await assemble(settings, logger, undo, options);
  } catch (error) {
    await undo.run();
    throw error;
  }
}

async function assemble(
  settings: Settings,
  logger: Logger,
  undo: Unwinding,
  options: StartOptions,
): Promise<RunningAgent> {
  const clock = systemClock;
  const random = systemRandom;
  const version = readVersion();
  const addon = loadAddon();
  const ids = createIds({ clock, random });
  const registry = new Registry();
  // Every look wakes the process: at the 10 ms of the default that was half of what an agent costs at rest.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 50 });

  // Who we are and what we know.
  const logPath = join(settings.dataDir, 'arctic.db');
  const identity = loadIdentity(settings, logPath, logger, { clock, random, ids });
  const log = openLog(
    { path: logPath, origin: identity.peerId, verify: options.verify ?? 'tail' },
    {
      signer: identity,
      clock,
      random,
      onError: (error) => logger.error({ err: error }, 'a subscriber of the log failed'),
    },
  );
  undo.add('log', () => log.close());
  const projections = createProjections(
    { localPeer: identity.peerId },
    { log, clock, onSnapshotProblem: (reason) => logger.warn({ reason }, 'snapshot of the projections') },
  );
  projections.start();
  undo.add('projections', () => projections.stop());
  const { views } = projections;

  const rootsPath = join(settings.configDir, 'trust-roots');
  const trustRoots = () => loadTrustRoots(rootsPath);
  requireSoundLicense(projections, trustRoots);

  const recovery = createRecoveryToken(join(settings.configDir, 'recovery.token'), random);
  const record = (events: readonly AnyNewEvent[]): void => {
    log.append(events, { actor: SYSTEM, correlationId: newCorrelationId(ids) });
  };

  // The kernel.
  const kernel = createKernel({ addon });
  await kernel.start();
  undo.add('kernel', () => kernel.stop());
  const features = await kernel.features();
  const kernelFacts = await judgeKernel(settings, kernel, features, logger);

  // Other peers.
  let advertised = await advertisedAddress(settings, kernel.rt);
  const scheme = settings.tls === undefined ? 'http' : 'https';
  const advertise = () => {
    const address = advertised ?? `${hostname()}:${settings.apiPort}`;
    return { address, endpoints: [`${scheme}://${address}`] };
  };
  let cancelRefresh = () => {};
  const refresh = (): void => {
    cancelRefresh = clock.after(ADDRESS_REFRESH_MS, () => {
      advertisedAddress(settings, kernel.rt)
        .then((address) => {
          advertised = address ?? advertised;
        })
        .catch((error: unknown) =>
          logger.warn({ err: error }, 'could not read the address of the parent interface'),
        )
        .finally(refresh);
    });
  };
  refresh();
  undo.add('address', () => cancelRefresh());

  const connect = createMarkedConnector({ addon, mark: MARK.own, timeoutMs: 5_000 });
  const tunnelPort = createTunnelPort(
    { port: settings.tunnelPort, mark: MARK.own },
    {
      addon,
      engine: createTunnelEngine(
        { port: settings.tunnelPort, ownMark: MARK.own, aegis: settings.tunnelAegis },
        {
          addon,
          rt: kernel.rt,
          keys: {
            current: (peer) => gossip.keys.current(peer),
            tunnelKeys: (peer, epoch) => gossip.tunnelKeys(peer as PeerId, epoch),
            onRetired: (listener) => gossip.keys.onRetired(listener),
          },
          clock,
          logger: logger.child({ engine: 'iptun' }),
        },
      ),
    },
  );
  const tunnel = tunnelPort.engine;
  const gossip = createGossip(
    {
      heartbeatSeconds: settings.heartbeatSeconds,
      dataPorts: [
        { protocol: 'tcp', port: settings.tproxyPort },
        { protocol: 'udp', port: settings.tproxyPort },
        { protocol: 'udp', port: settings.tunnelPort },
      ],
    },
    {
      clock,
      random,
      identity,
      log,
      views,
      profile: () => ({
        name: views.peers.get(identity.peerId)?.name ?? hostname(),
        ...advertise(),
        version,
      }),
      verifyLicense: (license) => verifies(license, trustRoots),
      projectionDigest: () => (projections.caughtUp ? projections.digest() : null),
      report: (level, message, fields) => logger[level](fields ?? {}, message),
      witness: createWitness({ log, signer: identity, clock }),
      mark: createHistoryMark(join(settings.dataDir, 'history.mark'), {
        peerId: identity.peerId,
        report: (level, message, fields) => logger[level](fields ?? {}, message),
      }),
      transport: createHttpTransport({ connect }),
      ...(options.protocols === undefined ? {} : { protocols: options.protocols }),
      dataPlane: createDataPlaneTries(
        { carrierPort: settings.tproxyPort, tunnelPort: settings.tunnelPort },
        {
          addon,
          clock,
          random,
          mark: MARK.own,
          keys: { current: (peer) => gossip.keys.current(peer) },
          port: tunnelPort,
        },
      ),
    },
  );

  const membership = createMembershipWatch({
    views,
    localPeer: identity.peerId,
    report: (level, message, fields) => logger[level](fields ?? {}, message),
  });
  membership.review();
  projections.bus.on('changed', (name) => {
    if (name === 'peers') membership.review();
  });

  // The TCP engine.
  addon.raiseFileLimit(FILE_LIMIT);
  const engine = createTproxyEngine(
    {
      carrierPort: settings.tproxyPort,
      mostFlows: settings.tproxyConnections,
      ...(settings.tproxyServiceConnections === undefined
        ? {}
        : { mostServiceFlows: settings.tproxyServiceConnections }),
      flowIdleTimeout: settings.tproxyIdleSeconds * 1_000,
      sockets: { ownMark: MARK.own, aegis: settings.tunnelAegis },
    },
    {
      addon,
      relay: loadRelayAddon(),
      keys: gossip.keys,
      clock,
      random,
      logger: logger.child({ engine: 'tproxy' }),
    },
  );
  registerTproxyMetrics(registry, engine, (id) => nameOfService(views, id));
  await engine.start();
  undo.add('TCP engine', () => engine.stop(DRAIN_MS));

  // The tunnel for everything else.
  registerTunnelMetrics(registry, tunnel, (id) => views.peers.get(id as PeerId)?.name ?? '');
  await tunnel.start();
  undo.add('tunnel', () => tunnel.stop());

  // What makes the kernel and the engines follow.
  const desire = createLicensedDesire({ clock, log, localPeer: identity.peerId, projections });
  const reconcilers = createReconciliation(settings, {
    clock,
    random,
    logger,
    log,
    projections,
    desire,
    kernel,
    engine,
    tunnel,
    record,
  });

  const flowReset = createFlowReset({
    kernel,
    clock,
    // The engine is not told of the change before this tick ends.
    markOf: (service) => engine.configured().entries.find((one) => one.serviceId === service)?.mark,
    appliedPosition: () =>
      reconcilers.status().find((one) => one.name === 'firewall')?.applied_position ?? null,
    logger,
  });
  const unfollow = log.subscribe((events) => flowReset.follow(events));
  undo.add('flow reset', () => {
    unfollow();
    flowReset.stop();
  });

  // The operator's side.
  const executor = createExecutor({ log, views, clock, ids, random, localPeer: identity.peerId });
  const dispatcher = new HttpAgent({ connect, headersTimeout: 30_000 });
  undo.add('forwarding', () => dispatcher.close());
  const licenseWatch = createLicenseWatch({
    clock,
    ids,
    log,
    views,
    executor,
    onError: (error) => logger.error({ err: error }, 'could not record the state of the license'),
  });
  const logLevel = createLogLevel(logger, settings.logLevel, clock);
  const api = createApi(
    {
      host: settings.apiBind,
      port: settings.apiPort,
      tls: settings.tls,
      version,
      hostName: hostname(),
    },
    {
      clock,
      random,
      ids,
      logger,
      log,
      projections,
      executor: holdingBack(executor, gossip),
      identity,
      recovery,
      trustRoots,
      advertise,
      peerSide: gossip,
      reconcilers,
      kernelFacts,
      traffic: engine,
      tunnels: tunnel,
      setLogLevel: (level, ms) => logLevel.setFor(level, ms),
      dispatcher,
      registry,
    },
  );

  record([
    {
      type: 'agent.started',
      entity: identity.peerId,
      data: { version, node: process.version, kernel: release() },
    },
  ]);
  const listening = await api.start();
  undo.add('API', () => api.stop());
  licenseWatch.start();
  undo.add('license watch', () => licenseWatch.stop());
  await reconcilers.start();
  undo.add('reconcilers', async () => {
    await reconcilers.stop();
    await reconcilers.cleanup('shutdown');
  });
  await gossip.start();
  undo.add('gossip', async () => {
    await gossip.leave();
    await gossip.stop();
  });
  logger.info({ version, peer_id: identity.peerId, port: listening.port }, 'the agent is running');

  return {
    api: listening,
    async stop(reason) {
      logger.info({ reason }, 'stopping');
      try {
        record([{ type: 'agent.stopped', entity: identity.peerId, data: { reason } }]);
      } catch (error) {
        logger.warn({ err: error }, 'could not record the stop');
      }
      await undo.run();
      logger.info('stopped');
    },
  };
}

/**
 * What a command would append for the cluster waits while this host has forgotten events of its own and is fetching them back, or
 * its clock is wrong. One that appends nothing does not: adding a peer is how a host that knows none any more gets them back. Nor
 * does what stays here, above all the note that the recovery token was used: it is for such times.
 */
const holdingBack = (executor: Executor, gossip: { requireAppendable(): void }): Executor => ({
  execute: (request, decide) =>
    executor.execute(request, (views, context) => {
      const decision = decide(views, context);
      if (decision.events.some(({ type }) => CATALOGUE[type].stream === 'config')) gossip.requireAppendable();
      return decision;
    }),
});

/**
 * Runs the agent until SIGTERM or SIGINT; what `arctic agent` does. Returns the exit code. A refusal at start is one line on
 * stderr and exit code 3, so that systemd does not try again what cannot succeed.
 */
export async function runAgent(
  env: Readonly<Record<string, string | undefined>>,
  options: StartOptions = {},
): Promise<number> {
  // What `ss -tlnp` and `ps` show.
  process.title = 'arctic';
  boundHeapGrowth();
  let agent: RunningAgent;
  let logger: Logger;
  try {
    const settings = readSettings(env);
    logger = createLogger({ level: settings.logLevel, format: settings.logFormat, stream: process.stderr });
    agent = await startAgent(settings, logger, options);
  } catch (error) {
    if (error instanceof ArcticError) {
      process.stderr.write(`Error: ${error.message}\n`);
      return EXIT.configuration;
    }
    const text = error instanceof Error ? error.message : String(error);
    process.stderr.write(`Error: the agent could not start: ${text}\n`);
    return EXIT.general;
  }
  return new Promise((resolve) => {
    const handler = closeWithGrace({ delay: 20_000, logger: false }, async ({ signal, err }) => {
      if (err !== undefined) logger.fatal({ err }, 'unhandled error');
      await agent.stop(signal ?? err?.message ?? 'asked to stop');
      process.exitCode = err === undefined ? EXIT.success : EXIT.general;
      handler.uninstall();
      resolve(err === undefined ? EXIT.success : EXIT.general);
    });
  });
}
