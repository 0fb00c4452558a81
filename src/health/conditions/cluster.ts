import type { Condition, Instance } from '../contract.ts';
import type { Facts, LicenseFacts, PeerFacts, ServiceFacts } from '../facts.ts';

/** A peer's events are held back beyond this (the hybrid logical clock's bound). */
const SKEW_LIMIT_MS = 60_000;
const SKEW_NOTICE_MS = 5_000;
/** Events a peer may lag before it is worth a word; a round of gossip carries more. */
const LAG_NOTICE = 1_000;
/** A lease of this length or less ends by itself before anybody has read about it. */
const DAY_MS = 86_400_000;

const inState =
  (state: string, instance: (license: LicenseFacts) => Instance) =>
  ({ license }: Facts) =>
    license ? (license.state === state ? [instance(license)] : []) : undefined;

const RENEW = "Install a new license: 'arctic license install FILE'.";

const ofPeers =
  (select: (peer: PeerFacts) => Instance | undefined) =>
  ({ peers }: Facts) =>
    peers?.flatMap((peer) => {
      const instance = select(peer);
      return instance === undefined ? [] : [{ subject: peer.name, ...instance }];
    });

const ofServices =
  (select: (service: ServiceFacts) => Instance | undefined) =>
  ({ services }: Facts) =>
    services?.flatMap((service) => {
      const instance = select(service);
      return instance === undefined ? [] : [{ subject: service.name, ...instance }];
    });

/** `forkedReason` of the commands, as the API gives it. */
const isForked = (reason: string | null): boolean => reason?.startsWith('signed two histories') ?? false;

const days = (ms: number): string => `${Math.max(0, Math.ceil(ms / DAY_MS))} days`;
const seconds = (ms: number): string => `${(Math.abs(ms) / 1000).toFixed(1)} s`;

