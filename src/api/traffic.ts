import { type Static, Type } from 'typebox';
import type { ServiceId } from '../../events/brand.ts';
import { requireService } from '../commands/services.ts';
import { type ApiContext, type App, documented } from './context.ts';
import type { TrafficSide, TunnelSide } from './ports.ts';
import { Nullable, strict, Time } from './schemas/fields.ts';
import { ServiceParams } from './schemas/services.ts';

const Side = Type.Union([Type.Literal('entry'), Type.Literal('exit')]);
const Count = Type.Integer({ minimum: 0 });
const Milliseconds = Type.Number({ minimum: 0 });
const Transport = Type.Union([Type.Literal('tcp'), Type.Literal('kcp')]);
const Loss = Type.Number({
  minimum: 0,
  description:
    'A share: over TCP of what was sent again, over KCP of datagrams that did not arrive, smoothed.',
});

const SidesTraffic = Type.Object(
  {
    service_id: Type.String(),
    name: Nullable(Type.String()),
    side: Side,
    connections: Count,
    active: Count,
    bytes_in: Type.Integer({ description: 'Read from clients (entry) or destinations (exit).' }),
    bytes_out: Type.Integer({ description: 'Written to them.' }),
    refused: Count,
    failed: Count,
    timed_out: Nullable(Count),
    reused: Nullable(Type.Integer({ description: 'Connections on a link that had carried one before.' })),
    limiter_waits: Nullable(Count),
    limiter_wait_ms: Nullable(Milliseconds),
    mean_open_ms: Nullable(
      Type.Number({ description: 'Until the destination was connected; null before the first.' }),
    ),
  },
  strict,
);

const LinksTraffic = Type.Object(
  {
    peer_id: Type.String(),
    transport: Transport,
    idle: Type.Integer({
      minimum: 0,
      description: 'Warm and without a connection; over KCP none is needed.',
    }),
    leased: Type.Integer({ minimum: 0, description: 'With a connection.' }),
    rtt_ms: Nullable(Milliseconds),
    loss: Nullable(Loss),
    bytes_sent: Nullable(Count),
    bytes_retransmitted: Nullable(Count),
  },
  strict,
);

const TunnelCounts = Type.Object({ packets: Count, bytes: Count, datagrams: Count }, strict);

const TunnelNow = Type.Object(
  {
    peer_id: Type.String(),
    device: Type.String(),
    endpoint: Nullable(Type.String({ description: 'Where the peer was last heard from, or is expected.' })),
    aead: Type.String(),
    handshake_age_ms: Nullable(Milliseconds),
    heard_ago_ms: Nullable(Milliseconds),
    mtu: Count,
    sent: TunnelCounts,
    received: TunnelCounts,
    lost: Type.Integer({ minimum: 0, description: 'Datagrams the peer sent that did not come.' }),
    dropped: Type.Object({ unready: Count, socket: Count, limit: Count }, strict),
    refused: Type.Object(
      {
        replayed: Count,
        forged: Count,
        malformed: Count,
        source: Count,
        congested: Count,
        undelivered: Count,
      },
      strict,
    ),
  },
  strict,
);

export const Traffic = Type.Object(
  {
    at: Time,
    implementation: Type.Union([Type.Literal('native'), Type.Literal('typescript')], {
      description: 'What the fallback in TypeScript does not measure is null.',
    }),
    services: Type.Array(SidesTraffic),
    links: Type.Array(LinksTraffic),
    tunnels: Type.Array(TunnelNow),
  },
  strict,
);

const End = Type.Object({ address: Type.String(), port: Type.Integer() }, strict);

export const FlowNow = Type.Object(
  {
    side: Side,
    client: End,
    destination: End,
    state: Type.Union([
      Type.Literal('waiting', { description: 'For a link to the peer.' }),
      Type.Literal('connecting', { description: 'To the destination.' }),
      Type.Literal('open'),
      Type.Literal('closing', { description: 'One direction has ended.' }),
    ]),
    age_ms: Milliseconds,
    bytes_in: Count,
    bytes_out: Count,
    open_ms: Nullable(Milliseconds),
    reused: Type.Boolean({ description: 'Its link had carried a connection before.' }),
    limiter_waits: Count,
    limiter_wait_ms: Milliseconds,
    path: Nullable(
      Type.Object(
        {
          transport: Transport,
          rtt_ms: Milliseconds,
          least_rtt_ms: Milliseconds,
          loss: Nullable(Loss),
          bytes_sent: Count,
          bytes_retransmitted: Count,
          retransmissions: Count,
          congestion_control: Nullable(Type.String({ description: 'Null over KCP, which has its own.' })),
        },
        strict,
      ),
      {
        description:
          "Of the link under it, in this host's sending direction, since the link was made; over KCP all connections " +
          'to a peer share one.',
      },
    ),
  },
  strict,
);

const Flows = Type.Object({ service_id: Type.String(), flows: Type.Array(FlowNow) }, strict);

