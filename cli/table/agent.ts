import type { Flag, Group } from '../command.ts';

const ROOT: Flag = {
  name: 'root',
  type: 'text',
  value: 'DIR',
  summary: 'Write below this directory, for an image; systemd is left alone.',
  completes: 'directory',
};

export const AGENT: Group = {
  name: 'agent',
  summary: 'Run, install or remove the agent on this host.',
  commands: [
    {
      name: 'agent',
      summary: 'Run the agent in the foreground (what the systemd unit starts).',
      description:
        'Runs the agent in the foreground until SIGTERM or SIGINT. Its settings are environment variables: API_PORT, ' +
        'API_BIND, TUNNEL_PORT, TUNNEL_AEGIS, TPROXY_PORT, TPROXY_CONNECTIONS, TPROXY_SERVICE_CONNECTIONS, TPROXY_IDLE_SECONDS, DATA_DIR, CONFIG_DIR, LOG_LEVEL, LOG_FORMAT, PARENT_INTERFACE, ' +
        'RESYNC_SECONDS, HEARTBEAT_SECONDS, FIREWALL_OWNER, ALLOW_XTABLES, OBSERVE_ONLY, ADVERTISE_ADDRESS, API_TLS_CERT and API_TLS_KEY. Linux only.',
      flags: [
        {
          name: 'cleanup',
          type: 'boolean',
          summary: 'Instead, remove everything of Arctic from the kernel and exit; the agent must not run.',
        },
        {
          name: 'observe-only',
          type: 'boolean',
          summary: 'Report what differs from the desired state and change nothing (OBSERVE_ONLY=1).',
        },
        {
          name: 'verify-full',
          type: 'boolean',
          summary:
            'Verify every event and the whole file before starting, not only the newest thousand, the end of every chain, and ' +
            'the pages of a file up to 64 MiB (512 MiB after a crash).',
        },
      ],
      examples: [
        { line: 'arctic agent', says: 'run with the default settings' },
        { line: 'DATA_DIR=/var/lib/arctic API_PORT=8090 arctic agent', says: 'another directory and port' },
        { line: 'arctic agent --cleanup', says: 'take tables, routing and interfaces of Arctic away' },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/host.ts')).CLEANED },
      load: async () => (await import('../commands/agent.ts')).agent,
    },
    {
      name: 'agent install',
      summary: 'Install the systemd unit and start the agent.',
      description:
        'Writes the unit, the directories, the settings file arctic.env and the manual page, enables the unit and starts ' +
        'it. Run again, it changes nothing. Where systemd does not run it writes the files, says what it did not do, and ' +
        'ends with exit code 6.',
      flags: [
        ROOT,
        {
          name: 'set',
          type: 'list',
          value: 'NAME=VALUE',
          summary: 'Setting to write into arctic.env, e.g. API_PORT=8090; may be repeated.',
        },
        { name: 'start', negated: true, type: 'boolean', summary: 'Enable the unit, but do not start it.' },
      ],
      examples: [
        { line: 'arctic agent install', says: 'install, enable and start' },
        { line: 'arctic agent install --set PARENT_INTERFACE=eth1 --no-start', says: 'with a setting' },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/host.ts')).INSTALLATION },
      load: async () => (await import('../commands/agent.ts')).install,
    },
    {
      name: 'agent upgrade',
      summary: 'Point the unit at this version and restart the agent.',
      flags: [ROOT],
      examples: [{ line: 'arctic agent upgrade', says: 'after a newer package was installed' }],
      standalone: true,
      json: { schema: async () => (await import('../json/host.ts')).INSTALLATION },
      load: async () => (await import('../commands/agent.ts')).upgrade,
    },
    {
      name: 'agent uninstall',
      summary: 'Stop the agent, remove its unit and everything of it in the kernel.',
      flags: [
        ROOT,
        {
          name: 'purge',
          type: 'boolean',
          summary: 'Also remove the event log, the keys and the settings. They cannot be brought back.',
        },
      ],
      examples: [
        { line: 'arctic agent uninstall --yes', says: 'the event log, keys and settings stay' },
        { line: 'arctic agent uninstall --purge --yes', says: 'leave nothing' },
      ],
      standalone: true,
      json: { schema: async () => (await import('../json/host.ts')).INSTALLATION },
      load: async () => (await import('../commands/agent.ts')).uninstall,
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
      json: { api: 'BootstrapAnswer', without: ['client_secret'] },
      load: async () => (await import('../commands/bootstrap.ts')).bootstrap,
    },
  ],
};
