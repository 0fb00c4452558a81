import type { Registry } from 'prom-client';
import { registerFigures } from '../metric-family.ts';
import type { TunnelEngine, TunnelPeerStats } from './contract.ts';

/** Of one peer's tunnel. What only ever grows ends in `_total`; null is left out. */
const PEERS: readonly (readonly [
  suffix: string,
  help: string,
  read: (peer: TunnelPeerStats) => number | null,
])[] = [
  [
    'handshake_age_seconds',
    'Since the session in use was first seen.',
    ({ handshakeAgeMs }) => (handshakeAgeMs === null ? null : handshakeAgeMs / 1_000),
  ],
  [
    'heard_ago_seconds',
    'Since an authenticated datagram came.',
    ({ heardAgoMs }) => (heardAgoMs === null ? null : heardAgoMs / 1_000),
  ],
  ['mtu_bytes', 'MTU of the TUN device.', ({ mtu }) => mtu],
  ['sent_packets_total', 'Packets sent into the tunnel.', ({ sent }) => sent.packets],
  ['sent_bytes_total', 'Bytes of those packets.', ({ sent }) => sent.bytes],
  ['sent_datagrams_total', 'Datagrams that carried them.', ({ sent }) => sent.datagrams],
  ['sent_wire_bytes_total', 'Bytes of those datagrams.', ({ sent }) => sent.wireBytes],
  ['received_packets_total', 'Packets delivered out of the tunnel.', ({ received }) => received.packets],
  ['received_bytes_total', 'Bytes of those packets.', ({ received }) => received.bytes],
  ['received_datagrams_total', 'Datagrams that carried them.', ({ received }) => received.datagrams],
  ['received_wire_bytes_total', 'Bytes of those datagrams.', ({ received }) => received.wireBytes],
  ['lost_datagrams', 'Datagrams the peer sent that have not come.', ({ lost }) => lost],
];

/** Why packets were not carried. */
const DROPPED: readonly (readonly [reason: string, read: (peer: TunnelPeerStats) => number])[] = [
  ['unready', ({ dropped }) => dropped.unready],
  ['socket', ({ dropped }) => dropped.socket],
  ['limit', ({ dropped }) => dropped.limit],
  ['replayed', ({ refused }) => refused.replayed],
  ['forged', ({ refused }) => refused.forged],
  ['malformed', ({ refused }) => refused.malformed],
  ['source', ({ refused }) => refused.source],
  ['congested', ({ refused }) => refused.congested],
  ['undelivered', ({ refused }) => refused.undelivered],
];

/** Adds the tunnel's counters to a registry; they are read when somebody asks. */
export function registerTunnelMetrics(
  registry: Registry,
  engine: Pick<TunnelEngine, 'stats'>,
  peerName: (id: string) => string,
): void {
  for (const [suffix, help, read] of PEERS)
    registerFigures(registry, {
      name: `arctic_tunnel_${suffix}`,
      help,
      labelNames: ['peer', 'name'],
      read(give) {
        for (const one of engine.stats().peers) {
          const value = read(one);
          if (value !== null) give({ peer: one.peerId, name: peerName(one.peerId) }, value);
        }
      },
    });
  registerFigures(registry, {
    name: 'arctic_tunnel_aead',
    help: '1 for what is sent to the peer under now.',
    labelNames: ['peer', 'name', 'aead'],
    read(give) {
      for (const { peerId, aead } of engine.stats().peers)
        give({ peer: peerId, name: peerName(peerId), aead }, 1);
    },
  });
  registerFigures(registry, {
    name: 'arctic_tunnel_dropped_total',
    help: 'Packets not sent (unready, socket, limit) and datagrams or packets of the peer not delivered, by reason.',
    labelNames: ['peer', 'name', 'reason'],
    read(give) {
      for (const one of engine.stats().peers)
        for (const [reason, read] of DROPPED)
          give({ peer: one.peerId, name: peerName(one.peerId), reason }, read(one));
    },
  });
  registerFigures(registry, {
    name: 'arctic_tunnel_stray_datagrams_total',
    help: 'Datagrams of no peer: no datagram of ours, under no key we hold, or not opening under it.',
    labelNames: ['reason'],
    read(give) {
      const { foreign, unknown, forged } = engine.stats().refused;
      give({ reason: 'foreign' }, foreign);
      give({ reason: 'unknown' }, unknown);
      give({ reason: 'forged' }, forged);
    },
  });
}
