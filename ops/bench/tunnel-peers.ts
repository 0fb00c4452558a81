/** What a user would pick instead of the IP tunnel: Debian's packages, each as one pair of processes between two namespaces. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Netns } from '../../test/kernel/netns.ts';
import { installPackages } from '../lab/packages.ts';

const run = promisify(execFile);

/** Inside MTU of every peer, as WireGuard's programs set it. */
const MTU = 1420;

const PACKAGES = {
  '/usr/bin/iperf3': 'iperf3',
  '/usr/bin/wg': 'wireguard-tools',
  '/usr/bin/wireguard-go': 'wireguard-go',
  '/usr/bin/nebula': 'nebula',
  '/usr/sbin/openvpn': 'openvpn',
  '/usr/bin/openssl': 'openssl',
  '/usr/sbin/tincd': 'tinc',
  '/usr/bin/fastd': 'fastd',
} as const;

/** Installs what is missing, with apt-get; needs root. Answers the versions of all. */
export async function installPeers(): Promise<string> {
  const missing = Object.entries(PACKAGES).filter(([path]) => !existsSync(path));
  if (missing.length > 0) {
    const packages = missing.map(([, name]) => name);
    installPackages(packages);
  }
  const { stdout } = await run('dpkg-query', ['-W', ...Object.values(PACKAGES)]);
  return stdout.trim().replaceAll('\t', ' ').replaceAll('\n', ', ');
}

export interface End {
  readonly netns: Netns;
  /** Address on the wire. */
  readonly outside: string;
}

export interface Pair {
  readonly a: End;
  readonly b: End;
  /** For keys, configurations and logs; one for each peer. */
  readonly directory: string;
  readonly children: ChildProcess[];
}

export interface Contender {
  readonly name: string;
  /** From where to where the load goes. */
  readonly from: Netns;
  readonly to: Netns;
  readonly address: string;
  /** Whose CPU time counts. */
  readonly pids: readonly number[];
  /** The far end's address on the bare wire below the tunnel, where it can be reached. */
  readonly wire?: string;
  /** 99th percentile of the event loop delay, ms, of the worse end since the last call. */
  readonly loopDelay?: () => Promise<number>;
}

type StartPeer = (pair: Pair) => Promise<Contender>;

function start(pair: Pair, end: End, label: string, argv: readonly string[], cwd?: string): number {
  const log = openSync(join(pair.directory, `${label}.log`), 'w');
  const child = spawn('ip', [...end.netns.prefix, ...argv], { stdio: ['ignore', log, log], cwd });
  pair.children.push(child);
  return child.pid ?? 0;
}

const file = (directory: string, name: string, text: string): string => {
  const path = join(directory, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text, { mode: 0o600 });
  return path;
};

const ends = ({ a, b }: Pair) => [
  { own: a, other: b, number: 1, label: 'a' },
  { own: b, other: a, number: 2, label: 'b' },
];

async function address(end: End, device: string, cidr: string): Promise<void> {
  await end.netns.exec('ip', 'address', 'replace', cidr, 'dev', device);
  await end.netns.exec('ip', 'link', 'set', device, 'mtu', String(MTU), 'up');
}

async function device(end: End, name: string): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      await end.netns.exec('ip', 'link', 'show', name);
      return;
    } catch {
      await sleep(100);
    }
  }
  throw new Error(`${name} does not come up; see the log`);
}

const contender = (pair: Pair, name: string, inside: string, pids: readonly number[]): Contender => ({
  name,
  from: pair.a.netns,
  to: pair.b.netns,
  address: inside,
  pids,
});

const wireguardGo: StartPeer = async (pair) => {
  const keys = ends(pair).map(() => {
    const secret = execFileSync('wg', ['genkey']).toString().trim();
    return { secret, open: execFileSync('wg', ['pubkey'], { input: secret }).toString().trim() };
  });
  const pids: number[] = [];
  for (const [index, { own, other, number, label }] of ends(pair).entries()) {
    const name = `wgb${number}`;
    pids.push(start(pair, own, label, ['wireguard-go', '-f', name]));
    await device(own, name);
    const secret = file(pair.directory, `${label}.key`, keys[index]?.secret ?? '');
    const peer = ['peer', keys[1 - index]?.open ?? '', 'allowed-ips', '0.0.0.0/0'];
    const endpoint = `${other.outside}:${51_820 + 3 - number}`;
    await own.netns.exec(
      'wg',
      ...['set', name, 'listen-port', String(51_820 + number), 'private-key', secret],
      ...[...peer, 'endpoint', endpoint],
    );
    await address(own, name, `10.78.0.${number}/24`);
  }
  return contender(pair, 'wireguard-go', '10.78.0.2', pids);
};

