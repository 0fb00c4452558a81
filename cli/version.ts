import { readFileSync } from 'node:fs';

/** `v1.4.0`, from the package this file belongs to: beside `cli/` in the sources, one up in `dist/`. */
export function cliVersion(): string {
  for (const place of ['../package.json', '../../package.json']) {
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
