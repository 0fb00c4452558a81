import type { ClosedPort } from './closed-ports.ts';

/**
 * What the conditions are judged by. Every group may be absent: the agent does not look at an operator's files, and a
 * doctor without the agent knows nothing of peers. A condition whose facts are absent is not judged, neither well nor ill.
 */
export interface Facts {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly host?: HostFacts;
  readonly kernel?: KernelFacts;
  readonly ports?: readonly PortFacts[];
  readonly settings?: SettingsFacts;
  readonly agent?: AgentFacts;
  /** Null: there is none. */
  readonly license?: LicenseFacts | null;
  readonly trust?: TrustFacts;
  readonly membership?: MembershipFacts;
  readonly peers?: readonly PeerFacts[];
  readonly reconcilers?: readonly ReconcilerFacts[];
  readonly drift?: readonly DriftFacts[];
  readonly services?: readonly ServiceFacts[];
  readonly database?: DatabaseFacts;
  readonly api?: ApiFacts;
  readonly lock?: LockFacts | null;
  readonly install?: InstallFacts;
}

export interface HostFacts {
  readonly platform: string;
  /** `6.1.0-18-amd64`. */
  readonly kernelRelease: string;
  /** `v20.18.1`. */
  readonly node: string;
  /** CAP_NET_ADMIN is effective in the process that looks. */
  readonly netAdmin: boolean;
  /** Where the data directory is, or will be. */
  readonly dataDir: string;
  /** The kernel's clock is kept by NTP; undefined when nobody here can tell. */
  readonly clockSynchronised: boolean | undefined;
  /** Free for the agent on that file system, bytes; undefined when it cannot be asked. */
  readonly freeBytes: number | undefined;
}

export interface KernelFacts {
  readonly nftables: boolean;
  readonly tproxy: boolean;
  readonly macvlan: boolean;
  readonly tun: boolean;
  readonly bbr: boolean;
  readonly ipv6: boolean;
  /** NFT_TABLE_F_OWNER. */
  readonly ownerFlag: boolean;
  /** CONFIG_INET_DIAG_DESTROY. */
  readonly flowReset: boolean;
  /** Tables of the old xtables (iptables-legacy) in use: `ip mangle`. */
  readonly xtables: readonly string[];
  /** Chains of other programs that mark or redirect packets where we do. */
  readonly foreignMarks: readonly { readonly table: string; readonly chain: string }[];
  /** Interface that service interfaces are made on; undefined when there is none. */
  readonly parentInterface: string | undefined;
  /** Input chains of the host's own firewall that drop by default and name neither port. */
  readonly closedInputs: readonly { readonly table: string; readonly chain: string }[];
}

export interface PortFacts {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** The setting that chooses it. */
  readonly setting: string;
  readonly use: string;
  readonly holder: 'nobody' | 'arctic' | 'other';
  /** Name and pid of another program, when it may be seen. */
  readonly program: string | undefined;
}

export interface SettingsFacts {
  /** The first setting that is not usable, in words. */
  readonly fault: string | undefined;
  /** Where the settings of the unit come from. */
  readonly file: string;
}

export interface AgentFacts {
  readonly url: string;
  /** Undefined when it answers; else why not. */
  readonly silence: string | undefined;
  readonly caughtUp?: boolean;
  readonly position?: number;
  readonly bootstrapped?: boolean;
  readonly clusterId?: string;
  readonly version?: string;
  /** Version of the program that looks. */
  readonly cliVersion?: string;
}

export interface LicenseFacts {
  readonly licenseId: string;
  readonly state: string;
  readonly expiresAt: string;
  readonly maxNodes: number;
  readonly maxServices: number;
  readonly nodes: number;
  readonly services: number;
}

export interface TrustFacts {
  readonly directory: string;
  readonly roots: number;
  /** Why a root, or the directory, is refused. */
  readonly fault: string | undefined;
}

