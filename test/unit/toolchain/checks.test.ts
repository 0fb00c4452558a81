import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { type Check, checkDependencies, checkStyle, checkTypes, ROOT } from '../../../ops/test/checks.ts';

const CONFIGURATION = ['tsconfig.json', 'biome.json', '.dependency-cruiser.cjs'];

/** A tree that every check passes: one module a room, each importing what its room may. */
const SOUND: Readonly<Record<string, string>> = {
  'events/errors.ts': "export const code = 'NOT_FOUND';\n",
  'events/log.ts':
    "import Database from 'better-sqlite3';\n\nexport const open = (): unknown => new Database(':memory:');\n",
  'projections/views.ts': "export { code } from '../events/errors.ts';\n",
  'src/settings.ts': "export { code } from '../events/errors.ts';\n",
  'src/commands/service.ts': "export { code } from '../../projections/views.ts';\n",
  'src/api/services.ts': "export { code } from '../commands/service.ts';\n",
  'src/gossip/session.ts': "export { code } from '../commands/service.ts';\n",
  'src/identity/license.ts': "export { code } from '../../events/errors.ts';\n",
  'src/native/addon.ts':
    "import { createRequire } from 'node:module';\n\nexport const load = createRequire(import.meta.url);\n",
  'src/kernel/netlink.ts': "export { load } from '../native/addon.ts';\n",
  'src/engines/relay.ts': "export { load } from '../kernel/netlink.ts';\n",
  'src/reconcilers/firewall.ts': "export { load } from '../engines/relay.ts';\n",
  'src/agent.ts':
    "export { open } from '../events/log.ts';\nexport { code } from './api/services.ts';\nexport { load } from './reconcilers/firewall.ts';\n",
  'cli/main.ts':
    "import { code } from '../events/errors.ts';\n\nexport const replay = async (): Promise<unknown> => (await import('../events/log.ts')).open();\nexport { code };\n",
  'cli/commands/agent.ts': "export const run = async (): Promise<unknown> => import('../../src/agent.ts');\n",
};

