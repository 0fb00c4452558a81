import type { Argument, Flag, Group } from '../command.ts';

const FILE: Argument = {
  name: 'FILE',
  required: false,
  summary: 'Compose file; - is stdin (default cluster.yaml).',
  completes: 'file',
};
const FILE_FLAG: Flag = {
  name: 'file',
  short: 'f',
  type: 'text',
  value: 'FILE',
  summary: 'The same as the argument FILE.',
  completes: 'file',
};
const ENV_FILE: Flag = {
  name: 'env-file',
  type: 'text',
  value: 'FILE',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the notation of the file
  summary: 'NAME=value lines for ${NAME} in the file; the environment wins over them.',
  completes: 'file',
};
const PRUNE: Flag = {
  name: 'prune',
  type: 'boolean',
  summary: 'Delete services that the file does not have; peers are never deleted.',
};
const IGNORE: Flag = {
  name: 'ignore-unreachable',
  type: 'boolean',
  summary: 'Go on without peers that cannot be reached, and without services that lead to new ones of them.',
};
const STRICT: Flag = { name: 'strict', type: 'boolean', summary: 'Take a warning for an error.' };
const CREDENTIALS: Flag = {
  name: 'credentials-file',
  type: 'text',
  value: 'FILE',
  summary:
    'JSON with client_id and client_secret to use instead of the configuration; written when a new cluster is made.',
  completes: 'file',
};
const DRY_RUN: Flag = { name: 'dry-run', type: 'boolean', summary: 'Show the plan and change nothing.' };

export const COMPOSE: Group = {
  name: 'compose',
  summary: 'A cluster as a file: plan it, apply it, take it back.',
  commands: [
    {
      name: 'compose init',
      summary: 'Write a cluster.yaml to start from.',
      description:
        'Writes a compose file with an example of everything it can say. An existing file is left alone.',
      args: [FILE],
      flags: [FILE_FLAG],
      examples: [{ line: 'arctic compose init', says: 'write cluster.yaml here' }],
      standalone: true,
      json: { schema: async () => (await import('../json/compose.ts')).WRITTEN },
      load: async () => (await import('../commands/compose.ts')).init,
    },
    {
      name: 'compose export',
      summary: 'Print the cluster as a compose file.',
      description:
        "Prints the cluster as a compose file; 'compose diff' finds no difference to it. A service that carries nothing is left out, with a warning.",
      flags: [
        {
          name: 'file',
          short: 'f',
          type: 'text',
          value: 'FILE',
          summary: 'Write it there instead of to stdout.',
          completes: 'file',
        },
      ],
      examples: [
        { line: 'arctic compose export > cluster.yaml', says: 'the cluster as it is, as a file' },
        { line: 'arctic compose export --json', says: 'the same for a script' },
      ],
      json: { schema: async () => (await import('../json/compose.ts')).EXPORTED },
      load: async () => (await import('../commands/compose.ts')).exportCluster,
    },
    {
      name: 'compose fmt',
      summary: 'Lay a compose file out in the common form.',
      description:
        'Lays a compose file out with two spaces of indentation and no folded lines. Comments and blank lines stay, and nothing it says changes.',
      args: [FILE],
      flags: [
        FILE_FLAG,
        { name: 'check', type: 'boolean', summary: 'Change nothing; exit code 7 when it would be changed.' },
      ],
      examples: [
        { line: 'arctic compose fmt', says: 'cluster.yaml in place' },
        { line: 'arctic compose fmt --check', says: 'in a pipeline' },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/compose.ts')).FORMATTED },
      load: async () => (await import('../commands/compose.ts')).fmt,
    },
    {
      name: 'compose validate',
      summary: 'Check a compose file without asking any agent.',
      description:
        'Checks a compose file: its shape, unique names, references, CIDRs. Every fault is shown with file, line and column; exit code 3 when there is one.',
      args: [FILE],
      flags: [FILE_FLAG, ENV_FILE],
      examples: [
        { line: 'arctic compose validate', says: 'check cluster.yaml' },
        {
          line: 'arctic compose validate prod.yaml --env-file prod.env --json',
          says: 'the faults for an editor',
        },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/compose.ts')).VALIDATED },
      load: async () => (await import('../commands/compose.ts')).validate,
    },
    {
      name: 'compose diff',
      aliases: ['compose plan'],
      summary: 'Show what apply would change.',
      description:
        'Compares a compose file with its cluster and shows the plan: + is added, ~ changed, - removed. Exit code 7 when there is a difference, 0 when there is none.',
      args: [FILE],
      flags: [FILE_FLAG, PRUNE, IGNORE, CREDENTIALS, ENV_FILE, STRICT],
      examples: [
        { line: 'arctic compose diff', says: 'what would apply change' },
        { line: 'arctic compose diff --prune', says: 'with the services that would be deleted' },
      ],
      json: { schema: async () => (await import('../json/compose.ts')).PLAN },
      load: async () => (await import('../commands/compose.ts')).diff,
    },
    {
      name: 'compose apply',
      summary: 'Make the cluster what a compose file says.',
      description:
        'Shows the plan, asks, takes the cluster lock, bootstraps and joins new peers, changes services and routes, and waits until every reconciler of every touched peer has applied it. Run it again after an interruption: it goes on from what is there. Applied twice, it changes nothing.',
      args: [FILE],
      flags: [
        FILE_FLAG,
        DRY_RUN,
        PRUNE,
        IGNORE,
        {
          name: 'license-file',
          type: 'text',
          value: 'FILE',
          summary: "License to bootstrap new peers with, instead of the file's own.",
          completes: 'file',
        },
        CREDENTIALS,
        ENV_FILE,
        {
          name: 'save-config',
          type: 'boolean',
          summary: 'Save the cluster and its credentials to the configuration and make it current.',
        },
        STRICT,
      ],
      examples: [
        { line: 'arctic compose apply', says: 'show the plan, ask, apply' },
        { line: 'arctic compose apply --dry-run', says: 'only the plan' },
        { line: 'arctic compose apply prod.yaml --yes --json', says: 'in a pipeline' },
        {
          line: 'arctic compose apply --credentials-file ci.json --env-file prod.env --prune --yes',
          says: 'with credentials of its own, deleting what the file does not have',
        },
      ],
      json: { schema: async () => (await import('../json/compose.ts')).RUN },
      load: async () => (await import('../commands/compose.ts')).apply,
    },
    {
      name: 'compose rollback',
      summary: 'Take back the last change, or go back to a position of the log.',
      description:
        "Makes services, routes and settings of peers what they were. Without --to it takes back the newest change, whether made by 'compose apply' or by hand; run again it takes the rollback back. Peers that joined since stay, and keep their addresses. Positions are those of the agent that is asked ('arctic events list').",
      flags: [
        {
          name: 'to',
          type: 'text',
          value: 'POSITION',
          summary: 'Position of the log, or a time, whose state is to stand again.',
        },
        DRY_RUN,
        IGNORE,
        CREDENTIALS,
        STRICT,
      ],
      examples: [
        { line: 'arctic compose rollback', says: 'take back the last change' },
        {
          line: 'arctic compose rollback --to 120 --dry-run',
          says: 'what would go back to position 120 change',
        },
      ],
      json: { schema: async () => (await import('../json/compose.ts')).RUN },
      load: async () => (await import('../commands/compose.ts')).rollback,
    },
  ],
};
