import type { Condition, Instance } from '../contract.ts';
import type { Facts, LicenseFacts, ServiceFacts } from '../facts.ts';

/** A lease of this length or less ends by itself before anybody has read about it. */
const DAY_MS = 86_400_000;

const inState =
  (state: string, instance: (license: LicenseFacts) => Instance) =>
  ({ license }: Facts) =>
    license ? (license.state === state ? [instance(license)] : []) : undefined;

const RENEW = "Install a new license: 'arctic license install FILE'.";

const ofServices =
  (select: (service: ServiceFacts) => Instance | undefined) =>
  ({ services }: Facts) =>
    services?.flatMap((service) => {
      const instance = select(service);
      return instance === undefined ? [] : [{ subject: service.name, ...instance }];
    });

const days = (ms: number): string => `${Math.max(0, Math.ceil(ms / DAY_MS))} days`;

export const CLUSTER_CONDITIONS: readonly Condition[] = [
  {
    code: 'trust-roots-missing',
    severity: 'critical',
    area: 'trust roots',
    summary: 'No license root is trusted on this host.',
    symptoms: [],
    dependsOn: ['trust-root-refused'],
    detect: ({ trust }) =>
      trust &&
      (trust.roots > 0 || trust.fault !== undefined
        ? []
        : [
            {
              text: `${trust.directory} holds no *.pub, so no license can be verified.`,
              remedy: `Copy the root.pub of the issuer there: 'install -D -m 0644 root.pub ${trust.directory}/root.pub'.`,
            },
          ]),
  },
  {
    code: 'trust-root-refused',
    severity: 'critical',
    area: 'trust roots',
    summary: 'A license root is refused.',
    symptoms: [],
    dependsOn: [],
    detect: ({ trust }) =>
      trust &&
      (trust.fault === undefined
        ? []
        : [{ text: trust.fault, remedy: 'Do what it says; the agent does not start with such a root.' }]),
  },
  {
    code: 'license-missing',
    severity: 'critical',
    area: 'license',
    summary: 'No license is installed.',
    symptoms: [],
    dependsOn: ['not-bootstrapped', 'agent-silent'],
    holdsBackReady: true,
    detect: ({ license }) =>
      license === undefined
        ? undefined
        : license === null
          ? [{ text: 'no license is installed.', remedy: RENEW }]
          : [],
  },
  {
    code: 'license-warning',
    severity: 'warning',
    area: 'license',
    summary: 'The license ends within 30 days.',
    symptoms: [],
    dependsOn: [],
    detect: (facts) =>
      inState('warning', (license) => ({
        text: `license ${license.licenseId} ends in ${days(Date.parse(license.expiresAt) - facts.now)}.`,
        remedy: RENEW,
      }))(facts),
  },
  {
    code: 'license-grace',
    severity: 'warning',
    area: 'license',
    summary: 'The license has expired; everything still works.',
    symptoms: [],
    dependsOn: [],
    detect: inState('grace', (license) => ({
      text: `license ${license.licenseId} expired on ${license.expiresAt.slice(0, 10)}; writes are refused 14 days after that.`,
      remedy: RENEW,
    })),
  },
  {
    code: 'license-read-only',
    severity: 'critical',
    area: 'license',
    summary: 'The license is out of grace; changes are refused.',
    symptoms: [],
    dependsOn: [],
    detect: inState('read_only', (license) => ({
      text: `license ${license.licenseId} is out of grace: changes are refused, traffic still flows.`,
      remedy: RENEW,
    })),
  },
  {
    code: 'license-suspended',
    severity: 'critical',
    area: 'license',
    summary: 'The license is suspended; services are stopped.',
    symptoms: ['Traffic is not being routed'],
    dependsOn: [],
    holdsBackReady: true,
    detect: inState('suspended', (license) => ({
      text: `license ${license.licenseId} is suspended: services are stopped.`,
      remedy: RENEW,
    })),
  },
  {
    code: 'license-nodes-used',
    severity: 'info',
    area: 'license',
    summary: 'The cluster is at the node cap of its license.',
    symptoms: ['Node limit exceeded'],
    dependsOn: [],
    detect: ({ license }) =>
      !license
        ? undefined
        : license.nodes < license.maxNodes
          ? []
          : [
              {
                text: `${license.nodes} of ${license.maxNodes} nodes are in use; another peer gets 'node limit exceeded'.`,
                remedy:
                  "Remove peers that are not used ('arctic peers delete PEER_ID --yes'), or install a wider license.",
              },
            ],
  },
  {
    code: 'license-services-used',
    severity: 'info',
    area: 'license',
    summary: 'The cluster is at the service cap of its license.',
    symptoms: [],
    dependsOn: [],
    detect: ({ license }) =>
      !license
        ? undefined
        : license.services < license.maxServices
          ? []
          : [
              {
                text: `${license.services} of ${license.maxServices} services are in use; another one is refused.`,
                remedy: 'Delete a service that is not used, or install a wider license.',
              },
            ],
  },
  {
    code: 'cluster-locked',
    severity: 'info',
    area: 'agent',
    summary: 'An operator holds the cluster lock.',
    symptoms: [],
    dependsOn: [],
    detect: ({ lock }) =>
      lock === undefined
        ? undefined
        : lock === null
          ? []
          : [
              {
                text: `${lock.holder} holds the cluster lock (${lock.purpose}) until ${lock.expiresAt}.`,
                remedy: "It ends by itself. When its holder is gone: 'arctic cluster unlock --yes'.",
              },
            ],
  },
  {
    code: 'reconciler-failed',
    severity: 'critical',
    area: 'reconcilers',
    summary: 'A reconciler cannot apply the desired state.',
    symptoms: [
      'Traffic is not being routed',
      'MACVLAN interface not created',
      'Firewall rules missing',
      'TProxy engine not applying config',
      'IP tunnel not applying config',
      'MACVLAN interface missing',
    ],
    dependsOn: ['agent-silent', 'not-bootstrapped'],
    holdsBackReady: true,
    detect: ({ reconcilers }) =>
      reconcilers
        ?.filter(({ state }) => state === 'failed')
        .map(({ name, error }) => ({
          subject: name,
          text: `the ${name} reconciler fails: ${error ?? 'no reason given'}.`,
          remedy: `'journalctl -u arctic | grep reconciler=${name}' has the whole story; 'systemctl restart arctic' forces a full pass.`,
        })),
  },
  {
    code: 'reconciler-restrained',
    severity: 'warning',
    area: 'reconcilers',
    summary:
      'A reconciler holds back: another program undoes its work again and again, or it may only observe.',
    symptoms: ['Firewall rules missing', 'Applied state does not match the database'],
    dependsOn: ['reconciler-failed', 'agent-silent'],
    detect: ({ reconcilers }) =>
      reconcilers?.flatMap(({ name, condition }) =>
        condition === null
          ? []
          : [
              {
                subject: name,
                text: `the ${name} reconciler holds back: ${condition}.`,
                remedy:
                  "'arctic drift' says until when repair waits and who undid it; 'arctic events list --type drift.found' shows what differed each time; without OBSERVE_ONLY=1 the agent applies again.",
              },
            ],
      ),
  },
  {
    code: 'service-failed',
    severity: 'critical',
    area: 'services',
    summary: 'A service is not applied.',
    symptoms: ['Traffic is not being routed', 'MACVLAN interface missing'],
    dependsOn: ['reconciler-failed'],
    detect: ofServices(({ name, failed }) => {
      const [first] = failed;
      return first === undefined
        ? undefined
        : {
            text: `service ${name} is not applied by ${first.reconciler}: ${first.reason}.`,
            remedy: `'arctic services get ${name}' and 'journalctl -u arctic | grep reconciler=${first.reconciler}' say more.`,
          };
    }),
  },
  {
    code: 'tunnel-one-way',
    severity: 'warning',
    area: 'services',
    summary: 'Packets go into the IP tunnel of a service, and none comes back.',
    symptoms: ['IP tunnel not applying config', 'Peers cannot communicate'],
    dependsOn: ['reconciler-failed', 'peer-unreachable', 'peer-pending', 'peer-tunnel-closed'],
    detect: ofServices(({ name, fromHere, tunnel }) => {
      const sent = Number(/(\d+) B out, 0 B in/.exec(tunnel ?? '')?.[1] ?? 0);
      return !fromHere || sent === 0
        ? undefined
        : {
            text: `${sent} bytes went into the IP tunnel of service ${name}, and none came back; what is not TCP may not pass.`,
            remedy:
              'Open UDP 51840 (TUNNEL_PORT) between the hosts, in both directions: a firewall that drops it leaves no other trace.',
          };
    }),
  },
  {
    code: 'service-without-peer',
    severity: 'warning',
    area: 'services',
    summary: 'A service carries nothing: a peer of it is no member any more.',
    symptoms: ['Traffic is not being routed'],
    dependsOn: ['left-cluster'],
    detect: ofServices(({ name, gone: [peer] }) =>
      peer === undefined
        ? undefined
        : {
            text: `service ${name} carries nothing: ${peer.name} ${peer.state === 'left' ? 'left' : 'was removed from'} the cluster.`,
            remedy: `'arctic peers add HOST:PORT' brings ${peer.name} back; 'arctic services delete ${name}' ends the service.`,
          },
    ),
  },
  {
    code: 'service-without-route',
    severity: 'warning',
    area: 'services',
    summary: 'A service carries nothing: it has no route and no interface.',
    symptoms: ['Traffic is not being routed'],
    dependsOn: [],
    detect: ofServices(({ name, routes, requiresInterface }) =>
      routes > 0 || requiresInterface
        ? undefined
        : {
            text: `service ${name} has no route and no interface, so nothing goes through it.`,
            remedy: `'arctic routes add --service ${name} --priority 100 --dest-cidr CIDR'.`,
          },
    ),
  },
  {
    code: 'service-elsewhere',
    severity: 'info',
    area: 'services',
    summary: 'No service starts at this host.',
    symptoms: ['Traffic is not being routed'],
    dependsOn: [],
    detect: ({ services }) =>
      services &&
      (services.length === 0 || services.some(({ fromHere }) => fromHere)
        ? []
        : [
            {
              text: 'no service has this host as its source, so traffic from here is not captured.',
              remedy: 'Test from the source of the service, or create one that starts here.',
            },
          ]),
  },
  {
    code: 'service-limited',
    severity: 'info',
    area: 'services',
    summary: 'A bandwidth limit shapes a service.',
    symptoms: ['High latency'],
    dependsOn: [],
    detect: ofServices(({ name, limitMbps }) =>
      limitMbps <= 0
        ? undefined
        : {
            text: `service ${name} is limited to ${limitMbps} Mbit/s (bandwidth_limit_mbps).`,
            remedy: `If that is too low: 'arctic services update ${name} --bandwidth-limit 0'.`,
          },
    ),
  },
  {
    code: 'drift',
    severity: 'warning',
    area: 'drift',
    summary: 'The kernel or an engine differs from the desired state.',
    symptoms: [
      'Traffic is not being routed',
      'Firewall rules missing',
      'Applied state does not match the database',
    ],
    dependsOn: ['reconciler-failed', 'agent-silent'],
    detect: ({ drift }) =>
      drift
        ?.filter(({ items }) => items.length > 0)
        .map(({ reconciler, items }) => ({
          subject: reconciler,
          text: `${items.length} thing${items.length === 1 ? '' : 's'} differ${items.length === 1 ? 's' : ''} for ${reconciler}: ${items.slice(0, 3).join('; ')}${items.length > 3 ? '; ...' : ''}.`,
          remedy: "'arctic drift' shows them; 'arctic cluster sync' runs a full pass now.",
        })),
  },
];
