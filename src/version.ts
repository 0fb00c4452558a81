import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The version of this program, `v1.4.0`, from the package it was installed as. */
export function readVersion(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (let depth = 0; depth < 6; depth += 1) {
    try {
      const manifest: unknown = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
      if (
        typeof manifest === 'object' &&
        manifest !== null &&
        'name' in manifest &&
        manifest.name === 'arctic'
      ) {
        return `v${'version' in manifest ? String(manifest.version) : '0.0.0'}`;
      }
    } catch {
      // No manifest here: the next directory up.
    }
    directory = dirname(directory);
  }
  return 'v0.0.0';
}
