// The programs a bare host must have, and how to get them. Plain JavaScript on Node built-ins only: it runs before
// anything is installed.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

// An ordinary user's PATH on Debian lacks the sbin directories, where nft and ip live.
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** PATH with the system directories that an ordinary user's PATH lacks appended. */
export function systemPath(path = process.env.PATH ?? '') {
  const given = path.split(delimiter).filter((directory) => directory !== '');
  return [...given, ...SYSTEM_DIRECTORIES.filter((directory) => !given.includes(directory))].join(delimiter);
}

/** Full path of a program, or undefined when the host has none of that name. */
export function findProgram(name, path = systemPath()) {
  for (const directory of path.split(delimiter)) {
    const candidate = join(directory, name);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch {
      // Not here; the next directory may have it.
    }
  }
  return undefined;
}

// program -> package, per package manager. util-linux (unshare, nsenter, flock) is essential on Debian but not everywhere.
const PACKAGES = {
  'g++': { apt: 'g++', dnf: 'gcc-c++', pacman: 'gcc', zypper: 'gcc-c++', apk: 'g++' },
  make: { apt: 'make', dnf: 'make', pacman: 'make', zypper: 'make', apk: 'make' },
  python3: { apt: 'python3', dnf: 'python3', pacman: 'python', zypper: 'python3', apk: 'python3' },
  ip: { apt: 'iproute2', dnf: 'iproute', pacman: 'iproute2', zypper: 'iproute2', apk: 'iproute2' },
  nft: { apt: 'nftables', dnf: 'nftables', pacman: 'nftables', zypper: 'nftables', apk: 'nftables' },
  curl: { apt: 'curl', dnf: 'curl', pacman: 'curl', zypper: 'curl', apk: 'curl' },
  unshare: {
    apt: 'util-linux',
    dnf: 'util-linux',
    pacman: 'util-linux',
    zypper: 'util-linux',
    apk: 'util-linux-misc',
  },
  nsenter: {
    apt: 'util-linux',
    dnf: 'util-linux',
    pacman: 'util-linux',
    zypper: 'util-linux',
    apk: 'util-linux-misc',
  },
};

const COMPILER = ['g++', 'make', 'python3'];
const LAB = ['ip', 'nft', 'curl', 'unshare', 'nsenter'];

/** Programs each mode needs. `check` reads sources only. */
export const PROGRAMS_OF_MODE = {
  check: [],
  build: COMPILER,
  test: [...COMPILER, ...LAB],
  demo: [...COMPILER, ...LAB],
};

/** Programs of a mode that this host lacks. */
export function missingPrograms(mode) {
  return PROGRAMS_OF_MODE[mode].filter((name) => findProgram(name) === undefined);
}

const INSTALL_COMMANDS = [
  ['apt-get', 'apt', (packages) => `apt-get update && apt-get install -y ${packages}`],
  ['dnf', 'dnf', (packages) => `dnf install -y ${packages}`],
  ['pacman', 'pacman', (packages) => `pacman -S --needed ${packages}`],
  ['zypper', 'zypper', (packages) => `zypper install -y ${packages}`],
  ['apk', 'apk', (packages) => `apk add ${packages}`],
];

function packagesFor(programs, manager) {
  return [...new Set(programs.map((name) => PACKAGES[name][manager]))].join(' ');
}

/** The one command that brings the missing programs, for the package manager this host has. */
export function installCommand(programs, find = findProgram) {
  for (const [program, manager, command] of INSTALL_COMMANDS) {
    if (find(program) !== undefined) return `sudo sh -c '${command(packagesFor(programs, manager))}'`;
  }
  return `install with your package manager: ${packagesFor(programs, 'apt')}`;
}

/** Installs missing programs where that is ours to do: as root on a Debian family host. Throws with the command otherwise. */
export function installPrograms(programs, run) {
  const root = process.getuid?.() === 0;
  if (!root || findProgram('apt-get') === undefined) {
    throw new Error(
      `this host lacks ${programs.join(', ')}; as ${root ? 'the package manager is not apt-get' : 'you are not root'}, ` +
        `please run:\n\n  ${installCommand(programs)}\n`,
    );
  }
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const packages = packagesFor(programs, 'apt').split(' ');
  run('apt-get', ['update'], { env: environment });
  run('apt-get', ['install', '-y', '--no-install-recommends', ...packages], { env: environment });
}

/** True when the program answers; used to probe what the host permits. */
export function succeeds(program, argv) {
  return spawnSync(program, argv, { stdio: 'ignore' }).status === 0;
}
