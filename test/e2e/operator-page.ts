/**
 * The owner's troubleshooting page as a script: the lines a person would copy from it, and a host on which they can be run
 * word for word. `systemctl`, `journalctl` and `ssh` are stood in for by small programs that do the same to the lab's agent,
 * since neither systemd nor sshd runs in a network namespace.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { arcticCommand, operatorEnvironment } from '../../ops/lab/agent.ts';
import type { ExecResult, Lab } from '../../ops/lab/lab.ts';
import { namespacePath } from '../../ops/lab/namespaces.ts';

export const PAGE = readFileSync(
  fileURLToPath(new URL('../../fixtures/troubleshooting-page.txt', import.meta.url)),
  'utf8',
);

/** Programs a line of the page may begin with. */
const PROGRAM =
  /^(systemctl|journalctl|ss|curl|nc|nft|arctic|ip|ssh|ping|mtr|rm|traceroute|nslookup|dig|iptables|firewall-cmd) /;

/** Lines of the page that are commands; what was a block of its own there may run on into the next sentence. */
export const pageCommands = (): readonly string[] => PAGE.split('\n').filter((line) => PROGRAM.test(line));

/** They look at the host and the network, and Arctic has no part in what they say. */
export const HOST_COMMANDS = [
  'nft list ruleset | grep 8080',
  'iptables -L INPUT -n | grep 8080',
  'firewall-cmd --list-ports',
  'nc -u PEER_IP 51840',
  'traceroute PEER_IP',
  'mtr PEER_IP',
  'nslookup HOSTNAME',
  'dig HOSTNAME',
  'ping PEER_IP',
  'mtr DESTINATION',
  'ip route show',
] as const;

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** The stand-in for systemd: `start` returns when the agent runs, as with a unit of Type=exec. */
const systemctl = (agent: string, pidFile: string, log: string): string => `#!/bin/bash
pid() { cat ${pidFile} 2>/dev/null; }
runs() { [ -n "$(pid)" ] && kill -0 "$(pid)" 2>/dev/null; }
case "$1" in
  start)
    runs && exit 0
    setsid ${agent} >>${log} 2>&1 </dev/null &
    echo $! >${pidFile};;
  stop)
    runs || exit 0
    kill "$(pid)"
    for _ in $(seq 200); do runs || exit 0; sleep 0.1; done
    exit 1;;
  restart) "$0" stop && "$0" start;;
  status) if runs; then echo "Active: active (running)"; else echo "Active: inactive (dead)"; exit 3; fi;;
esac
`;

const journalctl = (log: string): string => `#!/bin/bash
lines=+1
while [ $# -gt 0 ]; do
  case "$1" in
    -n) lines=$2; shift;;
    -f) exec tail -n 10 -f ${log};;
  esac
  shift
done
exec tail -n "$lines" ${log}
`;

export interface PageHost {
  /** Runs a line as it stands on the page, with its words in capitals filled in. */
  type(line: string, timeout?: number): Promise<ExecResult>;
  fill(words: Readonly<Record<string, string>>): void;
}

/** Makes a host of the lab one on which the page can be followed. `other` is what ssh leads to. */
export function pageHost(lab: Lab, name: string, other: string): PageHost {
  const host = lab.host(name);
  const bin = join(host.directory, 'bin');
  const dataDir = join(host.directory, 'data');
  const log = join(host.directory, 'journal.log');
  mkdirSync(bin, { recursive: true });
  writeFileSync(log, '');
  const settings: Record<string, string> = {
    ...operatorEnvironment(host),
    DATA_DIR: dataDir,
    CONFIG_DIR: join(host.directory, 'config'),
    ADVERTISE_ADDRESS: `${host.address.ipv4}:8080`,
    PARENT_INTERFACE: host.address.name,
  };
  const program = (path: string, text: string): void => {
    writeFileSync(join(bin, path), text);
    chmodSync(join(bin, path), 0o755);
  };
  program('arctic', `#!/bin/bash\nexec ${arcticCommand().map(quoted).join(' ')} "$@"\n`);
  program('systemctl', systemctl(`${join(bin, 'arctic')} agent`, join(host.directory, 'pid'), log));
  program('journalctl', journalctl(log));
  const otherBin = join(lab.host(other).directory, 'bin');
  program(
    'ssh',
    `#!/bin/bash\nshift\nPATH=${otherBin}:$PATH exec nsenter --net=${namespacePath(lab.host(other).namespace)} -- "$@"\n`,
  );
  const words: Record<string, string> = { '/opt/tillered': dataDir };
  return {
    fill: (more) => void Object.assign(words, more),
    type(line, timeout = 90_000) {
      const filled = Object.entries(words).reduce(
        (text, [word, value]) => text.replaceAll(word, value),
        line,
      );
      return lab.exec(name, ['bash', '-c', filled], {
        env: { ...settings, PATH: `${bin}:${settings['PATH']}` },
        cwd: host.directory,
        check: false,
        timeout,
      });
    },
  };
}