/** What goes through the engines of this agent, now. Each end of a service sees its own side. */
export function trafficRoutes(app: App, context: ApiContext): void {
  const { traffic, tunnels, views, clock } = context;

  app.get('/v1/traffic', { schema: documented({}, { 200: Traffic }) }, () => {
    const { implementation, services, carriers, kcp } = traffic.stats();
    return {
      at: new Date(clock.now()).toISOString(),
      implementation,
      services: Object.entries(services).flatMap(([id, sides]) =>
        (['entry', 'exit'] as const)
          .filter((side) => isOurSide(context, id, side) || sides[side].connections > 0)
          .map((side) => sideOf(id, views.services.get(id as ServiceId)?.name ?? null, side, sides[side])),
      ),
      links: [
        ...Object.entries(carriers).map(linksOf),
        ...Object.entries(kcp).filter(isUp).map(associationOf),
      ],
      tunnels: tunnels.stats().peers.map(tunnelOf),
    };
  });

  app.get(
    '/v1/services/:id/flows',
    { schema: documented({ params: ServiceParams }, { 200: Flows }) },
    async (request) => {
      const service = requireService(views, request.params.id as ServiceId);
      const flows = await traffic.flows(service.id);
      return { service_id: service.id, flows: flows.map(flowOf) };
    },
  );
}

function isOurSide({ views, identity }: ApiContext, id: string, side: 'entry' | 'exit'): boolean {
  const service = views.services.get(id as ServiceId);
  return (side === 'entry' ? service?.source_peer_id : service?.target_peer_id) === identity.peerId;
}

type OneSide = ReturnType<TrafficSide['stats']>['services'][string]['entry'];

function sideOf(
  service_id: string,
  name: string | null,
  side: 'entry' | 'exit',
  { detail, bytesIn, bytesOut, ...counts }: OneSide,
): Static<typeof SidesTraffic> {
  const opened = detail?.opened.reduce((sum, one) => sum + one, 0) ?? 0;
  return {
    service_id,
    name,
    side,
    connections: counts.connections,
    active: counts.active,
    bytes_in: bytesIn,
    bytes_out: bytesOut,
    refused: counts.refused,
    failed: counts.failed,
    timed_out: detail?.timedOut ?? null,
    reused: detail?.reused ?? null,
    limiter_waits: detail?.limiterWaits ?? null,
    limiter_wait_ms: detail?.limiterWaitMs ?? null,
    mean_open_ms: detail === undefined || opened === 0 ? null : detail.openMs / opened,
  };
}

type Stats = ReturnType<TrafficSide['stats']>;

/** Of the two transports one row each. */
function linksOf([peer_id, { idle, leased, path }]: [string, Stats['carriers'][string]]): Static<
  typeof LinksTraffic
> {
  return {
    peer_id,
    transport: 'tcp',
    idle,
    leased,
    rtt_ms: path === undefined || path.rttMs === 0 ? null : path.rttMs,
    loss: path === undefined || path.bytesSent === 0 ? null : path.bytesRetransmitted / path.bytesSent,
    bytes_sent: path?.bytesSent ?? null,
    bytes_retransmitted: path?.bytesRetransmitted ?? null,
  };
}

/** A peer that does not answer over KCP has its connections over TCP; `arctic doctor` tells of it. */
const isUp = ([, { state }]: [string, Stats['kcp'][string]]): boolean => state === 'up';

const associationOf = ([peer_id, stats]: [string, Stats['kcp'][string]]): Static<typeof LinksTraffic> => ({
  peer_id,
  transport: 'kcp',
  idle: 0,
  leased: stats.flows,
  rtt_ms: stats.roundTripMs,
  loss: stats.loss,
  bytes_sent: stats.sentBytes,
  bytes_retransmitted: stats.repeatedBytes,
});

function tunnelOf(peer: ReturnType<TunnelSide['stats']>['peers'][number]): Static<typeof TunnelNow> {
  const counts = ({ packets, bytes, datagrams }: (typeof peer)['sent']) => ({ packets, bytes, datagrams });
  const { dropped, refused } = peer;
  return {
    peer_id: peer.peerId,
    device: peer.device,
    endpoint: peer.endpoint,
    aead: peer.aead,
    handshake_age_ms: peer.handshakeAgeMs,
    heard_ago_ms: peer.heardAgoMs,
    mtu: peer.mtu,
    sent: counts(peer.sent),
    received: counts(peer.received),
    lost: peer.lost,
    dropped: { unready: dropped.unready, socket: dropped.socket, limit: dropped.limit },
    refused: {
      replayed: refused.replayed,
      forged: refused.forged,
      malformed: refused.malformed,
      source: refused.source,
      congested: refused.congested,
      undelivered: refused.undelivered,
    },
  };
}

function flowOf(flow: Awaited<ReturnType<TrafficSide['flows']>>[number]): Static<typeof FlowNow> {
  const { path } = flow;
  return {
    side: flow.side,
    client: flow.client,
    destination: flow.destination,
    state: flow.state,
    age_ms: flow.ageMs,
    bytes_in: flow.bytesIn,
    bytes_out: flow.bytesOut,
    open_ms: flow.openMs,
    reused: flow.reused,
    limiter_waits: flow.limiterWaits,
    limiter_wait_ms: flow.limiterWaitMs,
    path:
      path === null
        ? null
        : {
            transport: path.transport,
            rtt_ms: path.rttMs,
            least_rtt_ms: path.leastRttMs,
            loss: path.loss,
            bytes_sent: path.bytesSent,
            bytes_retransmitted: path.bytesRetransmitted,
            retransmissions: path.retransmissions,
            congestion_control: path.congestionControl,
          },
  };
}
