import { ArcticError } from '../../events/errors.ts';
import { liveLock } from '../commands/cluster.ts';
import { isMember, setAsideReason } from '../commands/peers.ts';
import { certificateFacts } from '../health/certificate.ts';
import type { Facts } from '../health/facts.ts';
import { type ApiContext, isoTime } from './context.ts';
import { licenseResource, peerStatus } from './resources.ts';

const RECONCILERS = ['network', 'firewall', 'tproxy', 'iptun'] as const;

/** What this agent knows of its own health, for the table of conditions. Does not look at the kernel: that is drift's. */
export function factsOf(context: ApiContext): Facts {
  const { views, projections, clock, options, identity } = context;
  const { cluster_id } = views.cluster();
  const agent = {
    url: `port ${options.port}`,
    silence: undefined,
    caughtUp: projections.caughtUp,
    position: projections.position,
    bootstrapped: cluster_id !== undefined,
    ...(cluster_id === undefined ? {} : { clusterId: cluster_id }),
  };
  const common: Facts = {
    now: clock.now(),
    agent,
    api: {
      bind: options.host,
      tls: options.tls !== undefined,
      certificate: options.tls && certificateFacts(options.tls.cert),
    },
    ...(context.kernelFacts === undefined ? {} : { kernel: context.kernelFacts }),
    reconcilers: context.reconcilers.status().map((one) => ({
      name: one.name,
      state: one.state,
      error: one.last_error,
      failures: one.consecutive_failures,
      condition: one.condition,
    })),
  };
  if (cluster_id === undefined) return common;
  if (views.license() === undefined) return { ...common, license: null };

  const silent = new Map(context.traffic.silentOverKcp().map(({ peerId, port }) => [peerId, port]));
  const license = licenseResource(context);
  const rewrites = new Map(
    context.log
      .read({ types: ['checkpoint.inconsistent'] })
      .map((event) => [
        event.entity,
        event.type === 'checkpoint.inconsistent' && { size: event.data.size, event: event.id },
      ]),
  );
  const lock = liveLock(views, clock.now());
  const own = views.peers.get(identity.peerId);
  return {
    ...common,
    license: {
      licenseId: license.license_id,
      state: license.state,
      expiresAt: license.expires_at,
      maxNodes: license.max_nodes,
      maxServices: license.max_services,
      nodes: license.nodes,
      services: license.services,
    },
    trust: trustFacts(context),
    lock:
      lock === undefined
        ? null
        : { holder: lock.holder, purpose: lock.purpose, expiresAt: isoTime(lock.expires_at_ms) },
    membership: {
      local: own?.membership ?? 'member',
      ...(own?.forked_at === undefined ? {} : { forkedAt: own.forked_at }),
      setAside: views.peers
        .list()
        .filter((peer) => peer.membership === 'set_aside')
        .map((peer) => ({
          name: peer.name,
          local: peer.id === identity.peerId,
          reason: setAsideReason(views),
        })),
    },
    peers: views.peers
      .list()
      .filter((peer) => isMember(peer) && peer.id !== identity.peerId)
      .map((peer) => {
        const status = peerStatus(context, peer);
        const rewrote = rewrites.get(peer.id);
        return {
          id: peer.id,
          name: peer.name,
          address: peer.address,
          state: status.state,
          reason: status.reason,
          ...(status.forked_at === null ? {} : { forkedAt: status.forked_at }),
          closedPorts: status.closed_ports,
          lag: status.lag,
          clockSkewMs: status.clock_skew_ms,
          ...(status.changes_held_until === null ? {} : { changesHeldUntil: status.changes_held_until }),
          version: status.agent_version,
          ...kcpSilent(silent.get(peer.id)),
          ...(rewrote ? { rewrote } : {}),
        };
      }),
    services: views.services.list().map((service) => {
      const status = context.reconcilers.serviceStatus(service.id);
      return {
        id: service.id,
        name: service.name,
        fromHere: service.source_peer_id === identity.peerId,
        routes: views.routes.countOf(service.id),
        requiresInterface: service.requires_interface,
        limitMbps: service.bandwidth_limit_mbps,
        failed: RECONCILERS.flatMap((name) =>
          status[name].state === 'failed'
            ? [{ reconciler: name, reason: status[name].reason ?? 'no reason given' }]
            : [],
        ),
        gone: [service.source_peer_id, service.target_peer_id].flatMap((id) => {
          const peer = views.peers.get(id);
          return peer?.membership === 'left' || peer?.membership === 'removed'
            ? [{ name: peer.name, state: peer.membership }]
            : [];
        }),
        tunnel: status.iptun.reason ?? undefined,
      };
    }),
  };
}

const kcpSilent = (port: number | undefined): { readonly kcpSilent?: number } =>
  port === undefined ? {} : { kcpSilent: port };

function trustFacts({ trustRoots }: ApiContext): NonNullable<Facts['trust']> {
  try {
    return { directory: 'trust-roots/', roots: trustRoots().length, fault: undefined };
  } catch (error) {
    if (!(error instanceof ArcticError)) throw error;
    return { directory: 'trust-roots/', roots: 0, fault: error.message };
  }
}
