import type { Argument, Flag, Group } from '../command.ts';

const SERVICE: Flag = {
  name: 'service',
  type: 'text',
  value: 'SERVICE',
  required: true,
  summary: 'Id or name of the service.',
  completes: 'service',
};
const ROUTE: Argument = { name: 'ROUTE', required: true, summary: 'Number of the route in its service.' };
const SOURCE: Flag = {
  name: 'source-cidr',
  type: 'text',
  value: 'CIDR',
  summary: 'Where traffic comes from.',
};
const DEST: Flag = { name: 'dest-cidr', type: 'text', value: 'CIDR', summary: 'Where traffic goes to.' };
const PRIORITY: Flag = {
  name: 'priority',
  type: 'integer',
  value: 'N',
  summary: '0 to 65535; among equal prefixes the higher wins.',
};

export const RESET_FLOWS: Flag = {
  name: 'reset-flows',
  type: 'boolean',
  summary: 'End the connections it carries; without this they go on until they end by themselves.',
};

export const ROUTES: Group = {
  name: 'routes',
  aliases: ['route'],
  summary: 'Which traffic a service carries.',
  commands: [
    {
      name: 'routes list',
      aliases: ['routes ls'],
      summary: 'List the routes of a service.',
      flags: [SERVICE],
      examples: [{ line: 'arctic routes list --service web', says: 'the routes of one service' }],
      json: { api: 'Route', list: true },
      load: async () => (await import('../commands/routes.ts')).list,
    },
    {
      name: 'routes add',
      aliases: ['routes create'],
      summary: 'Add a route to a service.',
      description:
        'Adds a route to a service: a source CIDR, a destination CIDR, or both, of one address family, without host bits.',
      flags: [SERVICE, { ...PRIORITY, required: true }, SOURCE, DEST],
      examples: [
        {
          line: 'arctic routes add --service web --priority 100 --dest-cidr 192.168.7.0/24',
          says: 'everything to one network',
        },
        {
          line: 'arctic routes add --service web --priority 200 --source-cidr 10.0.0.0/8 --dest-cidr 2.2.2.2/32',
          says: 'from one network to one host',
        },
      ],
      json: { api: 'RoutesAdded' },
      load: async () => (await import('../commands/routes.ts')).add,
    },
    {
      name: 'routes update',
      summary: 'Change a route.',
      description:
        "Changes what is given and leaves the rest. An empty value takes a CIDR away (--source-cidr '').",
      args: [ROUTE],
      flags: [SERVICE, PRIORITY, SOURCE, DEST, RESET_FLOWS],
      examples: [{ line: 'arctic routes update 1 --service web --priority 300', says: 'a new priority' }],
      json: { api: 'Route' },
      load: async () => (await import('../commands/routes.ts')).update,
    },
    {
      name: 'routes delete',
      aliases: ['routes rm', 'routes remove'],
      summary: 'Delete a route.',
      args: [ROUTE],
      flags: [SERVICE, RESET_FLOWS],
      examples: [{ line: 'arctic routes delete 1 --service web --yes', says: 'delete without being asked' }],
      json: { schema: async () => (await import('../json/deletions.ts')).DELETED_ROUTE },
      load: async () => (await import('../commands/routes.ts')).remove,
    },
  ],
};
