import { Type } from 'typebox';
import {
  decideAcquireLock,
  decideInitCluster,
  decideReleaseLock,
  LOCK_DEFAULT_MS,
  liveLock,
} from '../commands/cluster.ts';
import { notBootstrapped } from '../commands/gate.ts';
import { evaluate } from '../health/evaluate.ts';
import { factsOf } from './conditions.ts';
import { type ApiContext, type App, commandOf, documented } from './context.ts';
import { conditionResource, licenseResource, lockResource, peerStatus } from './resources.ts';
import {
  AcquireLockBody,
  ClusterIdentity,
  ClusterStatus,
  InitAnswer,
  InitBody,
  LockAnswer,
  Triggered,
} from './schemas/cluster.ts';

/** How long `cluster sync` waits for the gossip round; the round itself goes on. */
const SYNC_TIMEOUT_MS = 10_000;

export function clusterRoutes(app: App, context: ApiContext): void {
  const { views, executor, identity, options, log, projections, clock } = context;
  /** For POSTs that may come without a body. */
  const emptyBody = async (request: { body: unknown }) => {
    request.body ??= {};
  };

  app.get('/v1/cluster/identity', { schema: documented({}, { 200: ClusterIdentity }) }, () => {
    const license = views.license();
    const { cluster_id } = views.cluster();
    if (license === undefined || cluster_id === undefined) throw notBootstrapped();
    return {
      peer_id: identity.peerId,
      public_key: Buffer.from(identity.publicKey).toString('base64'),
      license_id: license.license_id,
      cluster_id,
      version: `v${options.version.replace(/^v/, '')}`,
    };
  });

  app.get('/v1/cluster/status', { schema: documented({}, { 200: ClusterStatus }) }, () => {
    const cluster = views.cluster();
    return {
      cluster_id: cluster.cluster_id,
      customer_id: cluster.customer_id,
      name: cluster.name,
      description: cluster.description,
      created_at: cluster.created_at,
      peer_id: identity.peerId,
      version: options.version,
      license_state: licenseResource(context).state,
      log_head: log.head,
      projection_digest: projections.digest(),
      lock: lockResource(liveLock(views, clock.now())),
      conditions: evaluate(factsOf(context)).findings.map(conditionResource),
      peers: views.peers.list().map((peer) => peerStatus(context, peer)),
    };
  });

  app.post('/v1/cluster/sync', { schema: documented({}, { 200: Triggered }) }, async () => {
    // Both go on if one fails: an unreachable peer must not keep the kernel from being put right.
    const outcomes = await Promise.allSettled([
      context.peerSide.sync(SYNC_TIMEOUT_MS),
      context.reconcilers.sync(),
    ]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected')
        context.logger.warn({ err: outcome.reason }, 'a part of cluster sync failed');
    }
    return { triggered: true };
  });

  app.post(
    '/v1/cluster/init',
    { preValidation: emptyBody, schema: documented({ body: InitBody }, { 200: InitAnswer }) },
    (request) => {
      executor.execute(commandOf(request), (now, at) =>
        decideInitCluster(now, request.body.force ?? false, at),
      );
      return { cluster_id: views.cluster().cluster_id, initialised: true };
    },
  );

  const lockAnswer = () => {
    const lock = lockResource(liveLock(views, clock.now()));
    return { locked: lock !== null, lock };
  };

  app.get('/v1/cluster/lock', { schema: documented({}, { 200: LockAnswer }) }, lockAnswer);

  app.post(
    '/v1/cluster/lock',
    { preValidation: emptyBody, schema: documented({ body: AcquireLockBody }, { 201: LockAnswer }) },
    (request, reply) => {
      const { purpose, holder, ttl_seconds } = request.body;
      executor.execute(commandOf(request), (now, at) =>
        decideAcquireLock(
          now,
          {
            holder: holder ?? request.caller.clientId ?? 'recovery',
            purpose: purpose ?? 'cluster lock',
            ttlMs: ttl_seconds === undefined ? LOCK_DEFAULT_MS : ttl_seconds * 1_000,
          },
          at,
        ),
      );
      return reply.code(201).send(lockAnswer());
    },
  );

  app.delete('/v1/cluster/lock', { schema: documented({}, { 204: Type.Null() }) }, (request, reply) => {
    executor.execute(commandOf(request), (now, at) => decideReleaseLock(now, at));
    return reply.code(204).send();
  });
}
