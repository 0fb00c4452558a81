import type { Group } from '../command.ts';

export const CLUSTER: Group = {
  name: 'cluster',
  summary: 'The cluster as a whole.',
  commands: [
    {
      name: 'cluster identity',
      summary: 'Show which cluster an agent belongs to (needs no credentials).',
      examples: [{ line: 'arctic cluster identity --url http://10.0.0.2:8080', says: 'of another agent' }],
      json: { api: 'ClusterIdentity' },
      load: async () => (await import('../commands/cluster.ts')).identity,
    },
    {
      name: 'cluster status',
      summary: 'Show how far each peer has followed the log.',
      examples: [{ line: 'arctic cluster status', says: 'state, lag, log head and digest of every peer' }],
      json: { api: 'ClusterStatus' },
      load: async () => (await import('../commands/cluster.ts')).status,
    },
    {
      name: 'cluster sync',
      summary: 'Run a gossip round and a full pass of every reconciler now.',
      examples: [{ line: 'arctic cluster sync', says: 'instead of waiting for the next heartbeat' }],
      json: { api: 'Triggered' },
      load: async () => (await import('../commands/cluster.ts')).sync,
    },
    {
      name: 'cluster lock',
      summary: 'Show who holds the cluster lock.',
      examples: [{ line: 'arctic cluster lock', says: "the lease that 'compose apply' holds, if any" }],
      json: { api: 'LockAnswer' },
      load: async () => (await import('../commands/cluster.ts')).lock,
    },
    {
      name: 'cluster unlock',
      summary: 'Break the cluster lock.',
      description:
        'Breaks the cluster lock. Only when its holder is gone: the lease ends by itself, and a holder that still works ' +
        'is refused from then on.',
      examples: [{ line: 'arctic cluster unlock --yes', says: 'break a stuck lock' }],
      json: { schema: async () => (await import('../json/deletions.ts')).UNLOCKED },
      load: async () => (await import('../commands/cluster.ts')).unlock,
    },
    {
      name: 'cluster init',
      summary: 'Initialise the cluster record.',
      flags: [{ name: 'force', type: 'boolean', summary: 'Again, even when there is one.' }],
      examples: [{ line: 'arctic cluster init --force', says: 'initialise it again' }],
      json: { api: 'InitAnswer' },
      load: async () => (await import('../commands/cluster.ts')).init,
    },
  ],
};
