import type { Argument, Flag, Group } from '../command.ts';
import { RESET_FLOWS } from './routes.ts';

const SERVICE: Argument = {
  name: 'SERVICE',
  required: true,
  summary: 'Id or name of a service.',
  completes: 'service',
};

const SETTINGS: readonly Flag[] = [
  { name: 'name', type: 'text', value: 'NAME', summary: 'Name of the service.' },
  {
    name: 'transport',
    type: 'text',
    value: 'TYPE',
    choices: ['tcp', 'kcp', 'auto'],
    summary: 'Transport between the peers: kcp for lossy links, auto to have the path measured.',
  },
  {
    name: 'requires-interface',
    type: 'boolean',
    summary: 'Give the service a network interface of its own on the source peer.',
  },
  {
    name: 'desired-ipv4',
    type: 'text',
    value: 'CIDR',
    summary: 'IPv4 address of that interface, e.g. 10.1.0.5/24.',
  },
  { name: 'desired-ipv6', type: 'text', value: 'CIDR', summary: 'IPv6 address of that interface.' },
  {
    name: 'fully-transparent',
    type: 'boolean',
    summary: "Let the destination see the client's address (needs tcp and an interface).",
  },
  {
    name: 'bandwidth-limit',
    type: 'number',
    value: 'MBPS',
    summary: 'Limit in Mbit/s in each direction; 0 is none.',
  },
  {
    name: 'on-failure',
    type: 'text',
    value: 'WHAT',
    choices: ['direct', 'reject'],
    summary: 'New connections while no agent takes them: sent on directly, or refused.',
  },
];

