import type { Group } from '../command.ts';

export const LOG: Group = {
  name: 'log',
  summary: 'The database of the event log on this host.',
  commands: [
    {
      name: 'log verify',
      summary: 'Check that the event log is whole and was not altered.',
      description:
        "Reads the agent's database on this host, or another with --db; needs no agent and disturbs none. Without --full it " +
        'checks what an agent checks at its start: the newest thousand events, the end of every chain and the signed ' +
        'checkpoints. With --full it checks every event, link, signature and cosigned checkpoint, and the file itself, in ' +
        'constant memory. Says the first fault with its position and what to do; exit code 3.',
      flags: [
        {
          name: 'db',
          type: 'text',
          value: 'FILE',
          summary: 'Another database than the one of the agent on this host.',
          completes: 'file',
        },
        { name: 'full', type: 'boolean', summary: 'Every event, not only the newest.' },
      ],
      examples: [
        { line: 'arctic log verify', says: 'what the agent checks when it starts' },
        { line: 'arctic log verify --full --db /backup/arctic.db', says: 'every event of a copy' },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/history.ts')).LOG_VERIFIED },
      load: async () => (await import('../commands/log.ts')).verify,
    },
  ],
};
