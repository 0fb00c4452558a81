import { portsReason } from '../closed-ports.ts';
import type { Condition, Instance } from '../contract.ts';
import type { Facts, PeerFacts } from '../facts.ts';

/** A peer's events are held back beyond this (the hybrid logical clock's bound). */
const SKEW_LIMIT_MS = 60_000;
const SKEW_NOTICE_MS = 5_000;
/** Events a peer may lag before it is worth a word; a round of gossip carries more. */
const LAG_NOTICE = 1_000;

const ofPeers =
  (select: (peer: PeerFacts) => Instance | undefined) =>
  ({ peers }: Facts) =>
    peers?.flatMap((peer) => {
      const instance = select(peer);
      return instance === undefined ? [] : [{ subject: peer.name, ...instance }];
    });

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

export const PEER_CONDITIONS: readonly Condition[] = [
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
    code: 'own-history-forked',
    severity: 'critical',
    area: 'peers',
    summary: "This host's key signed two histories.",
    symptoms: ['Nothing can be changed on this host'],
    dependsOn: ['left-cluster'],
    detect: ({ membership }) =>
      membership &&
      (membership.forkedAt === undefined
        ? []
        : [
            {
              text:
                `this host's key signed two histories: from its event ${membership.forkedAt} on nothing of it counts on any host, ` +
                'and nothing can be changed here.',
              remedy:
                'Find out who else holds its key (a cloned machine?) or which copy of its database was restored; then ' +
                "'arctic peers delete' on another member, bootstrap this host again, and add it.",
            },
          ]),
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
    dependsOn: ['peer-name-unresolved', 'left-cluster'],
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
    dependsOn: ['peer-name-unresolved', 'left-cluster'],
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
    symptoms: ['Nothing can be changed on this host'],
    dependsOn: [],
    detect: ofPeers(({ id, name, address, reason, forkedAt }) =>
      forkedAt !== undefined
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
    code: 'peer-rewrote-past',
    severity: 'critical',
    area: 'peers',
    summary: 'A peer signed a checkpoint that contradicts the events it signed before.',
    symptoms: [],
    dependsOn: [],
    detect: ofPeers(({ id, name, address, rewrote }) =>
      rewrote === undefined
        ? undefined
        : {
            text:
              `peer ${name} (${address}) signed a checkpoint over its first ${rewrote.size} events that are not those it sent ` +
              `this host: it changed its past. The evidence is in event ${rewrote.event}.`,
            remedy:
              "Its database was altered, or somebody else holds its key: 'arctic log verify' there, then " +
              `'arctic peers delete ${id}', and bootstrap that host again.`,
          },
    ),
  },
  {
    code: 'peer-one-sided',
    severity: 'warning',
    area: 'peers',
    summary: 'A peer is reached in one direction only, or only by way of others.',
    symptoms: ['Peers cannot communicate', 'Connection timeout'],
    dependsOn: ['peer-name-unresolved'],
    detect: ofPeers(({ name, address, state, reason, forkedAt }) =>
      state !== 'active' || reason === null || forkedAt !== undefined
        ? undefined
        : {
            text: `peer ${name} (${address}): ${reason}.`,
            remedy: `Test both directions: 'curl http://${address}/livez' here, and the same from there to this host; open or forward the port that does not answer.`,
          },
    ),
  },
  {
    code: 'peer-ports-closed',
    severity: 'warning',
    area: 'peers',
    summary: 'Ports that the traffic between two peers needs are closed.',
    symptoms: ['Traffic is not being routed', 'Peers cannot communicate', 'High latency'],
    dependsOn: ['peer-name-unresolved'],
    detect: ofPeers(({ name, address, closedPorts }) => {
      const closed = portsReason(closedPorts);
      return closed === null
        ? undefined
        : {
            text: `peer ${name} (${address}): ${closed}.`,
            remedy:
              'Open what is named, or forward it on the NAT, in the direction named: TCP and UDP of TPROXY_PORT carry connections ' +
              '(UDP over KCP), UDP of TUNNEL_PORT the rest. It is tried again by itself, every six heartbeats.',
          };
    }),
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
    code: 'peer-tunnel-closed',
    severity: 'warning',
    area: 'peers',
    summary: 'The tunnel port of a peer refuses.',
    symptoms: ['Peers cannot communicate', 'IP tunnel not applying config'],
    dependsOn: ['peer-name-unresolved', 'peer-unreachable', 'peer-api-closed'],
    detect: ofPeers(({ name, tried }) =>
      tried?.tunnel === undefined || !tried.resolves
        ? undefined
        : {
            text: `UDP ${tried.tunnelPort} of ${name} (TUNNEL_PORT) is refused: ${tried.tunnel}; what is not TCP does not pass.`,
            remedy: `Open UDP ${tried.tunnelPort} between the hosts, and set TUNNEL_PORT alike on both; 'ss -ulnp' there shows who listens.`,
          },
    ),
  },
  {
    code: 'peer-kcp-silent',
    severity: 'warning',
    area: 'peers',
    summary: 'A peer does not answer over KCP; its services go over TCP.',
    symptoms: ['High latency'],
    dependsOn: ['peer-name-unresolved', 'peer-unreachable', 'peer-api-closed'],
    detect: ofPeers(({ name, kcpSilent }) =>
      kcpSilent === undefined
        ? undefined
        : {
            text: `UDP ${kcpSilent} of ${name} (TPROXY_PORT) does not answer this host; its services over KCP are carried over TCP until it does.`,
            remedy: `Open UDP ${kcpSilent} between the hosts, in both directions.`,
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
    code: 'peer-changes-held',
    severity: 'critical',
    area: 'clock',
    summary: "A peer's clock was ahead when it made its newest changes; they are held back.",
    symptoms: ['Peers cannot communicate'],
    dependsOn: ['peer-clock-skew'],
    detect: ofPeers(({ name, changesHeldUntil }) =>
      changesHeldUntil === undefined
        ? undefined
        : {
            text: `the newest changes made on ${name} are dated in the future, so they are held back here until ${changesHeldUntil}, and with them all that is changed there until then.`,
            remedy:
              `Make changes on another member until then. If that is too long, take it out and set it up anew: ` +
              `'arctic peers remove ${name}' here, 'arctic setup' there.`,
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
];
