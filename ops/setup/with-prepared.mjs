// `with-prepared.mjs MODE -- command...`: prepares, then runs the command with its exit code and signals passed through.
// The lab needs network namespaces. Without root it is put into an unprivileged user namespace with its own network,
// mounts and processes, where it is root over what it makes itself and over nothing else.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { prepareOrExplain } from './prepare.mjs';
import { findProgram, succeeds, systemPath } from './programs.mjs';

const SELF = fileURLToPath(import.meta.url);
const INSIDE = '--inside-namespace';
const UNSHARE = [
  '--user',
  '--map-root-user',
  '--net',
  '--mount',
  '--pid',
  '--fork',
  '--kill-child',
  '--mount-proc',
];
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'];

function say(text) {
  process.stderr.write(`${text}\n`);
}

function readSysctl(key) {
  const path = `/proc/sys/${key.replaceAll('.', '/')}`;
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

/** Why this host forbids an unprivileged user namespace, as far as it tells. */
function whyForbidden() {
  if (readSysctl('user.max_user_namespaces') === '0') return 'the sysctl user.max_user_namespaces is 0';
  if (readSysctl('kernel.unprivileged_userns_clone') === '0')
    return 'the sysctl kernel.unprivileged_userns_clone is 0';
  if (readSysctl('kernel.apparmor_restrict_unprivileged_userns') === '1') {
    return 'AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)';
  }
  return 'unshare(2) refuses (a container runtime or a security module stands in the way)';
}

/** The process to signal behind `unshare --fork`, which itself ignores signals while it waits. */
function firstChildOf(pid) {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    return children[0] === '' ? undefined : Number(children[0]);
  } catch {
    return undefined;
  }
}

/** Runs a program on our own terminal; ends this process as the program ended. */
function become(program, argv, { env = process.env, target = (pid) => pid } = {}) {
  const child = spawn(program, argv, { stdio: 'inherit', env: { ...env, PATH: systemPath(env.PATH) } });
  for (const signal of FORWARDED) {
    process.on(signal, () => {
      const pid = child.pid === undefined ? undefined : target(child.pid);
      try {
        if (pid !== undefined) process.kill(pid, signal);
      } catch {
        // It ended by itself meanwhile; its exit is on its way.
      }
    });
  }
  child.on('error', (error) => {
    say(`cannot run ${program}: ${error.message}`);
    process.exit(127);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
}

/** First process inside the new namespaces: gives `ip netns` a place of its own, then runs the command. */
function runInside(command) {
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', '/run'], { encoding: 'utf8' });
  if (mount.status !== 0) {
    say(`cannot mount a private /run in the user namespace: ${mount.stderr.trim()}`);
    process.exit(1);
  }
  mkdirSync('/run/netns', { recursive: true });
  become(command[0], command.slice(1), { env: { ...process.env, ARCTIC_UNPRIVILEGED: '1' } });
}

function main([mode, separator, ...command]) {
  if (mode === INSIDE) {
    runInside([separator, ...command]);
    return;
  }
  if (mode === undefined || separator !== '--' || command.length === 0) {
    say('usage: with-prepared.mjs check|build|test|demo -- command [argument...]');
    process.exitCode = 2;
    return;
  }
  const prepared = prepareOrExplain(mode);
  if (prepared !== 0) {
    process.exitCode = prepared;
    return;
  }
  const needsNetwork = mode === 'test' || mode === 'demo';
  const root = process.getuid?.() === 0;
  const unshare = findProgram('unshare') ?? 'unshare';
  // Root of a container may still lack CAP_SYS_ADMIN.
  if (!needsNetwork || (root && succeeds(unshare, ['--net', '--mount', 'true']))) {
    become(command[0], command.slice(1));
    return;
  }
  if (!root && succeeds(unshare, [...UNSHARE, 'true'])) {
    say('not root: running inside an unprivileged user and network namespace');
    const argv = [...UNSHARE, process.execPath, SELF, INSIDE, ...command];
    // For whoever wants to enter from outside: our child is in the new namespaces, and its pid is known there alone.
    become(unshare, argv, {
      target: firstChildOf,
      env: { ...process.env, ARCTIC_OUTER_PID: String(process.pid) },
    });
    return;
  }
  const who = root ? 'this root user' : 'an ordinary user';
  say(`this host gives ${who} no network namespace: ${root ? 'CAP_SYS_ADMIN is missing' : whyForbidden()}.`);
  if (mode === 'demo') {
    say(
      'The demo makes hosts out of network namespaces, so it cannot run here. Run it as root of a host: sudo npm run demo',
    );
    process.exitCode = 1;
    return;
  }
  say('Tests that need the kernel (test/kernel, test/e2e, test/fault) are left out and counted as skipped.');
  say('Run them as root of a host: sudo npm test');
  become(command[0], command.slice(1), { env: { ...process.env, ARCTIC_WITHOUT_NAMESPACES: '1' } });
}

main(process.argv.slice(2));
