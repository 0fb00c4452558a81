/** What an operator runs through the tunnel: ping, dig, mtr, traceroute, iperf3, openssl, socat, over IPv4 and IPv6, between real agents. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { installPackages } from '../../../ops/lab/packages.ts';
import { createCluster, eventually } from '../../e2e/cluster.ts';
import { mayMakeNamespaces } from '../netns.ts';

if (!mayMakeNamespaces()) t.bailout('these tests need root to make network namespaces');

const DNS_SERVER = fileURLToPath(new URL('./dns-server.ts', import.meta.url));
const DTLS_PORT = 4_433;
/** For experiments (RFC 3692). */
const PROTOCOL = 253;
/** By the Debian package each is in. */
const NEEDED = {
  ping: 'iputils-ping',
  dig: 'bind9-dnsutils',
  mtr: 'mtr-tiny',
  traceroute: 'traceroute',
  iperf3: 'iperf3',
  openssl: 'openssl',
  socat: 'socat',
};
const lacking = (): string[] =>
  Object.entries(NEEDED).flatMap(([name, of]) => (spawnSync('which', [name]).status === 0 ? [] : of));
if (lacking().length > 0) {
  try {
    installPackages(lacking());
  } catch {
    // What is still not here is said below.
  }
}
const missing = lacking();
const skip =
  missing.length > 0 && `these packages are not here and could not be installed: ${missing.join(', ')}`;

