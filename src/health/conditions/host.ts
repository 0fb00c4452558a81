import type { Condition } from '../contract.ts';
import type { Facts, KernelFacts } from '../facts.ts';

/** Less than this and the log may not take the next change; a few thousand events and their WAL. */
const LOW_SPACE_BYTES = 64 * 1024 * 1024;
/** Oldest release that has what the data planes use (nft sets with concatenations, MACVLAN over netlink). */
const OLDEST_KERNEL = [5, 10] as const;

const older = (release: string, [major, minor]: readonly [number, number]): boolean => {
  const [a = 0, b = 0] = release.split('.').map(Number.parseFloat);
  return a < major || (a === major && b < minor);
};

const lacks =
  (feature: keyof KernelFacts, text: string, remedy: string) =>
  ({ kernel }: Facts) =>
    kernel && (kernel[feature] === true ? [] : [{ text, remedy }]);

/** The one whose rules set marks and redirect, in both families. */
export const isMangle = (table: string): boolean => / mangle$/.test(table);

export const HOST_CONDITIONS: readonly Condition[] = [
  {
    code: 'host-not-linux',
    severity: 'critical',
    area: 'host',
    summary: 'The host does not run Linux.',
    symptoms: [],
    dependsOn: [],
    detect: ({ host }) =>
      host &&
      (host.platform === 'linux'
        ? []
        : [
            {
              text: `the agent runs on Linux only, and this is ${host.platform}.`,
              remedy: 'Run the agent on a Linux host; from here, ask it with --url.',
            },
          ]),
  },
  {
    code: 'host-no-privilege',
    severity: 'warning',
    area: 'host',
    summary: 'The checks of the kernel need CAP_NET_ADMIN.',
    symptoms: ['MACVLAN interface not created'],
    dependsOn: ['host-not-linux'],
    detect: ({ host }) =>
      host &&
      (host.netAdmin
        ? []
        : [
            {
              text: 'this command runs without CAP_NET_ADMIN, so the kernel and the private files were not looked at.',
              remedy:
                "Run it as root: 'sudo arctic doctor'. (The unit gives the agent itself the capability.)",
            },
          ]),
  },
  {
    code: 'host-disk-low',
    severity: 'critical',
    area: 'host',
    summary: 'The file system of the event log is nearly full.',
    symptoms: [],
    dependsOn: [],
    detect: ({ host }) => {
      if (host?.freeBytes === undefined) return undefined;
      if (host.freeBytes >= LOW_SPACE_BYTES) return [];
      const mib = Math.floor(host.freeBytes / 1024 / 1024);
      return [
        {
          text: `the file system of ${host.dataDir} has ${mib} MiB left; a change that cannot be written is refused.`,
          remedy: `Free some space there: 'df -h ${host.dataDir}', 'du -xh ${host.dataDir} | sort -h | tail'.`,
        },
      ];
    },
  },
  {
    code: 'clock-not-synchronised',
    severity: 'warning',
    area: 'clock',
    summary: 'Nothing keeps the clock of the host in step.',
    symptoms: [],
    dependsOn: [],
    detect: ({ host }) =>
      host?.clockSynchronised === undefined
        ? undefined
        : host.clockSynchronised
          ? []
          : [
              {
                text: 'the clock of this host is not synchronised; beyond 60 s from the others, changes are held back.',
                remedy: "Start NTP: 'timedatectl set-ntp true', or chrony; then look at 'timedatectl'.",
              },
            ],
  },
  {
    code: 'kernel-old',
    severity: 'warning',
    area: 'kernel',
    summary: 'The kernel is older than 5.10.',
    symptoms: [],
    dependsOn: ['host-not-linux'],
    detect: ({ host }) =>
      host &&
      (host.platform !== 'linux' || !older(host.kernelRelease, OLDEST_KERNEL)
        ? []
        : [
            {
              text: `the kernel is ${host.kernelRelease}; Arctic is made for 5.10 and later.`,
              remedy: 'Upgrade the kernel.',
            },
          ]),
  },
  {
    code: 'kernel-no-nftables',
    severity: 'critical',
    area: 'kernel',
    summary: 'The kernel has no nf_tables.',
    symptoms: ['Traffic is not being routed', 'Firewall rules missing'],
    dependsOn: ['host-no-privilege'],
    detect: lacks(
      'nftables',
      'the kernel does not take nf_tables requests, so no rule can be written.',
      "Load the module: 'modprobe nf_tables' (CONFIG_NF_TABLES).",
    ),
  },
  {
    code: 'kernel-no-tproxy',
    severity: 'critical',
    area: 'kernel',
    summary: 'The kernel cannot redirect TCP (no TPROXY).',
    symptoms: ['Traffic is not being routed', 'TProxy engine not applying config'],
    dependsOn: ['kernel-no-nftables', 'host-no-privilege'],
    detect: lacks(
      'tproxy',
      'the kernel cannot redirect TCP (no TPROXY), so the agent does not start.',
      "Load the module: 'modprobe nft_tproxy' (CONFIG_NFT_TPROXY).",
    ),
  },
  {
    code: 'kernel-no-macvlan',
    severity: 'warning',
    area: 'kernel',
    summary: 'The kernel cannot make MACVLAN interfaces.',
    symptoms: ['MACVLAN interface not created', 'MACVLAN interface missing'],
    dependsOn: ['host-no-privilege'],
    detect: lacks(
      'macvlan',
      'the kernel cannot make MACVLAN interfaces, so a service with requires_interface has none.',
      "Load the module: 'modprobe macvlan' (CONFIG_MACVLAN).",
    ),
  },
  {
    code: 'kernel-no-tun',
    severity: 'warning',
    area: 'kernel',
    summary: 'The kernel cannot make TUN devices.',
    symptoms: ['IP tunnel not applying config'],
    dependsOn: ['host-no-privilege'],
    detect: lacks(
      'tun',
      '/dev/net/tun cannot be opened, so traffic other than TCP has no tunnel.',
      "Load the module: 'modprobe tun' (CONFIG_TUN); in a container, pass /dev/net/tun in.",
    ),
  },
  {
    code: 'kernel-no-bbr',
    severity: 'info',
    area: 'kernel',
    summary: 'The kernel does not offer BBR congestion control.',
    symptoms: ['High latency'],
    dependsOn: ['host-no-privilege'],
    detect: lacks(
      'bbr',
      'the kernel does not list BBR, so carriers over a lossy link are slower than they could be.',
      "Load the module: 'modprobe tcp_bbr' (CONFIG_TCP_CONG_BBR).",
    ),
  },
  {
    code: 'kernel-no-ipv6',
    severity: 'info',
    area: 'kernel',
    summary: 'The kernel has no IPv6.',
    symptoms: [],
    dependsOn: ['host-no-privilege'],
    detect: lacks(
      'ipv6',
      'the kernel has no IPv6; routes with IPv6 prefixes do nothing on this host.',
      'Nothing, if there is no IPv6 here; otherwise boot without ipv6.disable=1.',
    ),
  },
  {
    code: 'kernel-no-owner-flag',
    severity: 'warning',
    area: 'kernel',
    summary: 'The kernel cannot keep others off our tables.',
    symptoms: ['Firewall rules missing'],
    dependsOn: ['host-no-privilege', 'kernel-no-nftables'],
    detect: lacks(
      'ownerFlag',
      "the kernel has no owner flag for nf_tables (NFT_TABLE_F_OWNER, 5.12), so another program's 'nft flush ruleset' takes the rules away until the agent has put them back.",
      'Nothing, or a kernel of 5.12 or later.',
    ),
  },
  {
    code: 'kernel-no-flow-reset',
    severity: 'info',
    area: 'kernel',
    summary: 'The kernel cannot end established connections on request.',
    symptoms: [],
    dependsOn: ['host-no-privilege'],
    detect: lacks(
      'flowReset',
      'the kernel cannot destroy sockets, so --reset-flows has no effect on this host: connections go on until they end.',
      'A kernel with CONFIG_INET_DIAG_DESTROY.',
    ),
  },
  {
    code: 'host-xtables',
    severity: 'critical',
    area: 'kernel',
    summary: 'Rules of iptables-legacy mark packets where Arctic does.',
    symptoms: ['Traffic is not being routed'],
    dependsOn: ['host-no-privilege'],
    detect: ({ kernel }) =>
      kernel?.xtables.filter(isMangle).map((table) => ({
        subject: table,
        text: `the table ${table} of the old xtables (iptables-legacy) is in use; it marks and redirects packets at the same place as Arctic's rules, in no certain order, so the agent does not start.`,
        remedy:
          "Move those rules to nf_tables ('update-alternatives --set iptables /usr/sbin/iptables-nft'), unload the table ('modprobe -r iptable_mangle ip6table_mangle') or reboot; or, if they concern other traffic, set ALLOW_XTABLES=1.",
      })),
  },
  {
    code: 'host-foreign-marks',
    severity: 'info',
    area: 'kernel',
    summary: 'Rules of another program mark or redirect packets where Arctic does.',
    symptoms: ['Traffic is not being routed'],
    dependsOn: ['host-no-privilege'],
    detect: ({ kernel }) =>
      kernel?.foreignMarks.map(({ table, chain }) => ({
        subject: `${table} ${chain}`,
        text: `the chain ${chain} of table ${table} sets marks or redirects packets before they are routed.`,
        remedy: `See whether it claims traffic of a service: 'nft list table ${table}'.`,
      })),
  },
  {
    code: 'parent-interface-missing',
    severity: 'warning',
    area: 'kernel',
    summary: 'There is no parent interface for service interfaces.',
    symptoms: ['MACVLAN interface not created', 'MACVLAN interface missing'],
    dependsOn: ['host-no-privilege'],
    detect: ({ kernel }) =>
      kernel &&
      (kernel.parentInterface !== undefined
        ? []
        : [
            {
              text: 'the interface in PARENT_INTERFACE, or that of the default route, does not exist; service interfaces cannot be made and the own address is not known.',
              remedy:
                "Name one of 'ip link show' in PARENT_INTERFACE, or give the host a default route, and restart the agent.",
            },
          ]),
  },
  {
    code: 'host-firewall-closed',
    severity: 'warning',
    area: 'ports',
    summary: "The host's own firewall may keep peers out.",
    symptoms: ['Agent not responding', 'Peers cannot communicate', 'Connection timeout'],
    dependsOn: ['host-no-privilege'],
    detect: ({ kernel }) =>
      kernel?.closedInputs.map(({ table, chain }) => ({
        subject: `${table} ${chain}`,
        text: `the chain ${chain} of table ${table} drops what it does not know and names no port of Arctic.`,
        remedy: `Let TCP 8080, TCP and UDP 61000 and UDP 51840 in (or the ports set here): 'nft list table ${table}'.`,
      })),
  },
  {
    code: 'settings-invalid',
    severity: 'critical',
    area: 'settings',
    summary: 'A setting of the agent is not usable.',
    symptoms: ['Agent not responding'],
    dependsOn: [],
    detect: ({ settings }) =>
      settings &&
      (settings.fault === undefined
        ? []
        : [
            {
              text: settings.fault,
              remedy: `Correct it in ${settings.file}, then 'systemctl restart arctic'.`,
            },
          ]),
  },
];