function plant(t: { teardown(action: () => void): void }, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), `arctic-${process.pid}-tree-`));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  for (const name of CONFIGURATION) copyFileSync(join(ROOT, name), join(root, name));
  writeFileSync(join(root, 'package.json'), '{\n  "type": "module"\n}\n');
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  for (const [path, text] of Object.entries({ ...SOUND, ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

t.test('a sound tree passes every check', async (t) => {
  const root = plant(t, {});
  for (const check of [checkTypes, checkStyle, checkDependencies]) {
    const { passed, report } = await check.run(root);
    t.ok(passed, `${check.name}: ${report}`);
  }
});

interface Planted {
  readonly what: string;
  readonly check: Check;
  readonly files: Readonly<Record<string, string>>;
  readonly report: RegExp;
}

const from = (module: string, name = 'code'): string => `export { ${name} } from '${module}';\n`;

const FAULTS: readonly Planted[] = [
  {
    what: 'a type error',
    check: checkTypes,
    files: { 'events/errors.ts': 'export const code: number = "text";\n' },
    report: /events\/errors\.ts.*TS2322/,
  },
  {
    what: 'syntax that does not erase',
    check: checkTypes,
    files: { 'events/kind.ts': 'export enum Kind {\n  one,\n}\n' },
    report: /events\/kind\.ts.*TS1294/,
  },
  {
    what: 'a lint fault',
    check: checkStyle,
    files: { 'events/errors.ts': "export const code: any = 'NOT_FOUND';\n" },
    report: /noExplicitAny/,
  },
  {
    what: 'an unused import',
    check: checkStyle,
    files: { 'events/unused.ts': "import { code } from './errors.ts';\n\nexport const other = 1;\n" },
    report: /noUnusedImports/,
  },
  {
    what: 'a format fault',
    check: checkStyle,
    files: { 'events/errors.ts': "export   const code = 'NOT_FOUND'\n" },
    report: /events\/errors\.ts format/,
  },
  {
    what: 'events importing a projection',
    check: checkDependencies,
    files: { 'events/late.ts': from('../projections/views.ts') },
    report: /room-events: events\/late\.ts -> projections\/views\.ts/,
  },
  {
    what: 'a forbidden import of a type alone',
    check: checkDependencies,
    files: {
      'events/late.ts':
        "import type { code } from '../projections/views.ts';\n\nexport type Code = typeof code;\n",
    },
    report: /room-events: events\/late\.ts/,
  },
  {
    what: 'a projection importing the API',
    check: checkDependencies,
    files: { 'projections/late.ts': from('../src/api/services.ts') },
    report: /room-projections:/,
  },
  {
    what: 'the API reaching into the kernel',
    check: checkDependencies,
    files: { 'src/api/late.ts': from('../kernel/netlink.ts', 'load') },
    report: /room-src-api:/,
  },
  {
    what: 'the kernel knowing events',
    check: checkDependencies,
    files: { 'src/kernel/late.ts': from('../../events/errors.ts') },
    report: /room-src-kernel:/,
  },
  {
    what: 'a decision calling gossip',
    check: checkDependencies,
    files: { 'src/commands/late.ts': from('../gossip/session.ts') },
    report: /room-src-commands:/,
  },
  {
    what: 'gossip calling a reconciler dynamically',
    check: checkDependencies,
    files: {
      'src/gossip/late.ts':
        "export const late = (): Promise<unknown> => import('../reconcilers/firewall.ts');\n",
    },
    report: /room-src-gossip:/,
  },
  {
    what: 'a room importing the agent',
    check: checkDependencies,
    files: { 'src/engines/late.ts': from('../agent.ts') },
    report: /room-src-engines:/,
  },
  {
    what: 'the product importing its tooling',
    check: checkDependencies,
    files: { 'ops/lab/lab.ts': 'export const lab = 1;\n', 'src/late.ts': from('../ops/lab/lab.ts', 'lab') },
    report: /product-needs-no-tooling:/,
  },
  {
    what: 'the settings knowing the kernel',
    check: checkDependencies,
    files: { 'src/settings.ts': from('./kernel/netlink.ts', 'load') },
    report: /settings-know-no-room:/,
  },
  {
    what: 'a cycle',
    check: checkDependencies,
    files: {
      'events/a.ts': from('./b.ts', 'one'),
      'events/b.ts': "export const one = 1;\nexport * from './a.ts';\n",
    },
    report: /no-cycles: events\/a\.ts -> events\/b\.ts/,
  },
  {
    what: 'another file loading native code',
    check: checkDependencies,
    files: { 'src/kernel/late.ts': "export { createRequire } from 'node:module';\n" },
    report: /one-file-loads-the-add-on: src\/kernel\/late\.ts/,
  },
  {
    what: 'native code loaded without an import',
    check: checkDependencies,
    files: { 'src/kernel/late.ts': "process.dlopen({ exports: {} }, 'x.node');\n\nexport {};\n" },
    report: /one-file-loads-the-add-on: src\/kernel\/late\.ts calls dlopen/,
  },
  {
    what: 'the command line importing the kernel',
    check: checkDependencies,
    files: { 'cli/late.ts': from('../src/kernel/netlink.ts', 'load') },
    report: /room-cli: cli\/late\.ts/,
  },
  {
    what: 'the command line loading SQLite by a way round',
    check: checkDependencies,
    files: { 'events/way.ts': from('./log.ts', 'open'), 'cli/late.ts': from('../events/way.ts', 'open') },
    report:
      /cli-loads-no-native-code: cli\/late\.ts -> events\/way\.ts -> events\/log\.ts -> .*better-sqlite3/,
  },
  {
    what: 'the agent command loading the agent with every command',
    check: checkDependencies,
    files: { 'cli/commands/agent.ts': from('../../src/agent.ts') },
    report: /agent-command-imports-dynamically:/,
  },
  {
    what: 'another command starting the agent',
    check: checkDependencies,
    files: {
      'cli/commands/peers.ts': "export const late = (): Promise<unknown> => import('../../src/agent.ts');\n",
    },
    report: /cli-starts-the-agent-lazily:/,
  },
  {
    what: 'a configuration that leaves a room out',
    check: checkDependencies,
    files: {
      '.dependency-cruiser.cjs': "module.exports = { options: { exclude: { path: '^events/' } } };\n",
    },
    report: /not read: events\/errors\.ts/,
  },
  {
    what: 'a configuration that reads files without their imports',
    check: checkDependencies,
    files: { '.dependency-cruiser.cjs': "module.exports = { options: { moduleSystems: ['amd'] } };\n" },
    report: /no import was read of: cli\/main\.ts/,
  },
];

for (const { what, check, files, report } of FAULTS) {
  t.test(`${check.name} catches ${what}`, async (t) => {
    const result = await check.run(plant(t, files));
    t.notOk(result.passed);
    t.match(result.report, report);
  });
}
