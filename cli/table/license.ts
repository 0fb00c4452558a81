import type { Group } from '../command.ts';

export const LICENSE: Group = {
  name: 'license',
  aliases: ['licence'],
  summary: 'The license in force, and the tool that issues licenses.',
  commands: [
    {
      name: 'license status',
      aliases: ['license show', 'license get'],
      summary: 'Show the license of an agent.',
      examples: [
        { line: 'arctic license status', says: 'customer, caps and expiry' },
        { line: 'arctic license status --url http://10.0.0.2:8080', says: 'the license of another agent' },
      ],
      json: {
        anyOf: [
          { api: 'License' },
          { schema: async () => (await import('../json/history.ts')).FOREIGN_LICENSE },
        ],
      },
      load: async () => (await import('../commands/license.ts')).status,
    },
    {
      name: 'license install',
      summary: 'Install a newer license of the same customer.',
      args: [
        {
          name: 'FILE',
          required: true,
          summary: "License document; '-' reads it from stdin.",
          completes: 'file',
        },
      ],
      examples: [{ line: 'arctic license install license.json', says: 'replace the license of the cluster' }],
      json: { api: 'License' },
      load: async () => (await import('../commands/license.ts')).install,
    },
    {
      name: 'license root create',
      summary: 'Make a license root: the key pair that signs licenses.',
      description:
        'Makes a license root, so that an organisation issues its own licenses. root.key signs them and stays secret; ' +
        'root.pub goes into trust-roots/ in the configuration directory of every host. Needs no agent.',
      flags: [
        {
          name: 'out',
          type: 'text',
          value: 'DIR',
          required: true,
          summary: 'Directory for root.key (0600) and root.pub.',
          completes: 'directory',
        },
      ],
      examples: [
        { line: 'arctic license root create --out ./root', says: 'write root/root.key and root/root.pub' },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/history.ts')).LICENSE_ROOT },
      load: async () => (await import('../commands/license-issuer.ts')).createRoot,
    },
    {
      name: 'license issue',
      summary: 'Issue a license; it is printed on stdout.',
      flags: [
        {
          name: 'root',
          type: 'text',
          value: 'FILE',
          required: true,
          summary: 'The root.key of the issuer.',
          completes: 'file',
        },
        {
          name: 'customer',
          type: 'text',
          value: 'ID',
          required: true,
          summary: "Customer id; 'acme' and 'cust_acme' are the same.",
        },
        { name: 'max-nodes', type: 'integer', value: 'N', summary: 'Most peers (default 10).' },
        { name: 'max-services', type: 'integer', value: 'N', summary: 'Most services (default 100).' },
        { name: 'features', type: 'list', value: 'A,B', summary: 'Features to name in it.' },
        {
          name: 'expires',
          type: 'text',
          value: 'WHEN',
          summary: 'Date (2027-12-31) or time from now (90d); default 365d.',
        },
      ],
      examples: [
        {
          line: 'arctic license issue --root root/root.key --customer acme --expires 90d > license.json',
          says: 'a license for 90 days',
        },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/history.ts')).LICENSE_DOCUMENT },
      load: async () => (await import('../commands/license-issuer.ts')).issue,
    },
  ],
};