/** The fix for each sentence of the troubleshooting page's handshake failures. */
export function handshakeRemedy(reason: string, address: string): string {
  if (reason.includes('license mismatch'))
    return `Compare 'arctic license status' here and with --url http://${address}; re-bootstrap one of the two with the right license.`;
  if (reason.includes('invalid signature'))
    return 'The key of that peer was replaced or is damaged: re-bootstrap it; contact support if it recurs.';
  if (reason.includes('node limit'))
    return "Remove peers that are not used ('arctic peers list'), or install a license with a higher cap.";
  if (reason.includes('timeout'))
    return `Look for a firewall or NAT between the hosts, in both directions: 'curl http://${address}/livez'.`;
  if (reason.includes('refused'))
    return `Start the agent there ('systemctl start arctic') and open its port: 'curl http://${address}/livez'.`;
  return `Check the path in both directions: 'curl http://${address}/livez', then 'arctic cluster sync'.`;
}

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
    code: 'left-cluster',
    severity: 'critical',
    area: 'peers',
    summary: 'This host is no member of its cluster any more.',
    symptoms: ['Peers cannot communicate'],
    dependsOn: [],
    detect: ({ membership }) =>
      membership &&
      (membership.local === 'left' || membership.local === 'removed'
        ? [
            {
              text: `this host ${membership.local === 'left' ? 'left' : 'was removed from'} its cluster: no member takes its changes, and its services rest.`,
              remedy:
                "Add it again from a member ('arctic peers add HOST:PORT'), or re-bootstrap it: stop, remove the database, start, bootstrap.",
            },
          ]
        : []),
  },
  {
    code: 'peer-set-aside',
    severity: 'critical',
    area: 'peers',
    summary: 'The cluster has more peers than its license has nodes; the last to join is set aside.',
    symptoms: ['Node limit exceeded'],
    dependsOn: [],
    detect: ({ membership }) =>
      membership?.setAside.map(({ name, local, reason }) => ({
        subject: name,
        text: `${local ? 'this host' : `peer ${name}`} is ${reason}.`,
        remedy:
          "Remove a peer that is not used ('arctic peers delete PEER_ID --yes'), or install a license with a higher cap.",
      })),
  },
  {
    code: 'peer-name-unresolved',
    severity: 'warning',
    area: 'peers',
    summary: "A peer's address does not resolve.",
    symptoms: ['DNS resolution'],
    dependsOn: [],
    detect: ofPeers(({ name, address, tried }) =>
      tried === undefined || tried.resolves
        ? undefined
        : {
            text: `the address of ${name}, ${address}, does not resolve on this host.`,
            remedy: `Check the resolvers ('nslookup ${address.replace(/:\d+$/, '')}'), or set ADVERTISE_ADDRESS on that peer to an IP address.`,
          },
    ),
  },
  {
    code: 'peer-unreachable',
    severity: 'critical',
    area: 'peers',
    summary: 'A peer is unreachable.',
    symptoms: [
      'Peers cannot communicate',
      'Connection refused',
      'Connection timeout',
      'License mismatch',
      'Invalid signature',
    ],
    dependsOn: ['peer-name-unresolved'],
    detect: ofPeers(({ name, address, state, reason, tried }) => {
      if (state !== 'unreachable') return undefined;
      const why = reason ?? tried?.api ?? 'it does not answer';
      return {
        text: `peer ${name} (${address}) is unreachable: ${why}.`,
        remedy: handshakeRemedy(why, address),
      };
    }),
  },
  {
    code: 'peer-pending',
    severity: 'warning',
    area: 'peers',
    summary: 'A peer has not shaken hands yet.',
    symptoms: ['Peers cannot communicate', 'Peer already exists'],
    dependsOn: ['peer-name-unresolved'],
    detect: ofPeers(({ name, address, state, reason }) =>
      state !== 'pending'
        ? undefined
        : {
            text: `peer ${name} (${address}) has not shaken hands with this host yet${reason === null ? '' : `: ${reason}`}.`,
            remedy: `Wait for the next heartbeat, or 'arctic cluster sync'; then ${handshakeRemedy(reason ?? '', address)}`,
          },
    ),
  },
  {
    code: 'peer-forked',
    severity: 'critical',
    area: 'peers',
    summary: 'A peer signed two histories.',
    symptoms: [],
    dependsOn: [],
    detect: ofPeers(({ id, name, address, reason }) =>
      isForked(reason)
        ? {
            text: `peer ${name} (${address}) ${reason}.`,
            remedy:
              'Find out who else holds its key (a cloned machine?) or which copy of its database was restored, then ' +
              `'arctic peers delete ${id}', bootstrap that host again, add it, and repeat what it had changed since.`,
          }
        : undefined,
    ),
  },
  {
    code: 'peer-one-sided',
    severity: 'warning',
    area: 'peers',
    summary: 'A peer is reached in one direction only, or only by way of others.',
    symptoms: ['Peers cannot communicate', 'Connection timeout'],
    dependsOn: ['peer-name-unresolved'],
    detect: ofPeers(({ name, address, state, reason }) =>
      state !== 'active' || reason === null || isForked(reason)
        ? undefined
        : {
            text: `peer ${name} (${address}): ${reason}.`,
            remedy: `Test both directions: 'curl http://${address}/livez' here, and the same from there to this host; open or forward the port that does not answer.`,
          },
    ),
  },
  {
    code: 'peer-api-closed',
    severity: 'warning',
    area: 'peers',
    summary: "A peer's API does not answer this host.",
    symptoms: ['Peers cannot communicate'],
    dependsOn: ['peer-name-unresolved', 'peer-unreachable'],
    detect: ofPeers(({ name, address, tried }) =>
      tried?.api === undefined || !tried.resolves
        ? undefined
        : {
            text: `http://${address}/livez of ${name} does not answer this host: ${tried.api}.`,
            remedy: handshakeRemedy(tried.api, address),
          },
    ),
  },
  {
    code: 'peer-carrier-closed',
    severity: 'critical',
    area: 'peers',
    summary: 'The carrier port of a peer cannot be reached.',
    symptoms: ['Traffic is not being routed', 'High latency', 'TProxy engine not applying config'],
    dependsOn: ['peer-name-unresolved', 'peer-unreachable', 'peer-api-closed'],
    detect: ofPeers(({ name, tried }) =>
      tried?.carrier === undefined || !tried.resolves
        ? undefined
        : {
            text: `TCP ${tried.carrierPort} of ${name} (TPROXY_PORT) cannot be reached: ${tried.carrier}; accelerated connections fail.`,
            remedy: `Open TCP ${tried.carrierPort} between the hosts, in both directions.`,
          },
    ),
  },
  {
    code: 'peer-lagging',
    severity: 'warning',
    area: 'peers',
    summary: 'A peer lags far behind the log.',
    symptoms: ['Applied state does not match the database'],
    dependsOn: ['peer-unreachable', 'peer-pending'],
    detect: ofPeers(({ name, lag }) =>
      lag < LAG_NOTICE
        ? undefined
        : {
            text: `peer ${name} lacks ${lag} events.`,
            remedy: "'arctic cluster sync' starts a round; if it stays, look at its log.",
          },
    ),
  },
  {
    code: 'peer-clock-skew',
    severity: 'critical',
    area: 'clock',
    summary: "A peer's clock is more than 60 s away; its changes are held back.",
    symptoms: ['Peers cannot communicate'],
    dependsOn: [],
    detect: ofPeers(({ name, clockSkewMs }) =>
      clockSkewMs === null || Math.abs(clockSkewMs) <= SKEW_LIMIT_MS
        ? undefined
        : {
            text: `the clock of ${name} is ${seconds(clockSkewMs)} ${clockSkewMs > 0 ? 'ahead of' : 'behind'} this host's; changes from the one ahead are held back.`,
            remedy: "Set the wrong one ('timedatectl', 'chronyc tracking') and keep both in step by NTP.",
          },
    ),
  },
  {
    code: 'peer-clock-off',
    severity: 'warning',
    area: 'clock',
    summary: "A peer's clock is more than 5 s away.",
    symptoms: [],
    dependsOn: ['peer-clock-skew'],
    detect: ofPeers(({ name, clockSkewMs }) =>
      clockSkewMs === null || Math.abs(clockSkewMs) <= SKEW_NOTICE_MS
        ? undefined
        : {
            text: `the clock of ${name} is ${seconds(clockSkewMs)} ${clockSkewMs > 0 ? 'ahead of' : 'behind'} this host's.`,
            remedy: 'Keep both in step by NTP; beyond 60 s changes are held back.',
          },
    ),
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
