/** Agents behind port-forwarding NAT: the router `core` holds their public addresses and lets only forwarded ports in. */
import t from 'tap';
import { type ClosedPort, portsReason } from '../../src/health/closed-ports.ts';
import { createCluster, eventually, type Member } from './cluster.ts';

const PUBLIC = { north: '10.91.20.254', south: '10.91.21.254' } as const;

/** West is behind a NAT too, but nothing is forwarded to it. */
const RULES = `
table ip nat {
  set forwarded_tcp { type inet_service; elements = { 8080, 61000 }; }
  set forwarded_udp { type inet_service; elements = { 61000 }; }
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr ${PUBLIC.north} tcp dport @forwarded_tcp dnat to 10.91.20.1
    ip daddr ${PUBLIC.north} udp dport @forwarded_udp dnat to 10.91.20.1
    ip daddr ${PUBLIC.south} tcp dport @forwarded_tcp dnat to 10.91.21.1
    ip daddr ${PUBLIC.south} udp dport @forwarded_udp dnat to 10.91.21.1
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.91.20.1 snat to ${PUBLIC.north}
    ip saddr 10.91.21.1 snat to ${PUBLIC.south}
    ip saddr 10.91.22.1 snat to 10.91.22.254
  }
}
table ip guard {
  chain forward {
    type filter hook forward priority filter;
    ct status dnat accept
    ct state established,related accept
    ip daddr { 10.91.20.1, 10.91.21.1, 10.91.22.1 } drop
  }
}
`;

interface PeerRow {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly endpoints: readonly string[];
  readonly state: string;
  readonly reason: string | null;
  readonly closed_ports: readonly ClosedPort[];
}

t.test(
  'behind port-forwarding NAT on both sides, and where nothing is forwarded',
  { timeout: 300_000 },
  async (t) => {
    const cluster = await createCluster({
      agents: ['north', 'south', 'west'],
      join: false,
      env: { HEARTBEAT_SECONDS: '1' },
    });
    t.teardown(() => cluster.lab.destroy());
    const [north, south, west] = [cluster.member(0), cluster.member(1), cluster.member(2)];
    const loaded = await cluster.lab.exec('core', ['sh', '-c', `nft -f - <<'END'\n${RULES}\nEND`]);
    t.equal(loaded.code, 0, loaded.stderr);

    const add = (by: Member, address: string) =>
      by.agent.request('POST', '/v1/peers', { token: by.token, body: { address } });
    const status = async (by: Member): Promise<readonly PeerRow[]> =>
      (await by.agent.request('GET', '/v1/cluster/status', { token: by.token })).json<{ peers: PeerRow[] }>()
        .peers;

    const seenBy = async (by: Member, other: Member) =>
      (await status(by)).find(({ id }) => id === other.identity.peer_id);
    const closed = async (by: Member, other: Member) =>
      portsReason((await seenBy(by, other))?.closed_ports ?? []);

    await t.test('forwarded, but not all that is needed', async (t) => {
      const answer = await add(north, `${PUBLIC.south}:8080`);
      t.equal(answer.status, 201, answer.text);
      const row = answer.json<PeerRow>();
      t.equal(row.address, `${PUBLIC.south}:8080`, 'the address given is the one used');
      t.equal(
        portsReason(row.closed_ports),
        `ports are closed: UDP port 51840 of the peer (${PUBLIC.south}) for what this host sends; ` +
          'TCP port 61000, UDP port 61000, and UDP port 51840 of this host (10.91.20.1) for what the peer sends',
        'no route leads to the address that north goes by; of the ports of south one is not forwarded',
      );
      t.equal(
        await eventually('the other side knows as well', () => closed(south, north)),
        'ports are closed: TCP port 61000, UDP port 61000, and UDP port 51840 of the peer (10.91.20.1) for what this host sends; ' +
          `UDP port 51840 of this host (${PUBLIC.south}) for what the peer sends`,
      );
      const seen = await seenBy(south, north);
      t.ok(seen?.endpoints.includes(`http://${PUBLIC.north}:8080`), 'the observed address is learned');
      const { conditions } = (
        await north.agent.request('GET', '/v1/cluster/status', { token: north.token })
      ).json<{
        conditions: { code: string; text: string }[];
      }>();
      t.match(
        conditions.find(({ code }) => code === 'peer-ports-closed')?.text,
        /UDP port 51840 of the peer/,
      );
    });

    await t.test('then all of it, at the address the others reach', async (t) => {
      await cluster.lab.exec('core', ['nft', 'add', 'element', 'ip', 'nat', 'forwarded_udp', '{ 51840 }']);
      const updated = await north.agent.request('PUT', `/v1/peers/${north.identity.peer_id}`, {
        token: north.token,
        body: { address: `${PUBLIC.north}:8080` },
      });
      t.equal(updated.status, 200, updated.text);
      await eventually(
        'nothing is complained of',
        async () => {
          const both = [await seenBy(north, south), await seenBy(south, north)];
          return both.every((peer) => peer?.reason === null && peer.closed_ports.length === 0);
        },
        30_000,
      );
    });

    await t.test('nothing is forwarded to the one who joins', async (t) => {
      // From here on the port of north is its tunnel's.
      const service = await north.agent.request('POST', '/v1/services', {
        token: north.token,
        body: { name: 'north-to-south', target_peer_id: south.identity.peer_id },
      });
      t.equal(service.status, 201, service.text);
      await eventually('the tunnel listens', async () =>
        (await cluster.lab.exec('north', ['ss', '-Hlun', 'sport', '=', ':51840'])).stdout.includes(':51840'),
      );
      const answer = await add(west, `${PUBLIC.north}:8080`);
      t.equal(answer.status, 201, answer.text);
      const row = await seenBy(west, north);
      t.match(
        row?.reason,
        /only one direction works.*10\.91\.22\.1:8080.*TCP port 8080 in to this host \(on a NAT, forward it\), or set ADVERTISE_ADDRESS/,
      );
      t.equal(
        portsReason(row?.closed_ports ?? []),
        'ports are closed: TCP port 61000, UDP port 61000, and UDP port 51840 of this host (10.91.22.1) for what the peer sends',
      );
      await eventually('but what is written arrives', async () => {
        const peers = await status(west);
        return peers.length === 3;
      });
    });

    await t.test('nothing is forwarded to the one who is added', async (t) => {
      const answer = await add(north, '10.91.22.254:8080');
      t.equal(answer.status, 422, answer.text);
      t.match(answer.json(), {
        error: /^handshake failed: connection refused/,
        code: 'HANDSHAKE_FAILED',
        details: [
          {
            message:
              /TCP port 8080 has to be open there.*inbound.*TCP port 61000, UDP port 61000, and UDP port 51840/,
          },
        ],
      });
    });
  },
);
