/** What SPEC promises of the command line, by the real program on real agents: codes, columns, JSON. */
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { Compile } from 'typebox/schema';
import { GROUPS } from '../../cli/table.ts';
import { ERRORS, type ErrorCode, EXIT } from '../../events/errors.ts';
import { definitionOf } from '../../ops/schema/cli-schema.ts';
import { CLI_SCHEMA_FILE } from '../../ops/schema/generate.ts';
import { ERROR_SCENARIOS } from './operator-errors.ts';
import { JSON_RUNS, type Memory } from './operator-json.ts';
import { createWorld, type World } from './operator-world.ts';

t.setTimeout(600_000);

/** Nothing of the program's inside. */
function plain(t: Test, text: string): void {
  t.notMatch(text, /^\s+at .+:\d+:\d+\)?$|node:internal|\[object |undefined/m, 'no stack trace');
}

const schemas = JSON.parse(readFileSync(CLI_SCHEMA_FILE, 'utf8')) as Record<string, unknown>;

/** The value of one JSON document, or of every line. */
function parsed(command: string, text: string): readonly unknown[] {
  if (command !== 'events tail') return [JSON.parse(text)];
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}

async function jsonOfEveryCommand(t: Test, world: World): Promise<void> {
  const declared = GROUPS.flatMap(({ commands }) => commands)
    .filter(({ json }) => !('none' in json))
    .map(({ name }) => name);
  t.same([...new Set(JSON_RUNS.map(({ command }) => command))].sort(), declared.sort(), 'all are run');
  const memory: Memory = {};
  for (const { command, argv, host, exit, before, keep } of JSON_RUNS) {
    await before?.(world);
    const words = [...command.split(' '), ...(argv?.(memory, world) ?? []), '--json'];
    const result = await world.arctic(host ?? 'entry', words);
    t.ok(
      [exit ?? 0].flat().includes(result.code ?? -1),
      `${result.code}: arctic ${words.join(' ')}\n${result.stderr}`,
    );
    const validator = Compile({ ...schemas, $ref: `#/$defs/${definitionOf(command)}` });
    try {
      const values = parsed(command, result.stdout);
      for (const value of values) {
        const [, errors] = validator.Errors(value);
        t.same(errors.slice(0, 3), [], `arctic ${words.join(' ')}`);
      }
      keep?.(values[0] as never, memory);
    } catch {
      t.fail(`arctic ${words.join(' ')} printed no JSON`, { stdout: result.stdout, stderr: result.stderr });
    }
  }
}

async function everyErrorCode(t: Test, world: World): Promise<void> {
  t.same(Object.keys(ERROR_SCENARIOS).sort(), Object.keys(ERRORS).sort(), 'each has a scenario');
  for (const [code, scenario] of Object.entries(ERROR_SCENARIOS)) {
    const { status, exit } = ERRORS[code as ErrorCode];
    if ('unreachable' in scenario) {
      t.comment(`${code}: ${scenario.unreachable}`);
      continue;
    }
    if ('answered' in scenario) {
      const answer = await scenario.answered(world);
      t.equal(answer.status, status, `${code}: ${answer.text}`);
      t.match(JSON.parse(answer.text), { code, error: /\w/ });
      continue;
    }
    const result = await scenario.refused(world);
    t.equal(result.code, exit, `${code}: ${result.stderr}`);
    t.match(result.stderr, new RegExp(`^<   "code": "${code}"`, 'm'), `${code} is what the agent answered`);
    const lines = result.stderr.trimEnd().split('\n');
    const told = lines.filter((line) => line.startsWith('Error: '));
    t.equal(told.length, 1, `${code} is told in one line: ${told.join(' / ')}`);
    t.match(result.stderr, scenario.says, code);
    t.equal(result.stdout, '');
    plain(t, lines.slice(lines.indexOf(told[0] ?? '')).join('\n'));
  }
}

/** Entry and exit become a cluster; the third refuses the license, which ends the command in the middle. */
async function partialFailure(t: Test, world: World): Promise<void> {
  const names = ['entry', 'exit', 'third'];
  const peers = names.map((name) => `  - { name: ${name}, address: '${world.agent(name).address}' }\n`);
  const file = world.file('cluster.yaml', `version: v1\nlicense: license.json\npeers:\n${peers.join('')}`);
  const { code, stderr, stdout } = await world.arctic('entry', ['compose', 'apply', file, '--yes']);
  t.equal(code, EXIT.partial, stderr);
  t.match(
    stderr,
    /^ {2}done {2}join exit [\s\S]*^ {2}FAILED {2}bootstrap third [\s\S]*^Error: done in part: 3 of 5 steps were made, then it failed: .*trust.* Not tried: join third .* Nothing has to be undone: 'arctic compose apply .*' goes on from here\.$/m,
  );
  t.notMatch(stdout, 'Applied in');
  plain(t, stderr);
  world.file('cluster.yaml', `version: v1\nlicense: license.json\npeers:\n${peers.slice(0, 2).join('')}`);
  world.shareConfig('entry', 'exit');
  world.issuer.trustOn(world.agent('third').configDir);
}

