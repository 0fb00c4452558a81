/** The JSON Schema of what every command prints with `--json`, from the declarations in cli/table/. */
import type { TSchema } from 'typebox';
import type { JsonOutput } from '../../cli/json-output.ts';
import { GROUPS } from '../../cli/table.ts';
import * as changes from '../../src/api/schemas/changes.ts';
import * as cluster from '../../src/api/schemas/cluster.ts';
import * as credentials from '../../src/api/schemas/credentials.ts';
import * as drift from '../../src/api/schemas/drift.ts';
import * as events from '../../src/api/schemas/events.ts';
import * as fields from '../../src/api/schemas/fields.ts';
import * as health from '../../src/api/schemas/health.ts';
import * as license from '../../src/api/schemas/license.ts';
import * as oauth from '../../src/api/schemas/oauth.ts';
import * as peers from '../../src/api/schemas/peers.ts';
import * as reconcilers from '../../src/api/schemas/reconcilers.ts';
import * as replay from '../../src/api/schemas/replay.ts';
import * as routes from '../../src/api/schemas/routes.ts';
import * as services from '../../src/api/schemas/services.ts';
import { FlowNow, Traffic } from '../../src/api/traffic.ts';

const apiSchemas = {
  ...changes,
  ...cluster,
  ...credentials,
  ...drift,
  ...events,
  ...fields,
  ...health,
  ...license,
  ...oauth,
  ...peers,
  ...reconcilers,
  ...replay,
  ...routes,
  ...services,
  FlowNow,
  Traffic,
};

/** JSON Schema as plain data. */
export type Schema = Readonly<Record<string, unknown>>;

const plain = (schema: TSchema): Schema => JSON.parse(JSON.stringify(schema)) as Schema;

function apiSchema(name: string): Schema {
  const found = Object.entries(apiSchemas).find(([one]) => one === name)?.[1];
  if (found === undefined || typeof found !== 'object') throw new Error(`the API has no schema ${name}`);
  return plain(found as TSchema);
}

function leaveOut(schema: Schema, fields: readonly string[]): Schema {
  const properties = Object.entries(schema['properties'] as Record<string, unknown>);
  const required = schema['required'] as readonly string[];
  for (const field of fields)
    if (!properties.some(([name]) => name === field))
      throw new Error(`there is no field ${field} to leave out`);
  return {
    ...schema,
    required: required.filter((name) => !fields.includes(name)),
    properties: Object.fromEntries(properties.filter(([name]) => !fields.includes(name))),
  };
}

/** The schema with more fields in the rows of one of its arrays. */
function addTo(schema: Schema, property: string, fields: Schema): Schema {
  const properties = schema['properties'] as Readonly<Record<string, Schema>>;
  const array = properties[property];
  const row = array?.['items'] as Schema | undefined;
  if (array === undefined || row === undefined) throw new Error(`there is no array ${property} to add to`);
  const required = (from: Schema): readonly string[] => from['required'] as readonly string[];
  const items = {
    ...row,
    required: [...required(row), ...required(fields)],
    properties: { ...(row['properties'] as object), ...(fields['properties'] as object) },
  };
  return { ...schema, properties: { ...properties, [property]: { ...array, items } } };
}

const arrayOf = (list: boolean | undefined, items: Schema): Schema =>
  list ? { type: 'array', items } : items;

/** Undefined for a command that prints no JSON. */
async function resolve(json: JsonOutput): Promise<Schema | undefined> {
  if ('none' in json) return undefined;
  if ('api' in json) {
    const schema = apiSchema(json.api);
    if (json.adds !== undefined) return addTo(schema, json.adds.to, plain(await json.adds.fields()));
    const one = json.without === undefined ? { $ref: `#/$defs/${json.api}` } : leaveOut(schema, json.without);
    return arrayOf(json.list, one);
  }
  if ('schema' in json) return arrayOf(json.list, plain(await json.schema()));
  if ('lines' in json) return resolve(json.lines);
  const parts = await Promise.all(json.anyOf.map(resolve));
  const known = parts.flatMap((part) => (part === undefined ? [] : [part]));
  const distinct = new Map(known.map((part) => [JSON.stringify(part), part]));
  return { anyOf: [...distinct.values()] };
}

/** Its name among the definitions: `peers list` is `peers-list`. */
export const definitionOf = (command: string): string => command.replaceAll(' ', '-');

const writesLines = (json: JsonOutput): boolean =>
  'lines' in json || ('anyOf' in json && json.anyOf.some(writesLines));

/** By command, in the order of the help; commands that print no JSON are not in it. */
export async function outputSchemas(): Promise<ReadonlyMap<string, Schema>> {
  const schemas = new Map<string, Schema>();
  for (const { name, json } of GROUPS.flatMap((group) => group.commands)) {
    const schema = await resolve(json);
    if (schema === undefined) continue;
    const lines = writesLines(json);
    schemas.set(name, {
      title: `arctic ${name} --json`,
      ...schema,
      ...(lines
        ? { $comment: 'As JSON Lines, a value a line, where the command goes on until it is stopped.' }
        : {}),
    });
  }
  return schemas;
}

/** The types that definitions of commands refer to, by name. */
export function sharedTypes(schemas: ReadonlyMap<string, Schema>): ReadonlyMap<string, Schema> {
  const names = JSON.stringify([...schemas.values()]).matchAll(/"#\/\$defs\/([^"]+)"/g);
  return new Map(
    [...new Set([...names].map(([, name]) => name ?? ''))].sort().map((name) => [name, apiSchema(name)]),
  );
}

/** The published file: one definition a command, and the types they share. */
export async function cliSchema(): Promise<Schema> {
  const schemas = await outputSchemas();
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'urn:tillered:arctic:schema:cli:v1',
    title: 'What the commands of Arctic print with --json',
    $defs: Object.fromEntries([
      ...[...schemas].map(([name, schema]) => [definitionOf(name), schema] as const),
      ...sharedTypes(schemas),
    ]),
  };
}
