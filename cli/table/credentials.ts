import type { Group } from '../command.ts';

export const CREDENTIALS: Group = {
  name: 'credentials',
  aliases: ['credential'],
  summary: 'OAuth2 clients of the API.',
  commands: [
    {
      name: 'credentials list',
      aliases: ['credentials ls'],
      summary: 'List the credentials.',
      examples: [{ line: 'arctic credentials list', says: 'clients, scopes and last use' }],
      json: { api: 'Credential', list: true },
      load: async () => (await import('../commands/credentials.ts')).list,
    },
    {
      name: 'credentials create',
      aliases: ['credentials add'],
      summary: 'Create a credential; its secret is shown once.',
      flags: [
        {
          name: 'scopes',
          type: 'list',
          value: 'A,B',
          summary:
            'admin, peers.read, peers.write, services.read, services.write, credentials.read, credentials.write ' +
            '(default: those of the credential in use).',
        },
      ],
      examples: [
        {
          line: 'arctic credentials create --scopes peers.read,services.read',
          says: 'a client that only reads',
        },
      ],
      json: { api: 'NewCredential' },
      load: async () => (await import('../commands/credentials.ts')).create,
    },
    {
      name: 'credentials revoke',
      aliases: ['credentials delete', 'credentials rm'],
      summary: 'Revoke a credential.',
      args: [{ name: 'CLIENT_ID', required: true, summary: 'Client id (cli_...).' }],
      examples: [
        {
          line: 'arctic credentials revoke cli_01JD0000000000000000000000 --yes',
          says: 'its tokens are refused from now on',
        },
      ],
      json: { schema: async () => (await import('../json/deletions.ts')).REVOKED },
      load: async () => (await import('../commands/credentials.ts')).revoke,
    },
    {
      name: 'credentials rotate',
      summary: 'Give the shared credential of the cluster a new secret.',
      description:
        'Gives the shared credential of the cluster a new secret, which is shown once. The old one is taken for 24 hours more.',
      flags: [
        {
          name: 'update-config',
          type: 'boolean',
          summary: 'Save the new secret to the configuration instead of showing it.',
        },
      ],
      examples: [{ line: 'arctic credentials rotate --update-config', says: 'rotate and go on working' }],
      json: {
        anyOf: [{ api: 'RotatedCredential' }, { api: 'RotatedCredential', without: ['client_secret'] }],
      },
      load: async () => (await import('../commands/credentials.ts')).rotate,
    },
  ],
};
