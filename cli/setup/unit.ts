import { existsSync, lstatSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { configurationFailure } from '../failure.ts';

export const UNIT_NAME = 'arctic.service';
export const UNIT_PATH = `/etc/systemd/system/${UNIT_NAME}`;
const WANTED_BY = `/etc/systemd/system/multi-user.target.wants/${UNIT_NAME}`;

/** Arguments of node that this process was started with and another one needs too (a loader of the sources). */
const loaderArguments = (): readonly string[] =>
  process.execArgv.filter((argument) => argument.startsWith('--import='));

/** The command that is `arctic` here: node, and this program's main file. */
export function arcticProgram(): readonly string[] {
  const built = fileURLToPath(new URL('../main.js', import.meta.url));
  const main = existsSync(built) ? built : fileURLToPath(new URL('../main.ts', import.meta.url));
  return [process.execPath, ...loaderArguments(), main];
}

/** What a unit of this installation starts. */
export const agentProgram = (): readonly string[] => [...arcticProgram(), 'agent'];

/** The unit as the package carries it. */
function unitTemplate(): string {
  for (const place of ['../../ops/systemd/arctic.service', '../../../ops/systemd/arctic.service']) {
    try {
      return readFileSync(new URL(place, import.meta.url), 'utf8');
    } catch {
      // Sources and dist lie at different depths.
    }
  }
  throw configurationFailure('this installation is incomplete: ops/systemd/arctic.service is missing.');
}

/** A word of ExecStart= (systemd.service(5), Command lines): quoted where it must be, specifiers and variables escaped. */
const quoteWord = (word: string): string => {
  const escaped = word.replaceAll('%', '%%').replaceAll('$', '$$$$');
  return /[\s"'\\;]/.test(escaped) ? `"${escaped.replaceAll(/["\\]/g, '\\$&')}"` : escaped;
};

export interface UnitOptions {
  readonly program: readonly string[];
  readonly environmentFile: string;
  readonly dataDir: string;
  readonly configDir: string;
}

/** The unit of this host: the packaged one with its program, its settings and the directories it may write. */
export function renderUnit(options: UnitOptions, template: string = unitTemplate()): string {
  const { program, environmentFile, dataDir, configDir } = options;
  const lines = template
    .replace(/^ExecStart=.*$/m, () => `ExecStart=${program.map(quoteWord).join(' ')}`)
    .replace(/^EnvironmentFile=.*$/m, () => `EnvironmentFile=-${quoteWord(environmentFile)}`)
    .replace(/^ReadWritePaths=.*$/m, () => `ReadWritePaths=${[dataDir, configDir].map(quoteWord).join(' ')}`);
  // What is under /home or /root must at least be readable to be run.
  const inHome = program.some((word) => /^\/(home|root)\//.test(word));
  return inHome ? lines.replace(/^ProtectHome=yes$/m, 'ProtectHome=read-only') : lines;
}

/** What the unit on this host starts; undefined without a unit. */
export function programOfUnit(path: string = UNIT_PATH): string | undefined {
  try {
    return /^ExecStart=(.*)$/m.exec(readFileSync(path, 'utf8'))?.[1]?.replaceAll('"', '');
  } catch {
    return undefined;
  }
}

export function unitIsEnabled(): boolean {
  try {
    lstatSync(WANTED_BY);
    return true;
  } catch {
    return false;
  }
}