const nebula: StartPeer = async (pair) => {
  const { directory } = pair;
  const cert = (...args: string[]) => run('nebula-cert', args, { cwd: directory });
  await cert('ca', '-name', 'bench');
  const pids: number[] = [];
  for (const { number, label } of ends(pair))
    await cert('sign', '-name', label, '-ip', `10.79.0.${number}/24`);
  for (const { own, other, number, label } of ends(pair)) {
    const config = file(
      directory,
      `${label}.yml`,
      `
pki: { ca: ${directory}/ca.crt, cert: ${directory}/${label}.crt, key: ${directory}/${label}.key }
static_host_map: { "10.79.0.${3 - number}": ["${other.outside}:4242"] }
lighthouse: { am_lighthouse: false, hosts: [] }
listen: { host: 0.0.0.0, port: 4242 }
tun: { dev: neb${number}, mtu: ${MTU} }
cipher: aes
logging: { level: warning }
firewall:
  outbound: [{ port: any, proto: any, host: any }]
  inbound: [{ port: any, proto: any, host: any }]
`,
    );
    pids.push(start(pair, own, label, ['nebula', '-config', config]));
    await device(own, `neb${number}`);
  }
  return contender(pair, 'nebula', '10.79.0.2', pids);
};

const openvpn: StartPeer = async (pair) => {
  const { directory } = pair;
  const prints: string[] = [];
  for (const { label } of ends(pair)) {
    const out = ['-keyout', `${directory}/${label}.key`, '-out', `${directory}/${label}.crt`];
    const request = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${label}`;
    await run('openssl', [...request.split(' '), ...out]);
    const print = ['x509', '-in', `${directory}/${label}.crt`, '-noout', '-sha256', '-fingerprint'];
    prints.push((await run('openssl', print)).stdout.trim().split('=')[1] ?? '');
  }
  const pids: number[] = [];
  for (const [index, { own, other, number, label }] of ends(pair).entries()) {
    const config = file(
      directory,
      `${label}.conf`,
      `
dev ovpn${number}
dev-type tun
proto udp
local ${own.outside}
remote ${other.outside}
port 1194
ifconfig 10.80.0.${number} 10.80.0.${3 - number}
tun-mtu ${MTU}
mssfix 0
data-ciphers AES-256-GCM
${number === 1 ? 'tls-client' : 'tls-server\ndh none'}
cert ${directory}/${label}.crt
key ${directory}/${label}.key
peer-fingerprint "${prints[1 - index]}"
disable-dco
verb 2
`,
    );
    pids.push(start(pair, own, label, ['openvpn', '--config', config]));
  }
  return contender(pair, 'openvpn', '10.80.0.2', pids);
};

const tinc: StartPeer = async (pair) => {
  const pids: number[] = [];
  const folder = (label: string) => join(pair.directory, label);
  const host = (one: { readonly own: End; readonly number: number }): string =>
    `Address = ${one.own.outside}\nPort = 655\nSubnet = 10.81.0.${one.number}/32\n`;
  for (const one of ends(pair)) {
    const { number, label } = one;
    const other = number === 1 ? 'b' : 'a';
    file(
      folder(label),
      'tinc.conf',
      `Name = ${label}\nConnectTo = ${other}\nInterface = tinc${number}\nDeviceType = tun\n`,
    );
    file(folder(label), `hosts/${label}`, host(one));
    await run('sh', ['-c', `tincd -c ${folder(label)} -K2048 </dev/null`]);
  }
  for (const { own, number, label } of ends(pair)) {
    const other = number === 1 ? 'b' : 'a';
    await run('cp', [join(folder(other), 'hosts', other), join(folder(label), 'hosts', other)]);
    const pidfile = `--pidfile=${folder(label)}/pid`;
    pids.push(start(pair, own, label, ['tincd', '-c', folder(label), '-D', '-d1', pidfile]));
    await device(own, `tinc${number}`);
    await address(own, `tinc${number}`, `10.81.0.${number}/24`);
  }
  return contender(pair, 'tinc', '10.81.0.2', pids);
};

const fastd: StartPeer = async (pair) => {
  const keys = await Promise.all(
    ends(pair).map(async () => {
      const { stdout } = await run('fastd', ['--generate-key', '--machine-readable']);
      const secret = stdout.trim();
      const path = file(pair.directory, `key-${secret.slice(0, 8)}`, `secret "${secret}";\n`);
      const shown = await run('fastd', ['--show-key', '--machine-readable', '-c', path]);
      return { secret, open: shown.stdout.trim() };
    }),
  );
  const pids: number[] = [];
  for (const [index, { own, other, number, label }] of ends(pair).entries()) {
    const config = file(
      pair.directory,
      `${label}.conf`,
      `
interface "fastd${number}";
mode tun;
mtu ${MTU};
method "salsa2012+umac";
bind ${own.outside}:10000;
secret "${keys[index]?.secret}";
log level warn;
peer "other" { key "${keys[1 - index]?.open}"; remote ${other.outside}:10000; }
`,
    );
    pids.push(start(pair, own, label, ['fastd', '-c', config]));
    await device(own, `fastd${number}`);
    await address(own, `fastd${number}`, `10.82.0.${number}/24`);
  }
  return contender(pair, 'fastd', '10.82.0.2', pids);
};

export const PEERS: Readonly<Record<string, StartPeer>> = {
  'wireguard-go': wireguardGo,
  nebula,
  openvpn,
  tinc,
  fastd,
};

/** Waits until pings come through. Throws when none does within half a minute. */
export async function awaitContender({ name, from, address: to }: Contender): Promise<void> {
  for (let tries = 0; tries < 30; tries += 1) {
    const child = spawn('ip', [...from.prefix, 'ping', '-c', '1', '-W', '1', to], { stdio: 'ignore' });
    const [code] = await once(child, 'exit');
    if (code === 0) return;
    await sleep(200);
  }
  throw new Error(`${name} carries nothing`);
}
