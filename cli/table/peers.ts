import type { Argument, Group } from '../command.ts';

const PEER: Argument = { name: 'PEER', required: true, summary: 'Id or name of a peer.', completes: 'peer' };

export const PEERS: Group = {
  name: 'peers',
  aliases: ['peer'],
  summary: 'The members of the cluster.',
  commands: [
    {
      name: 'peers list',
      aliases: ['peers ls'],
      summary: 'List the peers.',
      flags: [
        { name: 'local', type: 'boolean', summary: 'Only the peer of the agent that is asked.' },
        { name: 'remote', type: 'boolean', summary: 'Only the other peers.' },
      ],
      examples: [
        { line: 'arctic peers list', says: 'all members with their state' },
        { line: 'arctic peers list --remote --json', says: 'the other members, for a script' },
      ],
      json: { api: 'Peer', list: true },
      load: async () => (await import('../commands/peers.ts')).list,
    },
    {
      name: 'peers get',
      aliases: ['peers show'],
      summary: 'Show one peer.',
      args: [PEER],
      examples: [{ line: 'arctic peers get london', says: 'everything known about one member' }],
      json: { api: 'Peer' },
      load: async () => (await import('../commands/peers.ts')).get,
    },
    {
      name: 'peers add',
      summary: 'Handshake with another agent and admit it.',
      description:
        'Asks the agent to shake hands with another agent and admit it to the cluster. Both must have been bootstrapped ' +
        'with licenses of one customer, and TCP 8080, TCP 61000 and UDP 51840 must be open in both directions. The ports of the ' +
        'traffic are tried: what is closed, and for whom, stands under Reason, here and in cluster status, until it is open.',
      args: [{ name: 'HOST:PORT', required: true, summary: 'API address of the other agent.' }],
      flags: [
        { name: 'name', type: 'text', value: 'NAME', summary: 'Name for the peer (default: its own).' },
      ],
      examples: [
        { line: 'arctic peers add 10.0.0.2:8080', says: 'admit the agent on 10.0.0.2' },
        { line: 'arctic peers add [2001:db8::2]:8080 --name paris', says: 'by IPv6, with a name' },
        { line: 'arctic peers add 10.0.0.2:8080 --trace', says: 'see the HTTP exchange when it fails' },
      ],
      json: { api: 'Peer' },
      load: async () => (await import('../commands/peers.ts')).add,
    },
    {
      name: 'peers update',
      summary: 'Change the name or the API access of a peer.',
      args: [PEER],
      flags: [
        { name: 'name', type: 'text', value: 'NAME', summary: 'New name.' },
        {
          name: 'api-access',
          type: 'text',
          value: 'ACCESS',
          choices: ['open', 'internal'],
          summary: 'Whether ordinary clients may use its API; internal leaves only the recovery token.',
        },
      ],
      examples: [
        { line: 'arctic peers update paris --name paris-1', says: 'rename' },
        { line: 'arctic peers update paris --api-access internal', says: 'close its API to clients' },
      ],
      json: { api: 'Peer' },
      load: async () => (await import('../commands/peers.ts')).update,
    },
    {
      name: 'peers delete',
      aliases: ['peers rm', 'peers remove'],
      summary: 'Remove a peer from the cluster.',
      description:
        'Removes a peer from the cluster. It cannot come back by itself; it has to be added again.',
      args: [PEER],
      examples: [{ line: 'arctic peers delete paris --yes', says: 'remove it without being asked' }],
      json: { schema: async () => (await import('../json/deletions.ts')).DELETED_PEER },
      load: async () => (await import('../commands/peers.ts')).remove,
    },
    {
      name: 'peers remove-self',
      summary: 'Take the agent that is asked out of its cluster.',
      examples: [
        {
          line: 'arctic peers remove-self --url http://10.0.0.2:8080',
          says: 'let 10.0.0.2 leave the cluster',
        },
      ],
      json: { schema: async () => (await import('../json/deletions.ts')).LEFT },
      load: async () => (await import('../commands/peers.ts')).removeSelf,
    },
  ],
};
