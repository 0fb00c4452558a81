import { PROJECTION_NAMES } from '../../projections/projection-names.ts';
import type { Flag, Group } from '../command.ts';

export const DB: Flag = {
  name: 'db',
  type: 'text',
  value: 'FILE',
  summary:
    'Read this database (a copy of arctic.db, and beside it of arctic.db-wal) instead of asking an agent.',
  completes: 'file',
};

const FILTERS: readonly Flag[] = [
  { name: 'type', type: 'text', value: 'TYPE', summary: 'Only this type, e.g. service.created.' },
  { name: 'actor', type: 'text', value: 'ID', summary: 'Only changes by this client or peer.' },
  {
    name: 'origin',
    type: 'text',
    value: 'PEER',
    summary: 'Only events that this peer wrote.',
    completes: 'peer',
  },
  { name: 'entity', type: 'text', value: 'ID', summary: 'Only events about this, e.g. svc_...' },
];

export const EVENTS: Group = {
  name: 'events',
  aliases: ['event'],
  summary: 'The log: everything that ever happened.',
  commands: [
    {
      name: 'events list',
      aliases: ['events ls'],
      summary: 'List events, oldest first.',
      flags: [
        { name: 'after', type: 'integer', value: 'POSITION', summary: 'Only those after this position.' },
        { name: 'until', type: 'text', value: 'WHEN', summary: 'Only those up to this position or time.' },
        ...FILTERS,
        {
          name: 'limit',
          short: 'n',
          type: 'integer',
          value: 'N',
          summary: 'At most this many (default: all).',
        },
      ],
      examples: [
        { line: 'arctic events list --entity svc_01JD0000000000000000000000', says: 'the life of a service' },
        { line: 'arctic events list --type peer.removed --json', says: 'who removed a peer, and when' },
      ],
      json: { api: 'ListedEvent', list: true },
      load: async () => (await import('../commands/events.ts')).list,
    },
    {
      name: 'events get',
      aliases: ['events show'],
      summary: 'Show one event in full.',
      args: [{ name: 'EVENT', required: true, summary: 'Event id (evt_...).' }],
      examples: [
        {
          line: 'arctic events get evt_01JD0000000000000000000000',
          says: 'its data, actor, hash and signature',
        },
      ],
      json: { api: 'EventWithOutcome' },
      load: async () => (await import('../commands/events.ts')).get,
    },
    {
      name: 'events tail',
      summary: 'Show the newest events, and follow them with -f.',
      flags: [
        {
          name: 'follow',
          short: 'f',
          type: 'boolean',
          summary: 'Go on as events come in, until interrupted.',
        },
        {
          name: 'lines',
          short: 'n',
          type: 'integer',
          value: 'N',
          summary: 'How many to begin with (default 20).',
        },
        {
          name: 'after',
          type: 'integer',
          value: 'POSITION',
          summary: 'Begin with everything after this position, to go on where an earlier tail ended.',
        },
        ...FILTERS,
      ],
      examples: [
        { line: 'arctic events tail -f', says: 'watch what happens' },
        { line: 'arctic events tail -f --after 4711', says: 'go on after the last line that was seen' },
        { line: 'arctic events tail -n 5 --type reconcile.failed', says: 'the last five failures' },
      ],
      json: { lines: { api: 'ListedEvent' } },
      load: async () => (await import('../commands/events.ts')).tail,
    },
  ],
};

export const REPLAY: Group = {
  name: 'replay',
  summary: 'The desired state at any time in the past.',
  commands: [
    {
      name: 'replay',
      summary: 'Show the desired state as it was at a position or time.',
      description:
        'Asks a running agent, or with --db reads a copy of its database, which needs no agent. A time is that of the ' +
        'cluster clock the events carry; a position is that of the log that is read.',
      flags: [
        {
          name: 'until',
          type: 'text',
          value: 'WHEN',
          summary: 'Position in the log, or a time such as 2026-03-01T12:00:00Z (default: now).',
        },
        {
          name: 'projection',
          type: 'text',
          value: 'NAME',
          summary: 'Only this view or part of the desired state.',
          choices: PROJECTION_NAMES,
        },
        {
          name: 'diff-with',
          type: 'text',
          value: 'WHEN',
          summary: 'Show what changed from there to --until, and the event that made each change.',
        },
        DB,
        {
          name: 'verify',
          type: 'boolean',
          summary: 'Fold the log from its first event and compare the digests; exit code 7 when they differ.',
        },
        {
          name: 'rebuild',
          type: 'boolean',
          summary: 'Put the fold from the first event in the place of the live one, while serving.',
        },
      ],
      examples: [
        {
          line: 'arctic replay --until 2026-03-01T12:00:00Z --projection routes',
          says: 'the routes back then',
        },
        { line: 'arctic replay --until 200 --diff-with 150', says: 'what changed between two positions' },
        {
          line: 'arctic replay --db arctic.db --verify',
          says: 'check a copy of a database, without an agent',
        },
      ],
      json: {
        anyOf: [
          { api: 'Replayed' },
          { api: 'StateCompared' },
          { api: 'ReplayVerified' },
          { schema: async () => (await import('../json/history.ts')).FOLD_VERIFIED },
        ],
      },
      load: async () => (await import('../commands/replay.ts')).replay,
    },
  ],
};

