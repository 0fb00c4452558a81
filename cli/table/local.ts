import type { Argument, Group } from '../command.ts';

const CLUSTER: Argument = {
  name: 'CLUSTER',
  required: true,
  summary: 'Cluster of the configuration, by id or name.',
  completes: 'cluster',
};

export const HEALTH: Group = {
  name: 'health',
  summary: 'Whether an agent lives, or is ready.',
  commands: [
    {
      name: 'health',
      summary: 'Ask an agent whether it lives; exit code 0 when it does.',
      flags: [{ name: 'readyz', type: 'boolean', summary: 'Ask whether it is ready, check by check.' }],
      examples: [
        { line: 'arctic health', says: 'does it answer' },
        { line: 'arctic health --readyz --url http://10.0.0.2:8080', says: 'is another agent ready' },
      ],
      json: { anyOf: [{ api: 'Health' }, { api: 'Readiness' }] },
      load: async () => (await import('../commands/health.ts')).health,
    },
  ],
};

export const DOCTOR: Group = {
  name: 'doctor',
  summary: 'Find out what is the matter, and what to do about it.',
  commands: [
    {
      name: 'doctor',
      summary: 'Check host, kernel, ports, clock, peers, license, database and drift.',
      description:
        'Looks at this host and asks its agent, and says for each thing that is the matter what to do about it. Works ' +
        'with the agent down. With --url of another host it checks what that agent can tell. Exit code 1 when something ' +
        'is critical, else 0.',
      flags: [
        { name: 'full', type: 'boolean', summary: 'Verify every event of the log, not only the newest.' },
      ],
      examples: [
        { line: 'arctic doctor', says: 'look at everything' },
        { line: 'arctic doctor --json', says: 'for a monitoring script' },
        { line: 'arctic doctor --url http://10.0.0.2:8080', says: 'ask another agent' },
      ],
      json: { schema: async () => (await import('../json/host.ts')).DOCTOR },
      load: async () => (await import('../commands/doctor.ts')).doctor,
    },
  ],
};

export const CONFIG: Group = {
  name: 'config',
  summary: 'The configuration of this command line.',
  commands: [
    {
      name: 'config view',
      summary: 'Show the configuration, secrets masked.',
      examples: [{ line: 'arctic config view', says: 'clusters, peers and preferences' }],
      json: { schema: async () => (await import('../json/host.ts')).CONFIG },
      load: async () => (await import('../commands/config.ts')).view,
    },
    {
      name: 'config use',
      summary: 'Make a cluster the current one.',
      args: [CLUSTER],
      examples: [{ line: 'arctic config use production', says: 'commands go there from now on' }],
      json: { schema: async () => (await import('../json/deletions.ts')).CURRENT },
      load: async () => (await import('../commands/config.ts')).use,
    },
    {
      name: 'config rename',
      summary: 'Give a cluster another name here.',
      args: [CLUSTER, { name: 'NAME', required: true, summary: 'New name.' }],
      examples: [
        {
          line: 'arctic config rename clu_01JD0000000000000000000000 production',
          says: 'a name to remember',
        },
      ],
      json: { schema: async () => (await import('../json/deletions.ts')).RENAMED },
      load: async () => (await import('../commands/config.ts')).rename,
    },
    {
      name: 'config delete-peer',
      summary: 'Forget a peer here; the cluster keeps it.',
      args: [
        {
          name: 'PEER',
          required: true,
          summary: 'Peer of the current cluster, by id or name.',
          completes: 'peer',
        },
      ],
      examples: [
        { line: 'arctic config delete-peer paris --yes', says: 'its endpoints are not tried any more' },
      ],
      json: { schema: async () => (await import('../json/deletions.ts')).DELETED_PEER },
      load: async () => (await import('../commands/config.ts')).deletePeer,
    },
  ],
};

export const COMPLETION: Group = {
  name: 'completion',
  summary: 'Completion for bash, zsh and fish.',
  commands: [
    {
      name: 'completion',
      summary: 'Print the completion script for a shell.',
      args: [
        {
          name: 'SHELL',
          required: true,
          summary: 'bash, zsh or fish.',
          choices: ['bash', 'zsh', 'fish'],
          completes: 'shell',
        },
      ],
      examples: [
        { line: 'source <(arctic completion bash)', says: 'in ~/.bashrc' },
        {
          line: 'arctic completion fish > ~/.config/fish/completions/arctic.fish',
          says: 'for fish',
        },
      ],
      standalone: true,
      json: { none: 'a script for the shell' },
      load: async () => (await import('../commands/completion.ts')).completion,
    },
  ],
};

export const VERSION: Group = {
  name: 'version',
  summary: 'The version of this command line.',
  commands: [
    {
      name: 'version',
      summary: 'Print the version.',
      examples: [{ line: 'arctic version', says: 'version, Node.js and platform' }],
      standalone: true,
      json: { schema: async () => (await import('../json/host.ts')).VERSION },
      load: async () => (await import('../commands/version.ts')).version,
    },
  ],
};
