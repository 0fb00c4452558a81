import type { Group } from '../command.ts';

export const SETUP: Group = {
  name: 'setup',
  summary: 'Take this host to a working peer, step by step.',
  commands: [
    {
      name: 'setup',
      summary: 'Take this host to a working peer, step by step.',
      description:
        'Checks the host, asks for a license, a name, the parent interface and whether to join a cluster, shows the plan, ' +
        'installs and starts the agent, bootstraps and joins, offers a first service and proves it with a real ' +
        'connection. Every answer has a flag; with --yes nothing is asked. Interrupted, it goes on where it was. Exit ' +
        'code 6 when everything was made but the connection did not go through.',
      flags: [
        {
          name: 'license-file',
          type: 'text',
          value: 'FILE',
          summary: 'License document on this host.',
          completes: 'file',
        },
        {
          name: 'trust-root',
          type: 'text',
          value: 'FILE',
          summary: 'Public root of its issuer (default: root.pub beside it), if it is not trusted here yet.',
          completes: 'file',
        },
        {
          name: 'customer',
          type: 'text',
          value: 'ID',
          summary: 'Instead of a license file: issue a license for this customer.',
        },
        {
          name: 'license-root',
          type: 'text',
          value: 'DIR',
          summary:
            'Directory of the license root to issue with, made when it is empty (default ~/arctic-root).',
          completes: 'directory',
        },
        { name: 'name', type: 'text', value: 'NAME', summary: 'Name of this peer (default: its host name).' },
        {
          name: 'parent-interface',
          type: 'text',
          value: 'NAME',
          summary: 'Parent of service interfaces (default: that of the default route).',
        },
        { name: 'first', type: 'boolean', summary: 'This is the first peer of a new cluster.' },
        { name: 'join', type: 'text', value: 'HOST:PORT', summary: 'Join the cluster of this member.' },
        {
          name: 'dest-cidr',
          type: 'text',
          value: 'CIDR',
          summary: 'Make a first service for this network.',
        },
        {
          name: 'target-peer',
          type: 'text',
          value: 'PEER',
          summary: 'Where the service ends; needed when there is a choice.',
          completes: 'peer',
        },
        {
          name: 'service-name',
          type: 'text',
          value: 'NAME',
          summary: 'Name of the service (default NAME-PEER).',
        },
        { name: 'service', negated: true, type: 'boolean', summary: 'Do not offer a service.' },
        {
          name: 'prove',
          type: 'text',
          value: 'ADDRESS:PORT',
          summary: 'Prove the service with a connection to this address.',
        },
        {
          name: 'unit',
          negated: true,
          type: 'boolean',
          summary:
            'Start the agent in the background instead of by a systemd unit (default where systemd does not run).',
        },
        { name: 'restart', type: 'boolean', summary: 'Forget the answers of an interrupted setup.' },
      ],
      examples: [
        { line: 'arctic setup', says: 'ask for everything' },
        {
          line: 'arctic setup --yes --license-file license.json --name sydney --join 198.51.100.7:8080',
          says: 'unattended',
        },
        {
          line: 'arctic setup --yes --customer acme --first',
          says: 'the first peer of an organisation that issues its own licenses',
        },
      ],
      json: { schema: async () => (await import('../json/host.ts')).SETUP },
      load: async () => (await import('../commands/setup.ts')).setup,
    },
  ],
};