t.test('real programs work through the tunnel', { skip, timeout: 400_000 }, async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const entry = cluster.member(0);
  const exit = cluster.member(1);
  const server = lab.host('server').address;
  const run = (...argv: string[]) => lab.exec('client', argv, { check: false });

  const created = await entry.agent.request('POST', '/v1/services', {
    token: entry.token,
    body: { name: 'to-server', target_peer_id: exit.identity.peer_id },
  });
  const { id } = created.json<{ id: string }>();
  const routes = ['10.91.3.0/24', 'fd91:3::/64'].map((dest_cidr) => ({ priority: 100, dest_cidr }));
  const routed = await entry.agent.request('POST', `/v1/services/${id}/routes`, {
    token: entry.token,
    body: { routes },
  });
  t.equal(routed.status, 201, routed.text);

  interface Tunnel {
    readonly mtu: number;
    readonly bytes_received: number;
    readonly handshake_age_ms: number | null;
  }
  const tunnel = async (): Promise<Tunnel | null> => {
    const now = await entry.agent.request('GET', `/v1/services/${id}`, { token: entry.token });
    return now.json<{ tunnel: Tunnel | null }>().tunnel;
  };
  const [v4, v6] = [server.ipv4 ?? '', server.ipv6 ?? ''];
  for (const address of [v4, v6])
    await eventually(`the tunnel carries ${address}`, async () => {
      const before = (await tunnel())?.bytes_received ?? 0;
      await run('ping', '-c', '1', '-W', '1', address);
      return ((await tunnel())?.bytes_received ?? 0) > before;
    });
  const { mtu = 0, handshake_age_ms = null } = (await tunnel()) ?? {};
  t.ok(mtu >= 1280 && handshake_age_ms !== null, `an MTU of ${mtu}, and a handshake`);

  const dns = lab.spawn('server', [process.execPath, '--import=tsx', DNS_SERVER]);
  await eventually('DNS server', async () => dns.output().includes('ready'));
  lab.spawn('server', ['iperf3', '-s']);
  const directory = t.testdir({});
  const files = ['-keyout', `${directory}/key`, '-out', `${directory}/cert`];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  const made = spawnSync('openssl', ['req', '-x509', ...curve, '-nodes', '-subj', '/CN=lab', ...files]);
  t.equal(made.status, 0, 'a certificate for the DTLS server');
  const listen = `openssl s_server -dtls -quiet -cert ${directory}/cert -key ${directory}/key`;
  // It ends with its input.
  const accept = (only: string) =>
    lab.spawn('server', ['sh', '-c', `sleep 300 | ${listen} ${only} -accept ${DTLS_PORT}`]);
  const servers = { IPv4: accept('-4'), IPv6: accept('-6') };

  for (const [family, address, headers] of [
    ['IPv4', v4, 28],
    ['IPv6', v6, 48],
  ] as const) {
    const ping = (size: number, ...more: string[]) =>
      run('ping', '-c', '2', '-i', '0.2', '-W', '3', '-s', String(size), ...more, address);
    for (const size of [0, 56, 1_000, mtu - headers - 1, mtu - headers]) {
      const { code, stdout } = await ping(size, '-M', 'do');
      t.equal(code, 0, `${family}: ${size} bytes in one piece\n${stdout}`);
    }
    const large = await ping(mtu - headers + 1, '-M', 'do');
    const told = new RegExp(`mtu ?[=:] ?${mtu}\\b`, 'i');
    t.match(`${large.stdout}${large.stderr}`, told, `${family}: one byte more is told the MTU`);
    // The path's MTU is known now; without DF the sender cuts.
    for (const size of [mtu - headers + 1, 1_472, 4_000, 20_000]) {
      const { code, stdout } = await ping(size, '-M', 'dont');
      t.equal(code, 0, `${family}: ${size} bytes in pieces\n${stdout}`);
    }

    const dig = async (...question: string[]) => {
      const asked = await run('dig', `@${address}`, '+short', '+tries=3', '+time=2', ...question);
      return asked.stdout.trim();
    };
    t.equal(await dig('example.org', 'A'), '192.0.2.53', `${family}: dig`);
    const long = await dig('+bufsize=4096', '+ignore', '3500.example.org', 'TXT');
    t.equal(long.replaceAll(/[" ]/g, '').length, 3_500, `${family}: an answer in several fragments`);

    for (const how of [[], ['-I']]) {
      const { stdout } = await run('traceroute', '-n', '-q', '1', '-w', '3', '-m', '8', ...how, address);
      const last = stdout.trim().split('\n').at(-1) ?? '';
      t.match(last, ` ${address} `, `${family}: traceroute ${how.join('')} gets there\n${stdout}`);
      t.ok(Number(last.trim().split(' ')[0]) <= 4, 'in a few hops');
    }
    const mtr = await run('mtr', '-n', '-r', '-c', '3', '-i', '0.3', address);
    const end = mtr.stdout.trim().split('\n').at(-1) ?? '';
    t.match(end, new RegExp(`${address} +0\\.0%`), `${family}: mtr sees the end\n${mtr.stdout}`);

    const target = family === 'IPv4' ? address : `[${address}]`;
    const client = `openssl s_client -dtls -quiet -connect ${target}:${DTLS_PORT}`;
    await eventually(`${family}: a line over DTLS`, async () => {
      await run('sh', '-c', `(echo over ${family}; sleep 2) | timeout 3 ${client}`);
      return servers[family].output().includes(`over ${family}`);
    });

    const iperf = await run('iperf3', '-J', '-u', '-b', '5M', '-l', '1200', '-t', '2', '-c', address);
    const { end: sums } = JSON.parse(iperf.stdout) as {
      end: { sum: { packets: number; lost_percent: number } };
    };
    t.ok(
      sums.sum.packets > 500 && sums.sum.lost_percent < 5,
      `${family}: iperf3 -u ${JSON.stringify(sums.sum)}`,
    );
  }

  // A protocol that is neither TCP, UDP nor ICMP.
  for (const [ip, target] of [
    ['IP4', v4],
    ['IP6', `[${v6}]`],
  ] as const) {
    lab.spawn('server', ['socat', `${ip}-RECVFROM:${PROTOCOL},fork`, 'EXEC:cat']);
    await eventually(`${ip}: an exchange of a protocol of its own`, async () => {
      const raw = await run('sh', '-c', `echo tunnel | socat -t 2 - ${ip}-SENDTO:${target}:${PROTOCOL}`);
      return raw.stdout.includes('tunnel');
    });
  }
});
