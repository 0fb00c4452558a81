import type { Group } from '../command.ts';

export const AGENT: Group = {
  name: 'agent',
  summary: 'Run the agent on this host.',
  commands: [
    {
      name: 'agent',
      summary: 'Run the agent in the foreground (what the systemd unit starts).',
      description:
        'Runs the agent in the foreground until SIGTERM or SIGINT. Its settings are environment variables: API_PORT, ' +
        'API_BIND, TUNNEL_PORT, TPROXY_PORT, DATA_DIR, CONFIG_DIR, LOG_LEVEL, LOG_FORMAT, PARENT_INTERFACE, ' +
        'RESYNC_SECONDS, HEARTBEAT_SECONDS, ADVERTISE_ADDRESS, API_TLS_CERT and API_TLS_KEY. Linux only.',
      examples: [
        { line: 'arctic agent', says: 'run with the default settings' },
        { line: 'DATA_DIR=/var/lib/arctic API_PORT=8090 arctic agent', says: 'another directory and port' },
      ],
      standalone: true,
      load: async () => (await import('../commands/agent.ts')).agent,
    },
  ],
};

export const BOOTSTRAP: Group = {
  name: 'bootstrap',
  summary: 'Make a fresh agent the first peer of a cluster.',
  commands: [
    {
      name: 'bootstrap',
      summary: 'Make a fresh agent the first peer of a cluster.',
      description:
        'Gives a fresh agent its license and creates a cluster with it as the only peer. The client credentials that the ' +
        'agent answers with are saved to the configuration, and the cluster becomes the current one.',
      flags: [
        {
          name: 'license-file',
          type: 'text',
          value: 'FILE',
          required: true,
          summary: "License document; '-' reads it from stdin.",
          completes: 'file',
        },
        { name: 'name', type: 'text', value: 'NAME', summary: 'Name of the peer (default: its host name).' },
        { name: 'description', type: 'text', value: 'TEXT', summary: 'What the cluster is for.' },
      ],
      examples: [
        {
          line: 'arctic bootstrap --url http://localhost:8080 --license-file license.json',
          says: 'bootstrap the agent on this host',
        },
        {
          line: 'arctic bootstrap --url http://10.0.0.1:8080 --license-file license.json --name london',
          says: 'bootstrap another host and name it',
        },
      ],
      load: async () => (await import('../commands/bootstrap.ts')).bootstrap,
    },
  ],
};
