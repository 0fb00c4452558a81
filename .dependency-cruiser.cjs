/**
 * Who may import whom: the table "The rooms" of the design. A room reads the rooms listed for it, itself, and packages.
 * It takes swc to read the sources: TypeScript 7 has no interface for the cruiser, which then cruises nothing and
 * reports success. ops/test/checks.ts therefore compares what was cruised with what is on disk.
 */
const ROOMS = {
  events: [],
  projections: ['events'],
  'src/commands': ['events', 'projections'],
  'src/health': ['events'],
  'src/api': ['events', 'projections', 'src/commands', 'src/identity', 'src/health'],
  'src/gossip': ['events', 'projections', 'src/commands', 'src/identity'],
  'src/reconcilers': ['events', 'projections', 'src/kernel', 'src/engines'],
  'src/kernel': ['src/native'],
  'src/engines': ['src/kernel', 'src/native'],
  'src/native': [],
  'src/identity': ['events'],
  cli: ['events', 'projections', 'src/identity', 'src/health', 'src/settings.ts'],
};

/** Composition roots: the agent, and the two short jobs done in its place while it does not run. */
const AGENT = '^src/(agent|cleanup|inspection)\\.ts$';
const AGENT_COMMAND = '^cli/commands/agent\\.ts$';
const ADDON = '^src/native/addon\\.ts$';

const within = (place) => (place.endsWith('.ts') ? `^${place.replaceAll('.', '\\.')}$` : `^${place}/`);
const OURS = '^(events|projections|src|cli|fixtures|ops|test)/';

const rooms = Object.entries(ROOMS).map(([room, allowed]) => ({
  name: `room-${room.replace('/', '-')}`,
  comment: `${room} may import ${allowed.length === 0 ? 'nothing of ours' : allowed.join(', ')}`,
  severity: 'error',
  from: { path: within(room) },
  to: { path: OURS, pathNot: [room, ...allowed].map(within).concat(room === 'cli' ? [AGENT] : []) },
}));

module.exports = {
  forbidden: [
    ...rooms,
    {
      name: 'cli-starts-the-agent-lazily',
      comment:
        'the CLI runs where the add-on does not load: only `arctic agent` imports the agent, when it is run',
      severity: 'error',
      from: { path: '^cli/', pathNot: AGENT_COMMAND },
      to: { path: AGENT },
    },
    {
      name: 'agent-command-imports-dynamically',
      comment: 'a static import would load the add-on with every command',
      severity: 'error',
      from: { path: AGENT_COMMAND },
      to: { path: AGENT, dynamic: false },
    },
    {
      name: 'settings-know-no-room',
      comment: 'src/settings.ts is read before anything is built; it knows events only',
      severity: 'error',
      from: { path: '^src/settings\\.ts$' },
      to: { path: OURS, pathNot: '^events/' },
    },
    {
      name: 'product-needs-no-tooling',
      comment: 'what is installed does not contain ops, test or fixtures',
      severity: 'error',
      from: { path: '^(events|projections|src|cli)/' },
      to: { path: '^(ops|test|fixtures)/' },
    },
    {
      name: 'one-file-loads-the-add-on',
      comment: 'only src/native/addon.ts loads native code, by createRequire',
      severity: 'error',
      from: { path: '^(events|projections|src|cli)/', pathNot: ADDON },
      to: { path: ['\\.node$', '^(node:)?module$'] },
    },
    {
      name: 'no-cycles',
      comment: 'a cycle has no order to be read in',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|\\.lab|\\.tap)/' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json', '.node'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types', 'require'],
    },
  },
};
