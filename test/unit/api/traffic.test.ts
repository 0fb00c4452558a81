import t from 'tap';
import { createHarness } from './harness.ts';

const counters = { connections: 3, active: 1, bytesIn: 700, bytesOut: 9_000, refused: 1, failed: 0 };
const none = { connections: 0, active: 0, bytesIn: 0, bytesOut: 0, refused: 0, failed: 0 };
const flow = {
  serviceId: '',
  side: 'entry',
  client: { address: '10.0.0.9', port: 40_000 },
  destination: { address: 'fd00::1', port: 443 },
  state: 'open',
  ageMs: 1_500,
  bytesIn: 7,
  bytesOut: 9,
  openMs: 103.5,
  reused: true,
  limiterWaits: 2,
  limiterWaitMs: 4.5,
  path: {
    transport: 'tcp',
    loss: 0.01,
    rttMs: 100.1,
    leastRttMs: 99.9,
    bytesSent: 1_000,
    bytesRetransmitted: 10,
    retransmissions: 1,
    congestionControl: 'bbr',
  },
} as const;

const tunnel = {
  peerId: 'peer_x',
  device: 'arctun00001',
  handshakeAgeMs: 12_000,
  heardAgoMs: null,
  endpoint: '192.0.2.7:51840',
  aead: 'AEGIS-128L',
  mtu: 1_436,
  sent: { packets: 5, bytes: 600, datagrams: 4 },
  received: { packets: 7, bytes: 900, datagrams: 6 },
  lost: 1,
  dropped: { unready: 2, socket: 0, limit: 3 },
  refused: { replayed: 1, forged: 2, malformed: 3, source: 4, congested: 5, undelivered: 6 },
};

t.test('traffic tells how each tunnel stands', async (t) => {
  const { admin, send } = createHarness(t, { tunnels: { stats: () => ({ peers: [tunnel] }) } });
  const { peerId, handshakeAgeMs, heardAgoMs, ...same } = tunnel;
  t.match((await send('GET', '/v1/traffic', { token: await admin() })).body, {
    tunnels: [{ peer_id: peerId, handshake_age_ms: handshakeAgeMs, heard_ago_ms: heardAgoMs, ...same }],
  });
});

t.test('a service tells how the tunnel to its other end stands', async (t) => {
  let far = '';
  const { admin, admit, send } = createHarness(t, {
    tunnels: { stats: () => ({ peers: [{ ...tunnel, peerId: far }] }) },
  });
  const token = await admin();
  far = admit('exit');
  const { id } = (await send('POST', '/v1/services', { token, body: { name: 'one', target_peer_id: far } }))
    .body;
  const shown = {
    peer_id: far,
    device: 'arctun00001',
    endpoint: '192.0.2.7:51840',
    handshake_age_ms: 12_000,
    bytes_sent: 600,
    bytes_received: 900,
    datagrams_received: 6,
    datagrams_lost: 1,
  };
  t.match((await send('GET', `/v1/services/${id}`, { token })).body, { tunnel: shown });
  t.match((await send('GET', '/v1/services', { token })).body, { services: [{ tunnel: shown }] });
  far = 'peer_other';
  t.equal((await send('GET', `/v1/services/${id}`, { token })).body.tunnel, null, 'no tunnel to it stands');
});

t.test('traffic names services and sides; what the fallback does not measure is null', async (t) => {
  let service = '';
  const { admin, send, admit } = createHarness(t, {
    traffic: {
      stats: () => ({
        implementation: 'native',
        services: {
          [service]: {
            entry: {
              ...counters,
              detail: {
                reused: 2,
                timedOut: 0,
                limiterWaits: 0,
                limiterWaitMs: 0,
                opened: [0, 2, 0, 1],
                openMs: 30,
              },
            },
            exit: none,
          },
        },
        carriers: {
          peer_x: { idle: 8, leased: 1, path: { rttMs: 100, bytesSent: 5_000, bytesRetransmitted: 50 } },
          peer_y: { idle: 0, leased: 0 },
        },
        kcp: {
          peer_x: {
            state: 'up',
            flows: 3,
            roundTripMs: 101,
            loss: 0.05,
            sentBytes: 9_000,
            repeatedBytes: 90,
          },
          peer_y: {
            state: 'unreachable',
            flows: 0,
            roundTripMs: 0,
            loss: null,
            sentBytes: 0,
            repeatedBytes: 0,
          },
        },
      }),
      flows: async (id) => [{ ...flow, serviceId: id ?? '' }],
    },
  });
  const token = await admin();
  const peer = admit('paris');
  const made = await send('POST', '/v1/services', { token, body: { name: 'web', target_peer_id: peer } });
  service = String(made.body['id']);

  t.match((await send('GET', '/v1/traffic', { token })).body, {
    implementation: 'native',
    services: [
      { service_id: service, name: 'web', side: 'entry', bytes_out: 9_000, reused: 2, mean_open_ms: 10 },
    ],
    links: [
      { peer_id: 'peer_x', transport: 'tcp', idle: 8, rtt_ms: 100, loss: 0.01, bytes_retransmitted: 50 },
      { peer_id: 'peer_y', transport: 'tcp', rtt_ms: null, loss: null, bytes_sent: null },
      { peer_id: 'peer_x', transport: 'kcp', leased: 3, rtt_ms: 101, loss: 0.05, bytes_retransmitted: 90 },
    ],
  });
  t.equal(
    (await send('GET', '/v1/traffic', { token })).body['links'].length,
    3,
    'a peer that does not answer over KCP has no link of that kind',
  );
  t.match((await send('GET', `/v1/services/${service}/flows`, { token })).body, {
    service_id: service,
    flows: [
      {
        side: 'entry',
        open_ms: 103.5,
        reused: true,
        path: { transport: 'tcp', rtt_ms: 100.1, loss: 0.01, retransmissions: 1, congestion_control: 'bbr' },
      },
    ],
  });
  t.equal((await send('GET', '/v1/services/svc_01ARZ3NDEKTSV4RRFFQ69G5FAV/flows', { token })).status, 404);
  t.equal((await send('GET', '/v1/traffic', {})).status, 401);
});
