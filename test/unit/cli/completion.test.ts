import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { completionScript, type Shell } from '../../../cli/completion-script.ts';
import { rememberNames } from '../../../cli/known-names.ts';
import { GROUPS } from '../../../cli/table.ts';
import { createHome } from './run-cli.ts';

const home = createHome();
t.teardown(() => home.remove());
mkdirSync(join(home.directory, 'arctic'), { recursive: true });
rememberNames(home.configPath, 'peer', ['london', 'paris']);
rememberNames(home.configPath, 'service', ['web', 'with space']);
rememberNames(home.configPath, 'route:web', ['1', '2']);
rememberNames(home.configPath, 'peer', ['paris', 'rome']);

const installed = (shell: string): boolean => {
  try {
    execFileSync(shell, ['-c', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

const quote = (text: string): string => `'${text}'`;

/** What each shell is made to do with the script so that it prints what it would offer. */
const ASK: Readonly<Record<Shell, (file: string, line: readonly string[]) => string>> = {
  bash: (file, line) =>
    `source ${quote(file)}; COMP_WORDS=(${line.map(quote).join(' ')}); COMP_CWORD=${line.length - 1}; _arctic; printf '%s\\n' "\${COMPREPLY[@]}"`,
  zsh: (file, line) =>
    `source ${quote(file)}; line=(${line.map(quote).join(' ')}); current=${line.length - 1}; partial=${quote(line.at(-1) ?? '')}; ` +
    `previous=${quote(line.at(-2) ?? '')}; offer=''; files=''; _arctic_resolve; print -rl -- \${=offer}`,
  fish: (file, line) =>
    `source ${quote(file)}; complete -C ${quote(line.join(' '))} | string replace -r '\\t.*' ''; true`,
};

const ENVIRONMENT = {
  PATH: process.env['PATH'] ?? '',
  HOME: home.directory,
  XDG_CONFIG_HOME: home.directory,
};

for (const shell of ['bash', 'zsh', 'fish'] as const)
  t.test(`${shell} completes commands, flags and names`, async (t) => {
    if (!installed(shell)) return t.comment(`${shell} is not installed here`);
    const file = join(home.directory, `arctic.${shell}`);
    writeFileSync(file, completionScript(shell, GROUPS));
    const args = shell === 'zsh' ? ['-f', '-c'] : shell === 'fish' ? ['--no-config', '-c'] : ['-c'];
    const offered = (...line: string[]) => {
      const partial = line.at(-1) ?? '';
      return execFileSync(shell, [...args, ASK[shell](file, line)], { encoding: 'utf8', env: ENVIRONMENT })
        .split('\n')
        .filter((word) => word !== '' && word.startsWith(partial))
        .sort();
    };
    t.same(offered('arctic', 'pe'), ['peers']);
    t.same(offered('arctic', 'peers', 're'), ['remove-self']);
    t.same(offered('arctic', 'license', 'root', ''), ['create']);
    t.same(offered('arctic', 'peers', 'get', ''), ['paris', 'rome'], 'names listed last');
    t.same(offered('arctic', 'peer', 'rm', ''), ['paris', 'rome'], 'by way of aliases');
    t.same(offered('arctic', '--debug', '--url', 'x', 'service', 'get', ''), ['web'], 'past flags');
    t.same(offered('arctic', 'services', 'create', '--target-peer', 'r'), ['rome']);
    t.same(offered('arctic', 'services', 'create', '--transport', ''), ['auto', 'kcp', 'tcp']);
    t.same(
      offered('arctic', 'routes', 'update', '--service', 'web', ''),
      ['1', '2'],
      'routes of that service',
    );
    t.same(offered('arctic', 'peers', 'list', '--l'), ['--local']);
    t.ok(offered('arctic', 'version', '--').includes('--json'));
  });