const columnsOf = (text: string): string => (text.split('\n')[0] ?? '').replaceAll(/ {2,}/g, '|');

async function columns(t: Test, world: World): Promise<void> {
  const entry = (...argv: string[]) => world.arctic('entry', argv);
  await world.reset('third');
  const license = `${world.lab.directory}/license.json`;
  const made = await world.arctic('third', ['bootstrap', '--license-file', license, '--name', 'third']);
  const names = made.stdout.trimEnd().split('\n');
  t.same(
    names.map((line) => line.split(':')[0]),
    ['Peer ID', 'Cluster ID', 'Client ID', 'License ID', 'Expires', 'Max Nodes', 'Max Services'],
  );
  await world.reset('third');

  const peers = (await entry('peers', 'list')).stdout;
  t.equal(columnsOf(peers), 'ID|NAME|ADDRESS|STATE|LAST SEEN');
  t.match(peers, /^peer_\w{26} +entry +10\.91\.20\.1:8080 +active +local$/m);
  t.match(peers, /^peer_\w{26} +exit +10\.91\.21\.1:8080 +active +(now|\d+s ago)$/m);

  const flags = ['--requires-interface', '--fully-transparent', '--bandwidth-limit', '10'];
  await entry('services', 'create', '--target-peer', 'exit', '--name', 'all', ...flags);
  await entry('services', 'create', '--target-peer', 'exit', '--name', 'none', '--transport', 'kcp');
  const services = (await entry('services', 'list')).stdout;
  t.equal(columnsOf(services), 'ID|NAME|SOURCE|TARGET|TRANSPORT|FLAGS|STATUS');
  t.match(services, /^svc_\w{26} +all +entry +exit +tcp +ITQ +(applied|pending)$/m);
  t.match(services, /^svc_\w{26} +none +entry +exit +kcp +- +(applied|pending)$/m);
  for (const noun of ['peers', 'services']) {
    const narrow = await world.arctic('entry', [noun, 'list'], { env: { COLUMNS: '80' } });
    for (const line of narrow.stdout.split('\n')) t.ok(line.length <= 80, line);
  }
  for (const name of ['all', 'none']) await entry('services', 'delete', name, '--yes');
}

async function exitCodes(t: Test, world: World): Promise<void> {
  const broken = world.file('broken.yaml', 'clusters: [\n');
  const cases: readonly (readonly [keyof typeof EXIT, readonly string[]])[] = [
    ['success', ['version']],
    ['general', ['services', 'get', 'nobody']],
    ['usage', ['peers', 'lsit']],
    ['configuration', ['peers', 'list', '--config', broken]],
    ['connection', ['peers', 'list', '--url', `http://${world.lab.host('entry').address.ipv4}:9`]],
    ['authentication', ['peers', 'list', '--token', 'nonsense']],
    ['different', ['compose', 'diff', 'differs.yaml']],
  ];
  world.file(
    'differs.yaml',
    `version: v1\npeers: [{ name: entry, address: '${world.agent('entry').address}', api_access: internal }]\n`,
  );
  const shown = [...cases.map(([name]) => name), 'partial'];
  t.same(
    shown.sort(),
    Object.keys(EXIT).sort(),
    'every exit code; partial failure is how the cluster was made',
  );
  for (const [name, argv] of cases) {
    const result = await world.arctic('entry', argv);
    t.equal(result.code, EXIT[name], `${argv.join(' ')}: ${result.stderr}`);
    plain(t, result.stderr);
  }
}

t.test('the command line keeps its contract', { timeout: 580_000 }, async (t) => {
  const world = await createWorld();
  t.teardown(() => world.lab.destroy());
  await t.test('a partial failure is accounted for', (t) => partialFailure(t, world));
  await t.test('the JSON of every command is as published', (t) => jsonOfEveryCommand(t, world));
  await t.test('the columns of every table', (t) => columns(t, world));
  await t.test('every exit code', (t) => exitCodes(t, world));
  await t.test('every error code', (t) => everyErrorCode(t, world));
});
