import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeOwnFile } from './config-file.ts';

/**
 * Names that completion offers, in a file a shell can read without starting Node: one `kind<TAB>name` a line. Kinds are
 * `peer`, `service`, `cluster` and `route:SERVICE`. It follows what was listed last; a name that is gone does no harm.
 */
export const namesPath = (configPath: string): string => join(dirname(configPath), 'names');

const MOST = 5_000;

/** Replaces the names of one kind. A file that cannot be written leaves completion poorer, and nothing else. */
export function rememberNames(configPath: string, kind: string, names: readonly string[]): void {
  const path = namesPath(configPath);
  let old = '';
  try {
    old = readFileSync(path, 'utf8');
  } catch {
    // The first time.
  }
  const others = old.split('\n').filter((line) => line !== '' && !line.startsWith(`${kind}\t`));
  // A name with a space or a quote would need quoting that differs between shells.
  const plain = names.filter((name) => /^[A-Za-z0-9._:@/-]+$/.test(name)).slice(0, MOST);
  const next = [...others, ...plain.map((name) => `${kind}\t${name}`)].map((line) => `${line}\n`).join('');
  if (next === old) return;
  try {
    writeOwnFile(path, next);
  } catch {
    // See above.
  }
}
