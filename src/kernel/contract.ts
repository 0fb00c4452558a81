/**
 * What the rest of Arctic may ask of the Linux kernel. Two implementations stand behind this contract:
 * `kernel.ts` (netlink) and `kernel.fake.ts` (memory); `test/kernel/compliance/` holds both to one suite.
 * Values are plain data; register contents follow the kernel (addresses and ports big-endian, marks host-endian).
 */

/** An nf_tables expression, as the kernel names it, with decoded attributes (linux/netfilter/nf_tables.h). */
export interface NftExpression {
  readonly name: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface NftRule {
  /** What the rule is for; carried in NFTA_RULE_USERDATA as an nft comment, so that `nft list` shows it. */
  readonly comment: string;
  readonly expressions: readonly NftExpression[];
}

export interface NftBaseChain {
  readonly type: 'filter' | 'route' | 'nat';
  /** `ingress` is only ever read (another program's chain in our table). */
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress';
  readonly priority: number;
  readonly policy: 'accept' | 'drop';
}

export interface NftChain {
  readonly name: string;
  /** Absent for a chain that is only jumped to. */
  readonly base?: NftBaseChain;
  readonly rules: readonly NftRule[];
}

/** `nft` data type names of set keys and map values; several key parts make a concatenation. */
export type NftDataType = 'ipv4_addr' | 'ipv6_addr' | 'mark' | 'ifname' | 'inet_service' | 'inet_proto';

/** What reading may meet besides: a verdict map, or another type by its number. Writing refuses these. */
export type NftSeenType = NftDataType | 'verdict' | `type ${number}`;

export interface NftElement {
  /**
   * Raw key, lower-case hex; in a concatenation each part is padded to 4 bytes, a single key has its type's own length.
   * Hex because elements are compared and looked up by the 100,000.
   */
  readonly key: string;
  /** Raw map value, lower-case hex; absent for a plain set. */
  readonly data?: string;
}

export interface NftSet {
  readonly name: string;
  readonly keyTypes: readonly NftSeenType[];
  /** Present for a map. */
  readonly dataType?: NftSeenType;
  /** NFT_SET_* flags besides MAP; only ever read (another program's set in our table). Writing refuses it. */
  readonly flags?: number;
  readonly elements: readonly NftElement[];
}

export interface NftTable {
  readonly family: 'inet' | 'ip' | 'ip6';
  readonly name: string;
  /** Claim the kernel's owner flag (others get EPERM; without `persist` the table vanishes with our socket). */
  readonly owned?: boolean;
  readonly persist?: boolean;
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

/**
 * One incremental step inside an existing table. Adding an element that is there with the same value changes nothing,
 * with another value it fails (EEXIST): delete and add in one transaction. Deleting one that is missing fails (ENOENT).
 */
export type NftChange =
  | { readonly kind: 'add-elements'; readonly set: string; readonly elements: readonly NftElement[] }
  | { readonly kind: 'delete-elements'; readonly set: string; readonly elements: readonly NftElement[] }
  | { readonly kind: 'add-set'; readonly set: NftSet }
  | { readonly kind: 'delete-set'; readonly set: string }
  | { readonly kind: 'replace-rules'; readonly chain: string; readonly rules: readonly NftRule[] };

export interface NftSnapshot {
  /** Generation id the snapshot is true for; hand it back to a commit as its optimistic lock. */
  readonly generation: number;
  /** Undefined when the kernel holds no such table. Equals `canonicalTable` of what `replaceTable` was given. */
  readonly table: NftTable | undefined;
}

/** An element that is looked up by the 100,000 when a table is compared: each comparison leaves its mark in `seen`. */
export interface NftExpectedElement extends NftElement {
  seen: object | undefined;
}

/** A set as it should be, its elements by key. */
export interface NftExpectedSet extends Omit<NftSet, 'elements'> {
  readonly elements: ReadonlyMap<string, NftExpectedElement>;
  /**
   * SHA-256 of what the kernel sent when it held exactly these elements: when it sends the same again nothing has to be
   * looked up. The comparison leaves it here; whoever changes `elements` takes it away.
   */
  verified?: string | undefined;
}

/** How the elements of one set differ from what is expected. */
export interface NftDeviation {
  readonly set: string;
  readonly missing: readonly NftElement[];
  /** What the kernel holds and should not, also under an expected key with another value. */
  readonly foreign: readonly NftElement[];
}

export interface NftComparison {
  readonly generation: number;
  /**
   * As read; sets of `expected` with the same types stand without their elements. `owned` only where this process is the
   * owner. Undefined: no such table.
   */
  readonly table: NftTable | undefined;
  /** Of those sets, where they differ. */
  readonly deviations: readonly NftDeviation[];
}

export interface NftCommit {
  readonly generation: number;
}

export interface Nft {
  readTable(family: NftTable['family'], name: string): Promise<NftSnapshot>;
  /**
   * Reads a table and compares the elements of the sets given while they arrive, so that 100,000 are neither collected nor
   * sorted, and the event loop has its turn every few milliseconds.
   */
  compareTable(
    family: NftTable['family'],
    name: string,
    expected: ReadonlyMap<string, NftExpectedSet>,
  ): Promise<NftComparison>;
  /** Whether the table is there and ours alone by the owner flag: then nobody else can have changed it. */
  ownsTable(family: NftTable['family'], name: string): Promise<boolean>;
  /** Whether nobody but this process has committed anything since that generation. */
  isOursSince(generation: number): Promise<boolean>;
  /**
   * Replaces the whole table in one transaction. `generation`: refuse with ESTALE when another program committed since; our
   * own commits, to whatever table, do not count.
   */
  replaceTable(table: NftTable, options?: { readonly generation?: number }): Promise<NftCommit>;
  /** Applies steps to an existing table in one transaction. */
  changeTable(
    table: { readonly family: NftTable['family']; readonly name: string; readonly sets: readonly NftSet[] },
    changes: readonly NftChange[],
    options?: { readonly generation?: number },
  ): Promise<NftCommit>;
  /** Removes the table if it exists. */
  deleteTable(family: NftTable['family'], name: string): Promise<NftCommit>;
  listTables(): Promise<readonly { readonly family: string; readonly name: string }[]>;
  generation(): Promise<number>;
}

export type IpFamily = 'ipv4' | 'ipv6';

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `macvlan`, `veth`, `tun`...; undefined for physical devices. */
  readonly kind: string | undefined;
  readonly parentIndex: number | undefined;
  readonly mac: string | undefined;
  readonly mtu: number;
  readonly up: boolean;
  readonly carrier: boolean;
  /** IFLA_IFALIAS: Arctic marks its own devices with `arctic:<service id>`. */
  readonly alias: string | undefined;
  /** IFLA_GROUP, 0 unless set. Unlike the alias it is there from the creation on. */
  readonly group: number;
}

/** Group of the devices `createMacvlan` makes: tells one whose alias was not set any more, because its maker was killed. */
export const LINK_GROUP = 4100;

export interface Address {
  readonly linkIndex: number;
  readonly family: IpFamily;
  /** `10.0.0.1/24`. */
  readonly cidr: string;
  readonly scope: number;
  /** RTPROT-like tag (IFA_PROTO) where the kernel has it. */
  readonly protocol: number | undefined;
  /** Duplicate address detection found another host with it (IFA_F_DADFAILED, IPv6): it is not used. */
  readonly duplicate: boolean;
}

export interface Route {
  readonly family: IpFamily;
  readonly table: number;
  readonly type: 'unicast' | 'local' | 'blackhole' | 'unreachable' | 'throw' | 'other';
  /** `0.0.0.0/0` for default. */
  readonly destination: string;
  readonly gateway: string | undefined;
  readonly oif: number | undefined;
  readonly preferredSource: string | undefined;
  readonly metric: number;
  readonly protocol: number;
  readonly scope: number;
}

export interface PolicyRule {
  readonly family: IpFamily;
  readonly priority: number;
  readonly table: number;
  readonly fwmark: number | undefined;
  readonly fwmask: number | undefined;
  readonly source: string | undefined;
  readonly destination: string | undefined;
  readonly iif: string | undefined;
  readonly protocol: number;
}

export interface MacvlanRequest {
  readonly name: string;
  readonly parentIndex: number;
  readonly mode: 'private' | 'vepa' | 'bridge' | 'passthru';
  readonly mac: string;
  readonly alias: string;
  readonly mtu?: number;
}

export interface Rtnetlink {
  links(): Promise<readonly Link[]>;
  addresses(linkIndex?: number): Promise<readonly Address[]>;
  routes(filter?: { readonly family?: IpFamily; readonly table?: number }): Promise<readonly Route[]>;
  rules(family?: IpFamily): Promise<readonly PolicyRule[]>;
  /** Creates a MACVLAN in LINK_GROUP, sets alias and MAC, leaves it down. */
  createMacvlan(request: MacvlanRequest): Promise<Link>;
  setLink(
    index: number,
    change: { readonly up?: boolean; readonly mtu?: number; readonly alias?: string },
  ): Promise<void>;
  /**
   * From here on: adding what is there already, and deleting what is not, succeeds and changes nothing. Adding a route
   * that differs from the one in its place (same destination and metric) fails with EEXIST.
   */
  deleteLink(index: number): Promise<void>;
  addAddress(linkIndex: number, cidr: string): Promise<void>;
  deleteAddress(linkIndex: number, cidr: string): Promise<void>;
  addRoute(route: RouteRequest): Promise<void>;
  deleteRoute(route: RouteRequest): Promise<void>;
  addRule(rule: RuleRequest): Promise<void>;
  deleteRule(rule: RuleRequest): Promise<void>;
}

export interface RouteRequest {
  readonly family: IpFamily;
  readonly table: number;
  readonly type: 'unicast' | 'local';
  readonly destination: string;
  readonly gateway?: string;
  readonly oif?: number;
  readonly preferredSource?: string;
  readonly metric?: number;
}

export interface RuleRequest {
  readonly family: IpFamily;
  readonly priority: number;
  readonly table: number;
  readonly fwmark?: number;
  readonly fwmask?: number;
  readonly source?: string;
  readonly iif?: string;
}

/**
 * A change somebody else made, as multicast tells it. Our own changes are kept back, by the port id of our sockets;
 * except on links, where the kernel does not say who: there our own come too, with `own` false.
 */
export interface KernelNotice {
  /** `sysctl`: a parameter that was read or written here before has another value now. */
  readonly subsystem: 'nftables' | 'link' | 'address' | 'route' | 'rule' | 'sysctl';
  readonly own: boolean;
  /** Committing process of an nftables transaction (NEWGEN carries both). */
  readonly pid: number | undefined;
  readonly program: string | undefined;
  /** True when notices were lost (ENOBUFS): observe everything again. */
  readonly overrun: boolean;
}

export interface KernelFeatures {
  readonly release: string;
  /** NFT_MSG_DESTROY* (6.3). */
  readonly nftDestroy: boolean;
  /** Acknowledgement on NFNL_MSG_BATCH_END (6.10). */
  readonly nftBatchEndAck: boolean;
  /** NFT_TABLE_F_OWNER (5.12), with PERSIST (6.9). */
  readonly nftOwner: boolean;
  readonly nftPersist: boolean;
  readonly tproxy: boolean;
  readonly macvlan: boolean;
  readonly tun: boolean;
  readonly ipv6: boolean;
  /** SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY). */
  readonly flowReset: boolean;
  /** Tables of the old xtables (iptables-legacy) that somebody uses here: `ip mangle`. */
  readonly xtables: readonly string[];
  /** As in net.ipv4.tcp_available_congestion_control. */
  readonly congestionControls: readonly string[];
}

/** Which of this host's TCP connections. */
export interface FlowFilter {
  /** SO_MARK of the socket, compared under the mask. */
  readonly mark: number;
  readonly mask: number;
  /** Remote addresses (`source`) and local ones (`destination`) of the socket, any of these pairs; absent: all. */
  readonly between?: readonly { readonly source: string | null; readonly destination: string | null }[];
}

export interface Flows {
  /**
   * Ends the connections at once, with a reset to the other end; answers how many. Fails with EOPNOTSUPP where the kernel
   * was built without CONFIG_INET_DIAG_DESTROY.
   */
  reset(filter: FlowFilter): Promise<number>;
}

/** An IPv4 address of an interface of ours. */
export interface AddressClaim {
  readonly linkIndex: number;
  /** Of that interface. */
  readonly mac: string;
  /** `10.0.0.1`, without a length. */
  readonly address: string;
}

/** Another host uses the address, or is about to. */
export interface AddressConflict extends AddressClaim {
  /** The other's hardware address. */
  readonly other: string;
  /** It was there before us: found by the probes that a new claim begins with. */
  readonly before: boolean;
}

/** IPv4 duplicate address detection (RFC 5227), which Linux, unlike that of IPv6, leaves to others. */
export interface AddressClaims {
  /**
   * From now on these are claimed and no others: each is probed for, then listened for. Answers the conflicts known so far;
   * one that comes or goes later is an `address` notice. `own` are the hardware addresses of this host: Linux answers for
   * an address of one device on every other device of the same network.
   */
  hold(claims: readonly AddressClaim[], own: ReadonlySet<string>): Promise<readonly AddressConflict[]>;
}

export interface Kernel {
  readonly nft: Nft;
  readonly rt: Rtnetlink;
  readonly claims: AddressClaims;
  readonly flows: Flows;
  start(): Promise<void>;
  /** Closes every socket and stops every poll; leaves rules and interfaces as they are. */
  stop(): Promise<void>;
  /** Probes once, without lasting effect. */
  features(): Promise<KernelFeatures>;
  /** Starts delivering foreign (and, for links, own) changes; returns the function that ends it. */
  watch(listener: (notice: KernelNotice) => void): () => void;
  sysctl: {
    /** `net.ipv4.ip_forward` -> `1`; undefined when the kernel has no such key. */
    read(key: string): Promise<string | undefined>;
    write(key: string, value: string): Promise<void>;
  };
}

/**
 * A refusal of the kernel, with our object and the schema path.
 * `code` is the errno name (`EEXIST`), or `ESTALE` for a generation that moved on, `EUNKNOWN` when the outcome is not known.
 */
export class KernelError extends Error {
  readonly code: string;
  readonly errno: number;
  /** The message that failed, in our words: `add element 10.0.0.0/8 -> ... to m4_8_24`. */
  readonly subject: string;
  readonly path: string | undefined;

  constructor(code: string, errno: number, subject: string, text: string, path?: string) {
    super(`${subject}: ${text} (${code}${path === undefined ? '' : ` at ${path}`})`);
    this.name = 'KernelError';
    this.code = code;
    this.errno = errno;
    this.subject = subject;
    this.path = path;
  }
}
