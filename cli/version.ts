import { readFileSync } from 'node:fs';

/** `v1.4.0`, from the package this file belongs to: above `cli/` in the sources, `dist/cli/` or `dist/cli/chunks/`. */
export function cliVersion(): string {
  for (const place of ['../package.json', '../../package.json', '../../../package.json']) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(place, import.meta.url), 'utf8'));
      if (typeof found === 'object' && found !== null && 'version' in found)
        return `v${String(found.version)}`;
    } catch {
      // Not here.
    }
  }
  return 'v0.0.0-unknown';
}