export const SERVICES: Group = {
  name: 'services',
  aliases: ['service'],
  summary: 'Directed paths from a source peer to a target peer.',
  commands: [
    {
      name: 'services list',
      aliases: ['services ls'],
      summary: 'List the services.',
      description:
        'Lists the services. FLAGS: I own interface, T fully transparent, Q bandwidth limit. STATUS is that of the agent ' +
        "that is asked: applied, pending or failed; 'services get' says which reconciler and why.",
      flags: [
        {
          name: 'source-peer',
          type: 'text',
          value: 'PEER',
          summary: 'Only those from this peer.',
          completes: 'peer',
        },
        {
          name: 'target-peer',
          type: 'text',
          value: 'PEER',
          summary: 'Only those to this peer.',
          completes: 'peer',
        },
        {
          name: 'requires-interface',
          type: 'boolean',
          summary: 'Only those with an interface of their own.',
        },
      ],
      examples: [
        { line: 'arctic services list', says: 'all services' },
        { line: 'arctic services list --source-peer london --json', says: 'those that start in London' },
      ],
      json: { api: 'Service', list: true },
      load: async () => (await import('../commands/services.ts')).list,
    },
    {
      name: 'services get',
      aliases: ['services show'],
      summary: 'Show one service with its routes and what each reconciler did.',
      args: [SERVICE],
      examples: [{ line: 'arctic services get web', says: 'settings, routes and status of one service' }],
      json: { api: 'Service' },
      load: async () => (await import('../commands/services.ts')).get,
    },
    {
      name: 'services create',
      aliases: ['services add'],
      summary: 'Create a service.',
      description: 'Creates a service. It carries traffic once it has a route (see arctic routes add).',
      flags: [
        {
          name: 'target-peer',
          type: 'text',
          value: 'PEER',
          required: true,
          summary: 'Peer where the traffic leaves.',
          completes: 'peer',
        },
        {
          name: 'source-peer',
          type: 'text',
          value: 'PEER',
          summary: 'Peer where the traffic enters (default: the peer of the agent that is asked).',
          completes: 'peer',
        },
        ...SETTINGS,
      ],
      examples: [
        { line: 'arctic services create --target-peer paris --name web', says: 'from this peer to Paris' },
        {
          line: 'arctic services create --target-peer paris --transport kcp --bandwidth-limit 100',
          says: 'over KCP, at most 100 Mbit/s',
        },
        {
          line: 'arctic services create --target-peer paris --requires-interface --desired-ipv4 10.1.0.5/24',
          says: 'with an interface and address of its own',
        },
      ],
      json: { api: 'Service' },
      load: async () => (await import('../commands/services.ts')).create,
    },
    {
      name: 'services update',
      summary: 'Change settings of a service.',
      description:
        "Changes the settings that are given and leaves the others. A boolean is switched off by '--no-NAME', an address " +
        "taken away by an empty value (--desired-ipv4 ''). Established connections go on; they end when the service gets " +
        'another source or target peer or is no longer transparent, and with --reset-flows.',
      args: [SERVICE],
      flags: [
        ...SETTINGS,
        {
          name: 'source-peer',
          type: 'text',
          value: 'PEER',
          summary: 'New source peer.',
          completes: 'peer',
        },
        {
          name: 'target-peer',
          type: 'text',
          value: 'PEER',
          summary: 'New target peer.',
          completes: 'peer',
        },
        RESET_FLOWS,
      ],
      examples: [
        { line: 'arctic services update web --bandwidth-limit 0', says: 'remove the bandwidth limit' },
        { line: 'arctic services update web --transport kcp', says: 'switch to KCP' },
      ],
      json: { api: 'Service' },
      load: async () => (await import('../commands/services.ts')).update,
    },
    {
      name: 'services top',
      summary: 'Show what goes through the services, like top.',
      description:
        'Shows connections, rates, open latency and limits of the services on the agent that is asked, the busiest first, ' +
        'and round trip and loss of the links to other peers, over KCP of those that this agent dials; again and again on a ' +
        'terminal, once otherwise. IN is read from clients (entry) or destinations (exit), OUT written to them.',
      flags: [
        {
          name: 'interval',
          type: 'integer',
          value: 'SECONDS',
          summary: 'Seconds between two looks, 1 to 60 (default 2).',
        },
        { name: 'once', type: 'boolean', summary: 'Look over one interval and end, also on a terminal.' },
      ],
      examples: [
        { line: 'arctic services top', says: 'watch until interrupted' },
        { line: 'arctic services top --once --json', says: 'rates of two seconds, for a script' },
      ],
      json: {
        api: 'Traffic',
        adds: { to: 'services', fields: async () => (await import('../json/traffic.ts')).RATES },
      },
      load: async () => (await import('../commands/traffic.ts')).top,
    },
    {
      name: 'services flows',
      summary: 'List the connections of a service.',
      description:
        'Lists the connections of a service on the agent that is asked, the largest first, 1,000 at most. OPEN is how long ' +
        'it took to connect the destination; RTT and LOSS are those of the link under it, in the direction this agent sends; ' +
        'over KCP all connections to a peer share one. A narrow terminal shows fewer columns.',
      args: [SERVICE],
      examples: [
        { line: 'arctic services flows web', says: 'who is connected, where to, and how it fares' },
        { line: 'arctic services flows web --json', says: 'with every counter' },
      ],
      json: { api: 'FlowNow', list: true },
      load: async () => (await import('../commands/traffic.ts')).flows,
    },
    {
      name: 'services delete',
      aliases: ['services rm', 'services remove'],
      summary: 'Delete a service and its routes.',
      description:
        'Deletes a service with its routes and ends its connections. To let those run out first, delete its routes, and the ' +
        "service when 'arctic services flows SERVICE' lists none.",
      args: [SERVICE],
      flags: [
        {
          ...RESET_FLOWS,
          summary: 'As in other commands; the connections of a deleted service end in any case.',
        },
      ],
      examples: [{ line: 'arctic services delete web --yes', says: 'delete without being asked' }],
      json: { schema: async () => (await import('../json/deletions.ts')).DELETED_SERVICE },
      load: async () => (await import('../commands/services.ts')).remove,
    },
  ],
};
