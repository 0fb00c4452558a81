import type { Condition, Instance } from '../contract.ts';
import type { CertificateFacts, Facts } from '../facts.ts';

const LOOPBACK = /^(127\.|::1$|::ffff:127\.)/;
/** Beyond this a peer's events are held back (the hybrid logical clock's bound). */
const SKEW_LIMIT_MS = 60_000;

/** Renewals are often by hand and need somebody's signature. */
const CERTIFICATE_NOTICE_MS = 30 * 86_400_000;

const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

const certificate =
  (select: (facts: CertificateFacts, now: number) => Instance | undefined) =>
  ({ api, now }: Facts) => {
    if (api === undefined) return undefined;
    const instance = api.certificate === undefined ? undefined : select(api.certificate, now);
    return instance === undefined ? [] : [instance];
  };

export const AGENT_CONDITIONS: readonly Condition[] = [
  {
    code: 'port-taken',
    severity: 'critical',
    area: 'ports',
    summary: 'Another program holds a port of the agent.',
    symptoms: ['Agent not responding'],
    dependsOn: [],
    detect: ({ ports }) =>
      ports
        ?.filter(({ holder }) => holder === 'other')
        .map(({ port, protocol, setting, use, program }) => ({
          subject: `${protocol}/${port}`,
          text: `${program ?? 'another program'} holds ${protocol.toUpperCase()} ${port} (${use}).`,
          remedy: `Free it ('ss -${protocol === 'tcp' ? 't' : 'u'}lnp | grep ${port}'), or set ${setting} to another port before starting the agent.`,
        })),
  },
  {
    code: 'agent-silent',
    severity: 'critical',
    area: 'agent',
    summary: 'The agent does not answer.',
    symptoms: ['Agent not responding', 'Connection refused'],
    dependsOn: ['settings-invalid', 'port-taken', 'kernel-no-tproxy', 'database-damaged', 'peer-key-missing'],
    detect: ({ agent }) =>
      agent &&
      (agent.silence === undefined
        ? []
        : [
            {
              text: `no agent answers at ${agent.url}: ${agent.silence}.`,
              remedy:
                "Start it with 'systemctl start arctic'; 'journalctl -u arctic -n 50' says why it stopped. A new host: 'arctic setup'.",
            },
          ]),
  },
  {
    code: 'agent-version-differs',
    severity: 'info',
    area: 'agent',
    summary: 'The agent and this command line have different versions.',
    symptoms: [],
    dependsOn: ['agent-silent'],
    detect: ({ agent }) =>
      agent?.version === undefined || agent.cliVersion === undefined
        ? undefined
        : agent.version === agent.cliVersion
          ? []
          : [
              {
                text: `the agent runs ${agent.version}, this command line is ${agent.cliVersion}.`,
                remedy: "Restart the agent with what is installed: 'arctic agent upgrade'.",
              },
            ],
  },
  {
    code: 'projections-behind',
    severity: 'critical',
    area: 'projections',
    summary: 'The event log is still being read.',
    symptoms: ['Applied state does not match the database'],
    dependsOn: ['agent-silent'],
    holdsBackReady: true,
    detect: ({ agent }) =>
      agent?.caughtUp === undefined
        ? undefined
        : agent.caughtUp
          ? []
          : [
              {
                text: 'the event log is being read.',
                remedy: "Wait; 'arctic health --readyz' says when it is done.",
              },
            ],
  },
  {
    code: 'not-bootstrapped',
    severity: 'critical',
    area: 'bootstrap',
    summary: 'The agent belongs to no cluster.',
    symptoms: [],
    dependsOn: ['agent-silent', 'projections-behind'],
    holdsBackReady: true,
    detect: ({ agent }) =>
      agent?.bootstrapped === undefined
        ? undefined
        : agent.bootstrapped
          ? []
          : [
              {
                text: 'not bootstrapped; run: arctic bootstrap --license-file FILE',
                remedy: "Run 'arctic setup', or 'arctic bootstrap --license-file FILE'.",
              },
            ],
  },
  {
    code: 'api-plain-http',
    severity: 'warning',
    area: 'API',
    summary: 'The API is plain HTTP beyond loopback.',
    symptoms: [],
    dependsOn: [],
    detect: ({ api }) =>
      api &&
      (api.tls || LOOPBACK.test(api.bind)
        ? []
        : [
            {
              text: `the API listens on ${api.bind} without TLS: client secrets and tokens pass in the clear (what peers say to each other is sealed anyway).`,
              remedy:
                'Set API_TLS_CERT and API_TLS_KEY, or keep the operator API on a network of its own; API_BIND=127.0.0.1 would shut peers out too.',
            },
          ]),
  },
  {
    code: 'api-certificate-expired',
    severity: 'critical',
    area: 'API',
    summary: 'The certificate of the API has expired.',
    symptoms: ['Agent not responding'],
    dependsOn: [],
    detect: certificate(({ expiresAt }, now) =>
      expiresAt > now
        ? undefined
        : {
            text: `the certificate of the API expired on ${dayOf(expiresAt)}; clients and peers refuse it.`,
            remedy:
              'Put a new one in the place of API_TLS_CERT and API_TLS_KEY, then: systemctl restart arctic',
          },
    ),
  },
  {
    code: 'api-certificate-expiring',
    severity: 'warning',
    area: 'API',
    summary: 'The certificate of the API expires within 30 days.',
    symptoms: [],
    dependsOn: ['api-certificate-expired'],
    detect: certificate(({ expiresAt }, now) =>
      expiresAt > now + CERTIFICATE_NOTICE_MS
        ? undefined
        : {
            text: `the certificate of the API expires on ${dayOf(expiresAt)}.`,
            remedy:
              'Put a new one in the place of API_TLS_CERT and API_TLS_KEY, then: systemctl restart arctic',
          },
    ),
  },
  {
    code: 'api-certificate-self-signed',
    severity: 'info',
    area: 'API',
    summary: 'The certificate of the API is self-signed.',
    symptoms: [],
    dependsOn: [],
    detect: certificate(({ selfSigned }) =>
      selfSigned
        ? {
            text: 'the certificate of the API is self-signed: whoever asks over https has to be told to trust it.',
            remedy:
              'Give clients and peers the certificate (NODE_EXTRA_CA_CERTS=FILE), or use one of an authority they trust.',
          }
        : undefined,
    ),
  },
  {
    code: 'peer-key-missing',
    severity: 'critical',
    area: 'database',
    summary: 'The event log is there, the key it was written with is not.',
    symptoms: ['Invalid signature'],
    dependsOn: [],
    detect: ({ database }) =>
      database &&
      (database.exists && database.key === 'missing'
        ? [
            {
              text: `${database.keyPath} is missing, but ${database.path} was written with it; the agent does not start.`,
              remedy: `Restore both ('arctic restore FILE'), or move ${database.path} away and bootstrap again.`,
            },
          ]
        : []),
  },
  {
    code: 'private-file-exposed',
    severity: 'critical',
    area: 'database',
    summary: 'Others on this host can read a private file.',
    symptoms: [],
    dependsOn: [],
    detect: ({ install }) =>
      install?.exposed.map(({ path, mode }) => ({
        subject: path,
        text: `${path} has mode ${mode}, so others on this host can read it.`,
        remedy: `'chmod 600 ${path}'; if somebody has read it, replace what it holds.`,
      })),
  },
  {
    code: 'database-damaged',
    severity: 'critical',
    area: 'database',
    summary: 'The event log fails its integrity or chain check.',
    symptoms: ['Applied state does not match the database'],
    dependsOn: [],
    detect: ({ database }) =>
      database &&
      (database.fault === undefined
        ? []
        : [
            {
              text: database.fault,
              remedy:
                "Stop the agent and restore a backup: 'systemctl stop arctic', 'arctic restore FILE'. It is never repaired silently.",
            },
          ]),
  },
  {
    code: 'clock-behind-log',
    severity: 'critical',
    area: 'clock',
    summary: 'The clock of this host is behind its own event log.',
    symptoms: [],
    dependsOn: ['database-damaged'],
    detect: ({ database, now }) =>
      database &&
      (database.newestEvent === undefined || database.newestEvent - now <= SKEW_LIMIT_MS
        ? []
        : [
            {
              text: `the newest change made on this host is dated ${new Date(database.newestEvent).toISOString()}, ${Math.round((database.newestEvent - now) / 1000)} s after its clock.`,
              remedy:
                "If the clock is wrong, set it ('timedatectl', 'chronyc tracking') and keep it in step by NTP. If it was wrong then, " +
                'peers hold back what is changed here until that time: make changes on another member.',
            },
          ]),
  },
  {
    code: 'unit-missing',
    severity: 'warning',
    area: 'installation',
    summary: 'The agent does not start with the host.',
    symptoms: ['Agent not responding'],
    dependsOn: [],
    detect: ({ install }) => {
      if (install === undefined) return undefined;
      if (!install.systemd) return [];
      if (install.unit === undefined)
        return [
          {
            text: 'there is no unit arctic.service, so the agent does not start with the host.',
            remedy: "'arctic agent install'.",
          },
        ];
      if (install.unit.enabled) return [];
      return [
        {
          text: `${install.unit.path} is not enabled, so the agent does not start with the host.`,
          remedy: "'systemctl enable arctic'.",
        },
      ];
    },
  },
  {
    code: 'unit-of-other-program',
    severity: 'warning',
    area: 'installation',
    summary: 'The unit starts another installation.',
    symptoms: [],
    dependsOn: ['unit-missing'],
    detect: ({ install }) =>
      install &&
      (install.unit === undefined || install.unit.program === install.program
        ? []
        : [
            {
              text: `${install.unit.path} starts ${install.unit.program}, but this is ${install.program}.`,
              remedy:
                "Point the unit here with 'arctic agent upgrade', or remove the installation that is not used.",
            },
          ]),
  },
  {
    code: 'old-install',
    severity: 'warning',
    area: 'installation',
    summary: 'An earlier installation left something behind.',
    symptoms: [],
    dependsOn: [],
    detect: ({ install }) =>
      install?.remnants.map(({ path, what }) => ({
        subject: path,
        text: `${path} is left of an earlier installation (${what}).`,
        remedy: `Look at it, then remove it: 'rm ${path}'; a unit first needs 'systemctl disable --now'.`,
      })),
  },
];
