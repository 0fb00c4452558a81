import type { Flag } from './command.ts';

/** Flags every command takes (SPEC section 6). */
export const GLOBAL_FLAGS: readonly Flag[] = [
  { name: 'url', type: 'text', value: 'URL', summary: 'Agent to ask, e.g. http://10.0.0.1:8080.' },
  {
    name: 'config',
    type: 'text',
    value: 'FILE',
    summary: 'Configuration file (default $XDG_CONFIG_HOME/arctic/config.yaml).',
    completes: 'file',
  },
  {
    name: 'peer',
    type: 'text',
    value: 'PEER',
    summary: 'Member the request is forwarded to, by id or name.',
    completes: 'peer',
  },
  {
    name: 'output',
    short: 'o',
    type: 'text',
    value: 'FORMAT',
    summary: 'Output format.',
    choices: ['table', 'json', 'yaml'],
  },
  { name: 'json', type: 'boolean', summary: 'Short for --output json.' },
  { name: 'token', type: 'text', value: 'TOKEN', summary: 'Access token to use as it is.' },
  {
    name: 'timeout',
    type: 'text',
    value: 'TIME',
    summary: 'Longest wait for one request, e.g. 500ms, 30s, 2m (default 30s).',
  },
  { name: 'debug', type: 'boolean', summary: 'One line on stderr for each request.' },
  { name: 'trace', type: 'boolean', summary: 'Each HTTP exchange in full on stderr, secrets masked.' },
  { name: 'yes', short: 'y', type: 'boolean', summary: 'Do not ask before a destructive step.' },
  {
    name: 'recovery-token',
    type: 'text',
    value: 'TOKEN',
    summary: 'Break-glass access with the recovery token of the agent.',
  },
  {
    name: 'recovery-token-file',
    type: 'text',
    value: 'FILE',
    summary: 'The same, read from a file (usually /etc/arctic/recovery.token).',
    completes: 'file',
  },
  { name: 'color', negated: true, type: 'boolean', summary: 'No colours.' },
];

/** Flags that mean help wherever they stand. */
export const HELP_FLAG: Flag = {
  name: 'help',
  short: 'h',
  type: 'boolean',
  summary: 'Show help for the command.',
};