export const DRIFT: Group = {
  name: 'drift',
  summary: 'Where the kernel differs from the desired state.',
  commands: [
    {
      name: 'drift',
      summary: 'Compare kernel and engines with the desired state; exit code 7 when they differ.',
      description:
        'Shows each difference with since when it is there, who made it where the kernel tells, and the last event about ' +
        'the route or service behind it. With --at it says from the local events whether all matched at a time in the past.',
      flags: [
        { name: 'watch', type: 'boolean', summary: 'Look again every two seconds until interrupted.' },
        {
          name: 'at',
          type: 'text',
          value: 'WHEN',
          summary: 'Whether kernel and engines matched at this position or time.',
        },
      ],
      examples: [
        { line: 'arctic drift', says: 'look once' },
        {
          line: 'arctic drift --at 2026-03-01T12:00:00Z',
          says: 'did the kernel match back then, and who changed it',
        },
        { line: 'arctic drift --json', says: 'for a monitoring script' },
      ],
      json: { anyOf: [{ api: 'Drift' }, { api: 'DriftThen' }, { lines: { api: 'Drift' } }] },
      load: async () => (await import('../commands/drift.ts')).drift,
    },
  ],
};

export const AUDIT: Group = {
  name: 'audit',
  summary: 'The history with its proof, for those who must not trust the agent.',
  commands: [
    {
      name: 'audit export',
      summary: 'Write the history with actor, address, before, after and proof.',
      description:
        'Asks a running agent, which seals the export with its key, or with --db reads a copy of its database. What a ' +
        'filter leaves out stands in the export as hashes. Times and positions are inclusive.',
      flags: [
        { name: 'since', type: 'text', value: 'WHEN', summary: 'Only from this position or time on.' },
        { name: 'until', type: 'text', value: 'WHEN', summary: 'Only up to this position or time.' },
        { name: 'type', type: 'list', value: 'TYPE', summary: 'Only these types, e.g. service.created.' },
        {
          name: 'actor',
          type: 'text',
          value: 'ID',
          summary: 'Only what this client or peer did; system and recovery have no id.',
        },
        {
          name: 'format',
          type: 'text',
          value: 'FORMAT',
          summary: 'jsonl (default), or csv for a spreadsheet.',
          choices: ['jsonl', 'csv'],
        },
        {
          name: 'file',
          type: 'text',
          value: 'FILE',
          summary: 'Write here (mode 0600) instead of stdout.',
          completes: 'file',
        },
        DB,
        {
          name: 'key',
          type: 'text',
          value: 'FILE',
          summary: 'With --db: seal with this peer.key.',
          completes: 'file',
        },
      ],
      examples: [
        { line: 'arctic audit export --file march.jsonl --since 2026-03-01', says: 'everything since March' },
        {
          line: 'arctic audit export --format csv --actor cli_01JD0000000000000000000000 --file who.csv',
          says: 'what one client did',
        },
      ],
      json: { none: 'the export itself, as JSON Lines or CSV (see audit verify)' },
      load: async () => (await import('../commands/audit.ts')).exportHistory,
    },
    {
      name: 'audit verify',
      summary: 'Check an export, without an agent or a database; names every bad line.',
      description:
        'Exit code 1 when anything is missing, added, moved, altered or forged. Without --root-key the exporter is taken at ' +
        'its word that its key is its own: compare the key shown with `arctic cluster identity` of that host.',
      args: [{ name: 'FILE', required: true, summary: 'The export; - reads stdin.', completes: 'file' }],
      flags: [
        {
          name: 'root-key',
          type: 'list',
          value: 'KEY',
          summary: 'Public key (base64) of a peer that is known, or a file with it; may be repeated.',
        },
      ],
      examples: [
        { line: 'arctic audit verify march.jsonl', says: 'check it' },
        {
          line: 'arctic audit verify march.jsonl --root-key identity.json',
          says: "against a key kept from 'arctic cluster identity --json'",
        },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/history.ts')).AUDITED },
      load: async () => (await import('../commands/audit.ts')).verifyExport,
    },
  ],
};
