import type { Group } from '../command.ts';

export const BACKUP: Group = {
  name: 'backup',
  summary: 'Copy the event log and key of this host into a file.',
  commands: [
    {
      name: 'backup',
      summary: 'Copy the event log and key of this host into a file.',
      description:
        'Copies the event log as of one moment, while the agent runs or not, with the key it is written with, the trust ' +
        'roots and the settings, into one compressed archive (mode 0600). Runs on the host of the agent, as root.',
      args: [{ name: 'FILE', required: true, summary: 'Archive to write.', completes: 'file' }],
      examples: [{ line: 'arctic backup /var/backups/arctic.tar.gz --yes', says: 'replace the last backup' }],
      json: { schema: async () => (await import('../json/host.ts')).BACKUP },
      load: async () => (await import('../commands/backup.ts')).backup,
    },
  ],
};

export const RESTORE: Group = {
  name: 'restore',
  summary: 'Put a backup in place of the event log of this host.',
  commands: [
    {
      name: 'restore',
      summary: 'Put a backup in place of the event log of this host.',
      description:
        'Checks the whole backup first, and puts what was there aside. A systemd unit that runs is stopped and started ' +
        'again; another agent must be stopped by hand. What this peer wrote after the backup comes back from the other ' +
        'members.',
      args: [{ name: 'FILE', required: true, summary: "Archive of 'arctic backup'.", completes: 'file' }],
      examples: [{ line: 'arctic restore /var/backups/arctic.tar.gz', says: 'after a damaged database' }],
      json: { schema: async () => (await import('../json/host.ts')).RESTORED },
      load: async () => (await import('../commands/restore.ts')).restore,
    },
  ],
};

export const DEBUG: Group = {
  name: 'debug',
  summary: 'Collect what a support ticket needs.',
  commands: [
    {
      name: 'debug bundle',
      summary: 'Write one archive with everything a support ticket needs, secrets removed.',
      description:
        'Collects what the troubleshooting page asks for: versions, unit, log, addresses, routes, tables, peers, services, ' +
        'routes, events, metrics and the findings of doctor. Works with the agent down.',
      flags: [
        {
          name: 'file',
          type: 'text',
          value: 'FILE',
          summary: 'Archive to write (default arctic-debug-TIME.tar.gz here).',
          completes: 'file',
        },
        {
          name: 'for',
          type: 'text',
          value: 'TIME',
          summary: 'First raise the log level and wait so long, e.g. 5m, while the problem is reproduced.',
        },
      ],
      examples: [
        { line: 'arctic debug bundle', says: 'now' },
        {
          line: 'arctic debug bundle --for 5m --file /tmp/ticket.tar.gz',
          says: 'and what happens meanwhile',
        },
      ],
      json: { schema: async () => (await import('../json/host.ts')).BUNDLE },
      load: async () => (await import('../commands/debug.ts')).bundle,
    },
  ],
};
