/**
 * Writes the JSON Schema of compose files for editors: `node --import=tsx ops/schema/generate.ts && npx biome format --write ops/schema`.
 * A test holds it up to date.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { clusterSchema } from '../../cli/compose/schema.ts';

export const SCHEMA_FILE = fileURLToPath(new URL('./cluster.schema.json', import.meta.url));

export const renderSchema = (): string => `${JSON.stringify(clusterSchema(), null, 2)}\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(SCHEMA_FILE, renderSchema());
