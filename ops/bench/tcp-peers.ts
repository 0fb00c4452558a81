/** What a user would pick instead of Arctic: their Debian packages, and how each carries one port across the lab. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Lab, LabProcess } from '../lab/lab.ts';
import { installPackages } from '../lab/packages.ts';

const run = promisify(execFile);

const PACKAGES = {
  '/usr/sbin/haproxy': 'haproxy',
  '/usr/sbin/nginx': 'nginx-light',
  '/usr/lib/nginx/modules/ngx_stream_module.so': 'libnginx-mod-stream',
  '/usr/bin/ss-server': 'shadowsocks-libev',
  '/usr/bin/openssl': 'openssl',
  '/usr/bin/kcptun-server': 'kcptun',
} as const;

/** Debian starts and enables what it installs; the benchmark wants the programs only. */
const UNITS = ['haproxy', 'nginx', 'shadowsocks-libev'] as const;

/** Installs what is missing, with apt-get; needs root. Answers the versions of all. */
export async function installPeers(): Promise<string> {
  const missing = Object.entries(PACKAGES).filter(([path]) => !existsSync(path));
  if (missing.length > 0) {
    const packages = missing.map(([, name]) => name);
    installPackages(packages);
    const units = UNITS.filter((unit) => packages.some((name) => name.startsWith(unit)));
    if (existsSync('/run/systemd/system') && units.length > 0) {
      await run('systemctl', ['disable', '--now', ...units]);
    }
  }
  const { stdout } = await run('dpkg-query', ['-W', ...Object.values(PACKAGES)]);
  return stdout.trim().replaceAll('\t', ' ').replaceAll('\n', ', ');
}

/** Starts a program of one host with the congestion control its sockets shall have. */
export type StartProgram = (host: 'entry' | 'exit', argv: readonly string[]) => LabProcess;

export interface PeerPlan {
  readonly name: string;
  /** Where clients connect on the entry. */
  readonly listen: number;
  /** Between the two. */
  readonly carrier: number;
  readonly entry: string;
  readonly exit: string;
  readonly target: string;
}

type StartPeer = (lab: Lab, plan: PeerPlan, start: StartProgram) => Promise<readonly LabProcess[]>;

/** One certificate for the exit of every TLS peer, verified by the entry. */
async function certificate(lab: Lab): Promise<{ readonly chain: string; readonly bundle: string }> {
  const chain = join(lab.directory, 'peer.crt');
  const key = join(lab.directory, 'peer.key');
  const bundle = join(lab.directory, 'peer.pem');
  if (!existsSync(bundle)) {
    const request = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=exit';
    await run('openssl', [...request.split(' '), '-keyout', key, '-out', chain]);
    const { stdout } = await run('cat', [chain, key]);
    writeFileSync(bundle, stdout, { mode: 0o600 });
  }
  return { chain, bundle };
}

function configuration(lab: Lab, host: 'entry' | 'exit', name: string, text: string): string {
  const directory = join(lab.host(host).directory, name);
  mkdirSync(directory, { recursive: true });
  const path = join(directory, 'config');
  writeFileSync(path, text);
  return path;
}

/** `bufferSize` undefined is HAProxy's own default, 16 KiB. TCP mode, TLS 1.3 between the two, certificate verified. */
export const haproxy =
  (bufferSize?: number): StartPeer =>
  async (lab, plan, start) => {
    const { chain, bundle } = await certificate(lab);
    const head = `
global
  maxconn 4000
${bufferSize === undefined ? '' : `  tune.bufsize ${bufferSize}\n`}
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
`;
    const near = `${head}
listen bench
  bind ${plan.entry}:${plan.listen}
  server exit ${plan.exit}:${plan.carrier} ssl verify required ca-file ${chain} verifyhost exit ssl-min-ver TLSv1.3
`;
    const far = `${head}
listen bench
  bind ${plan.exit}:${plan.carrier} ssl crt ${bundle} ssl-min-ver TLSv1.3
  server target ${plan.target}
`;
    return [
      start('exit', ['haproxy', '-db', '-f', configuration(lab, 'exit', plan.name, far)]),
      start('entry', ['haproxy', '-db', '-f', configuration(lab, 'entry', plan.name, near)]),
    ];
  };

export const nginx: StartPeer = async (lab, plan, start) => {
  const { chain, bundle } = await certificate(lab);
  const config = (host: 'entry' | 'exit', server: string): string[] => {
    const directory = join(lab.host(host).directory, plan.name);
    const text = `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes auto;
pid ${directory}/pid;
error_log ${directory}/error.log;
events { worker_connections 4096; }
stream {
  ssl_protocols TLSv1.3;
  proxy_ssl_protocols TLSv1.3;
  server {
${server}
  }
}
`;
    return ['nginx', '-e', `${directory}/error.log`, '-c', configuration(lab, host, plan.name, text)];
  };
  const far = `
    listen ${plan.exit}:${plan.carrier} ssl;
    ssl_certificate ${bundle};
    ssl_certificate_key ${bundle};
    proxy_pass ${plan.target};`;
  const near = `
    listen ${plan.entry}:${plan.listen};
    proxy_pass ${plan.exit}:${plan.carrier};
    proxy_ssl on;
    proxy_ssl_verify on;
    proxy_ssl_name exit;
    proxy_ssl_trusted_certificate ${chain};`;
  return [start('exit', config('exit', far)), start('entry', config('entry', near))];
};

/** ss-tunnel is ss-redir without the firewall's redirection: one fixed destination, the same data path. */
export const shadowsocks: StartPeer = async (_lab, plan, start) => {
  const common = ['-k', 'benchmark', '-m', 'aes-256-gcm', '--no-delay', '-t', '60'];
  const server = ['-s', plan.exit, '-p', String(plan.carrier)];
  return [
    start('exit', ['ss-server', ...server, ...common]),
    start('entry', [
      'ss-tunnel',
      ...server,
      ...common,
      ...['-b', plan.entry, '-l', String(plan.listen)],
      ...['-L', plan.target],
    ]),
  ];
};

/** Its usual tuning for lossy lines: mode `fast2`, ten data to three parity shards, AES, windows that fill 200 Mbit/s. */
export const kcptun: StartPeer = async (_lab, plan, start) => {
  const tuning =
    '--mode fast2 --crypt aes --ds 10 --ps 3 --nocomp --sndwnd 4096 --rcvwnd 4096 --sockbuf 16777216';
  const buffers = '--smuxver 2 --smuxbuf 33554432 --streambuf 16777216 --quiet';
  const options = `${tuning} ${buffers}`.split(' ');
  const carrier = `${plan.exit}:${plan.carrier}`;
  return [
    start('exit', ['kcptun-server', '-l', carrier, '-t', plan.target, ...options]),
    start('entry', ['kcptun-client', '-l', `${plan.entry}:${plan.listen}`, '-r', carrier, ...options]),
  ];
};
