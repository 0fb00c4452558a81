// Makes the program that is installed: `bundle.mjs DIRECTORY` writes cli/main.js and its chunks below it. An agent loads
// some 1,700 modules; looking each up and reading it took most of a start, and a start is how long a host whose agent
// was restarted goes without its transport. Commands stay chunks of their own, so that one loads no other's code.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('usage: node ops/setup/bundle.mjs DIRECTORY');

/** A lazily imported CommonJS package has only a default export in a bundle, which no type check sees. */
const lazyCommonJs = {
  name: 'lazy-commonjs',
  setup({ onResolve, resolve }) {
    onResolve({ filter: /^[^.]/ }, async ({ path, kind, importer, pluginData, resolveDir }) => {
      if (kind !== 'dynamic-import' || pluginData === lazyCommonJs || path.startsWith('node:'))
        return undefined;
      const found = await resolve(path, { kind, importer, resolveDir, pluginData: lazyCommonJs });
      if (found.errors.length > 0 || found.external || !isCommonJs(found.path)) return found;
      return {
        errors: [
          {
            text: `${path} is CommonJS: re-export what is needed of it from a module of ours, and import that lazily`,
          },
        ],
      };
    });
  },
};

/** By the nearest package.json (https://nodejs.org/api/packages.html#determining-module-system). */
function isCommonJs(file) {
  if (/\.[cm]js$/.test(file)) return file.endsWith('.cjs');
  for (let directory = dirname(file); directory !== dirname(directory); directory = dirname(directory)) {
    const manifest = join(directory, 'package.json');
    if (existsSync(manifest)) return JSON.parse(readFileSync(manifest, 'utf8')).type !== 'module';
  }
  return true;
}

await build({
  absWorkingDir: ROOT,
  entryPoints: { main: join(ROOT, 'cli', 'main.ts') },
  outdir: join(directory, 'cli'),
  // Two levels below the package, as the sources' own directories are one: places are looked for upwards from there.
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.18',
  // Holds a binary of its own, which it finds beside itself.
  external: ['better-sqlite3'],
  // CommonJS packages in the bundle ask for Node's own modules by require().
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
  // Errors and plugins are known by their names.
  keepNames: true,
  plugins: [lazyCommonJs],
  sourcemap: true,
  sourcesContent: false,
  // The notices of the packages within stay with what is distributed.
  legalComments: 'linked',
  logLevel: 'warning',
});