export interface MembershipFacts {
  /** What this host is to its cluster. */
  readonly local: 'member' | 'left' | 'removed' | 'set_aside';
  /** Its key signed two histories: from this event of its own on nothing of it counts. */
  readonly forkedAt?: number;
  /** Peers that the node cap sets aside, by name. */
  readonly setAside: readonly { readonly name: string; readonly local: boolean; readonly reason: string }[];
}

export interface PeerFacts {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly state: string;
  readonly reason: string | null;
  /** Its key signed two histories: from its event of this number on nothing of it counts. */
  readonly forkedAt?: number;
  /** Ports of the traffic that were found closed between the two. */
  readonly closedPorts: readonly ClosedPort[];
  readonly lag: number;
  /** Its clock minus ours. */
  readonly clockSkewMs: number | null;
  /** When the agent asked will take changes of it that are dated in the future; absent when none wait. */
  readonly changesHeldUntil?: string;
  readonly version: string | null;
  /** UDP port it should be reached on over KCP and does not answer on. */
  readonly kcpSilent?: number;
  /** The newest checkpoint it signed that contradicts what it signed before, and the event here that keeps the evidence. */
  readonly rewrote?: { readonly size: number; readonly event: string };
  /** What this host found when it tried by itself. */
  readonly tried?: {
    /** Undefined when it answers; else why not. */
    readonly api: string | undefined;
    readonly carrier: string | undefined;
    readonly carrierPort: number;
    /** UDP tells only a refusal: undefined is an open port, or one whose packets are dropped. */
    readonly tunnel: string | undefined;
    readonly tunnelPort: number;
    /** False when the name in the address does not resolve. */
    readonly resolves: boolean;
  };
}

export interface ReconcilerFacts {
  readonly name: string;
  readonly state: string;
  readonly error: string | null;
  readonly failures: number;
  /** What an operator should know although nothing failed: a fight over a rule, observe-only. */
  readonly condition: string | null;
}

export interface DriftFacts {
  readonly reconciler: string;
  readonly items: readonly string[];
}

export interface ServiceFacts {
  readonly id: string;
  readonly name: string;
  /** The agent asked is its source. */
  readonly fromHere: boolean;
  readonly routes: number;
  readonly requiresInterface: boolean;
  readonly limitMbps: number;
  /** Reconcilers that failed it, with the reason. */
  readonly failed: readonly { readonly reconciler: string; readonly reason: string }[];
  /** Peers it leads from or to that are no members any more. */
  readonly gone: readonly { readonly name: string; readonly state: 'left' | 'removed' }[];
  /** How its IP tunnel stands, as the reconciler says it; undefined where it says nothing. */
  readonly tunnel: string | undefined;
}

export interface DatabaseFacts {
  readonly path: string;
  readonly exists: boolean;
  readonly key: 'present' | 'missing' | 'exposed';
  readonly keyPath: string;
  /** What the integrity and chain check says; undefined when it is sound. */
  readonly fault: string | undefined;
  /** Milliseconds since the epoch of the newest change made on this host; undefined when there is none. */
  readonly newestEvent: number | undefined;
}

export interface ApiFacts {
  readonly bind: string;
  readonly tls: boolean;
  /** Of the API; undefined without TLS. */
  readonly certificate: CertificateFacts | undefined;
}

export interface CertificateFacts {
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** It vouches for itself: every client has to be told to trust it. */
  readonly selfSigned: boolean;
}

export interface LockFacts {
  readonly holder: string;
  readonly purpose: string;
  readonly expiresAt: string;
}

export interface InstallFacts {
  /** What an earlier or another installation left, with what to do about each. */
  readonly remnants: readonly { readonly path: string; readonly what: string }[];
  readonly systemd: boolean;
  /** Undefined when there is no unit. */
  readonly unit: { readonly path: string; readonly enabled: boolean; readonly program: string } | undefined;
  /** The program that looks. */
  readonly program: string;
  /** Private files that others can read. */
  readonly exposed: readonly { readonly path: string; readonly mode: string }[];
}
