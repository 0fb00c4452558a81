/** Agents behind port-forwarding NAT: the router `core` holds their public addresses and lets only forwarded ports in. */
import t from 'tap';
import { createCluster, eventually, type Member } from './cluster.ts';
import { operator } from './operator.ts';

const PUBLIC = { north: '10.91.20.254', south: '10.91.21.254' } as const;

/** West is behind a NAT too, but nothing is forwarded to it. */
const RULES = `
table ip nat {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr ${PUBLIC.north} tcp dport 8080 dnat to 10.91.20.1:8080
    ip daddr ${PUBLIC.south} tcp dport 8080 dnat to 10.91.21.1:8080
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
  readonly reason?: string | null;
}

t.test(
  'behind port-forwarding NAT on both sides, and where nothing is forwarded',
  { timeout: 300_000 },
  async (t) => {
    const cluster = await createCluster({ agents: ['north', 'south', 'west'], join: false });
    t.teardown(() => cluster.lab.destroy());
    const [north, south, west] = [cluster.member(0), cluster.member(1), cluster.member(2)];
    const loaded = await cluster.lab.exec('core', ['sh', '-c', `nft -f - <<'END'\n${RULES}\nEND`]);
    t.equal(loaded.code, 0, loaded.stderr);

    const add = (by: Member, address: string) =>
      by.agent.request('POST', '/v1/peers', { token: by.token, body: { address } });
    const status = async (by: Member): Promise<readonly PeerRow[]> =>
      (await by.agent.request('GET', '/v1/cluster/status', { token: by.token })).json<{ peers: PeerRow[] }>()
        .peers;

    await t.test('both sides forwarded', async (t) => {
      const answer = await add(north, `${PUBLIC.south}:8080`);
      t.equal(answer.status, 201, answer.text);
      t.equal(answer.json<PeerRow>().address, `${PUBLIC.south}:8080`, 'the address given is the one used');
      await eventually('both active, without a complaint', async () => {
        for (const [by, other] of [
          [north, south],
          [south, north],
        ] as const) {
          const row = (await status(by)).find(({ id }) => id === other.identity.peer_id);
          if (row?.state !== 'active' || (row.reason ?? null) !== null) return false;
        }
        return true;
      });
      const seen = (await status(south)).find(({ id }) => id === north.identity.peer_id);
      t.ok(seen?.endpoints.includes(`http://${PUBLIC.north}:8080`), 'the observed address is learned');
    });

    if (process.env['ARCTIC_LONG'] === '1')
      await t.test('forwarded for the API, but not for the traffic', async (t) => {
        const { stdout } = await operator(cluster, 0)('doctor', '--json');
        const { findings } = JSON.parse(stdout) as { findings: { code: string; remedy: string }[] };
        const carrier = findings.find(({ code }) => code === 'peer-carrier-closed');
        t.match(carrier?.remedy, /Open TCP 61000 between the hosts, in both directions/);
      });

    await t.test('nothing is forwarded to the one who joins', async (t) => {
      const answer = await add(west, `${PUBLIC.north}:8080`);
      t.equal(answer.status, 201, answer.text);
      const row = (await status(west)).find(({ id }) => id === north.identity.peer_id);
      t.match(
        row?.reason,
        /only one direction works.*10\.91\.22\.1:8080.*TCP port 8080 in to this host.*TCP port 61000, UDP port 61000, and UDP port 51840 open in both directions/,
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
