/**
 * Writes the JSON Schemas that are published with the package: of compose files, for editors, and of what the commands print
 * with --json: `node --import=tsx ops/schema/generate.ts && npx biome format --write ops/schema`. Tests hold them up to date.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { clusterSchema } from '../../cli/compose/schema.ts';
import { cliSchema } from './cli-schema.ts';

const fileOf = (name: string): string => fileURLToPath(new URL(`./${name}`, import.meta.url));
export const SCHEMA_FILE = fileOf('cluster.schema.json');
export const CLI_SCHEMA_FILE = fileOf('cli.schema.json');

const render = (schema: unknown): string => `${JSON.stringify(schema, null, 2)}\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(SCHEMA_FILE, render(clusterSchema()));
  writeFileSync(CLI_SCHEMA_FILE, render(await cliSchema()));
}
