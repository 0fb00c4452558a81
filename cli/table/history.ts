import type { Flag, Group } from '../command.ts';

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
        ...FILTERS,
      ],
      examples: [
        { line: 'arctic events tail -f', says: 'watch what happens' },
        { line: 'arctic events tail -n 5 --type reconcile.failed', says: 'the last five failures' },
      ],
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
      flags: [
        {
          name: 'until',
          type: 'text',
          value: 'WHEN',
          summary: 'Position in the log, or a time such as 2026-03-01T12:00:00Z (default: now).',
        },
        { name: 'projection', type: 'text', value: 'NAME', summary: 'Only this view, e.g. services.' },
        { name: 'diff-with', type: 'text', value: 'WHEN', summary: 'Show what changed from there instead.' },
      ],
      examples: [
        {
          line: 'arctic replay --until 2026-03-01T12:00:00Z --projection routes',
          says: 'the routes back then',
        },
        { line: 'arctic replay --until 200 --diff-with 150', says: 'what changed between two positions' },
      ],
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
      flags: [{ name: 'watch', type: 'boolean', summary: 'Look again every two seconds until interrupted.' }],
      examples: [
        { line: 'arctic drift', says: 'look once' },
        { line: 'arctic drift --json', says: 'for a monitoring script' },
      ],
      load: async () => (await import('../commands/drift.ts')).drift,
    },
  ],
};
