/** The schema of what commands print is published as it is declared, and can be used. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { Compile } from 'typebox/schema';
import { GROUPS } from '../../../cli/table.ts';
import { cliSchema, definitionOf, outputSchemas } from '../../../ops/schema/cli-schema.ts';
import { CLI_SCHEMA_FILE } from '../../../ops/schema/generate.ts';
import { createHome } from './run-cli.ts';

t.test('the published schema is up to date, and every command is in it or says what it prints', async (t) => {
  const published = JSON.parse(readFileSync(CLI_SCHEMA_FILE, 'utf8')) as Record<string, unknown>;
  t.same(
    published,
    JSON.parse(JSON.stringify(await cliSchema())),
    'run: node --import=tsx ops/schema/generate.ts',
  );
  const schemas = await outputSchemas();
  for (const { name, json } of GROUPS.flatMap(({ commands }) => commands))
    t.ok(schemas.has(name) || ('none' in json && json.none !== ''), name);
  const home = createHome();
  t.teardown(() => home.remove());
  const { stdout } = await home.run(['version', '--json']);
  const check = Compile({ ...published, $ref: `#/$defs/${definitionOf('version')}` });
  t.ok(check.Check(JSON.parse(stdout)));
  t.notOk(check.Check({ ...JSON.parse(stdout), more: 1 }), 'a field that is not declared is noticed');
});
