/**
 * Builders of nf_tables expressions, in the form the kernel dumps them. A register is given as `slot`: the number of
 * the first of its 4-byte words, 0 to 15; a value of n bytes takes ceil(n/4) words from there.
 */
import { hostInt } from '../../native/byte-order.ts';
import type { NftExpression } from '../contract.ts';
import type { ExpressionData, ExpressionName } from './schema.ts';

function expression<N extends ExpressionName>(name: N, data: ExpressionData<N>): NftExpression {
  return { name, data: data as Readonly<Record<string, unknown>> };
}

const NFT_REG32_00 = 8;
const REGISTER_SLOTS = 16;
const SLOTS_PER_16_BYTES = 4;

/** NFT_REG_*: the kernel names 16-byte aligned slots 1 to 4 and the others 8 + slot (nft_dump_register). */
export function register(slot: number): number {
  if (!Number.isInteger(slot) || slot < 0 || slot >= REGISTER_SLOTS)
    throw new RangeError(`no nf_tables register ${slot}`);
  return slot % SLOTS_PER_16_BYTES === 0 ? 1 + slot / SLOTS_PER_16_BYTES : NFT_REG32_00 + slot;
}

// Register contents, as hex.

/** A mark, interface index or priority: 4 bytes, host order. */
export function hostWord(value: number): string {
  return hostInt(value).toString('hex');
}

/** A port: 2 bytes, network order. */
export function portBytes(port: number): string {
  return port.toString(16).padStart(4, '0');
}

/** An interface name padded with NUL to IFNAMSIZ (16). */
export function interfaceNameBytes(name: string): string {
  const bytes = Buffer.alloc(16);
  if (Buffer.byteLength(name) > 15) throw new RangeError(`interface name too long: ${name}`);
  bytes.write(name);
  return bytes.toString('hex');
}

/** The netmask of a prefix length, `length` bytes. */
export function maskBytes(prefixLength: number, length: 4 | 16): string {
  const bytes = Buffer.alloc(length);
  for (let bit = 0; bit < prefixLength; bit += 1) {
    const index = bit >> 3;
    bytes.writeUInt8((bytes[index] ?? 0) | (0x80 >> (bit & 7)), index);
  }
  return bytes.toString('hex');
}

// Loading.

const PAYLOAD_BASES = { link: 0, network: 1, transport: 2 } as const;

/** Loads `length` bytes of the packet. IPv4 source is network 12, destination 16; IPv6 8 and 24. */
export function loadPayload(
  base: keyof typeof PAYLOAD_BASES,
  offset: number,
  length: number,
  slot = 0,
): NftExpression {
  return expression('payload', { dreg: register(slot), base: PAYLOAD_BASES[base], offset, len: length });
}

const META_KEYS = {
  length: 0,
  protocol: 1,
  priority: 2,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  oiftype: 9,
  skuid: 10,
  nfproto: 15,
  l4proto: 16,
} as const;

export type MetaKey = keyof typeof META_KEYS;

export function loadMeta(key: MetaKey, slot = 0): NftExpression {
  return expression('meta', { dreg: register(slot), key: META_KEYS[key] });
}

export function storeMeta(key: 'mark' | 'priority', slot = 0): NftExpression {
  return expression('meta', { key: META_KEYS[key], sreg: register(slot) });
}

const CT_KEYS = { state: 0, direction: 1, status: 2, mark: 3 } as const;

export function loadCt(key: keyof typeof CT_KEYS, slot = 0): NftExpression {
  return expression('ct', { dreg: register(slot), key: CT_KEYS[key] });
}

export function storeCtMark(slot = 0): NftExpression {
  return expression('ct', { key: CT_KEYS.mark, sreg: register(slot) });
}

const SOCKET_KEYS = { transparent: 0, mark: 1, wildcard: 2 } as const;

/** About the local socket the packet would reach: is it transparent, its mark, is it bound to any address. */
export function loadSocket(key: keyof typeof SOCKET_KEYS, slot = 0): NftExpression {
  return expression('socket', { key: SOCKET_KEYS[key], dreg: register(slot) });
}

/** NFTA_FIB_F_SADDR and NFTA_FIB_F_DADDR. */
const FIB_FLAGS = { source: 1, destination: 2 } as const;
const NFT_FIB_RESULT_ADDRTYPE = 3;

/** The routing type (RTN_*) of an address of the packet. */
export function loadAddressType(of: keyof typeof FIB_FLAGS, slot = 0): NftExpression {
  return expression('fib', {
    dreg: register(slot),
    result: NFT_FIB_RESULT_ADDRTYPE,
    flags: FIB_FLAGS[of],
  });
}

/** Loads a constant, hex. */
export function loadImmediate(value: string, slot = 0): NftExpression {
  return expression('immediate', { dreg: register(slot), data: { value } });
}

// Calculating and comparing.

/** `register & mask`; both as long as `mask` (hex, at most 16 bytes). */
export function maskRegister(mask: string, slot = 0): NftExpression {
  return bitwise(mask, '00'.repeat(mask.length / 2), slot);
}

/** `(register & mask) ^ xor`: sets and clears single bits of a mark. */
export function bitwise(mask: string, xor: string, slot = 0): NftExpression {
  const reg = register(slot);
  return expression('bitwise', {
    sreg: reg,
    dreg: reg,
    len: mask.length / 2,
    mask: { value: mask },
    xor: { value: xor },
  });
}

const COMPARISONS = { '==': 0, '!=': 1, '<': 2, '<=': 3, '>': 4, '>=': 5 } as const;

/** Goes on with the rule only when the register compares so with `value` (hex, network order for < and >). */
export function compare(operator: keyof typeof COMPARISONS, value: string, slot = 0): NftExpression {
  return expression('cmp', { sreg: register(slot), op: COMPARISONS[operator], data: { value } });
}

const NFT_LOOKUP_F_INV = 1;

/** Goes on only when the key is in the set (or, inverted, is not). */
export function lookupSet(set: string, slot = 0, options: { readonly invert?: boolean } = {}): NftExpression {
  return expression('lookup', {
    set,
    sreg: register(slot),
    ...(options.invert === true ? { flags: NFT_LOOKUP_F_INV } : {}),
  });
}

/** Loads the map's value for the key; the rule ends here when there is none. */
export function lookupMap(map: string, slot = 0, toSlot = 0): NftExpression {
  return expression('lookup', { set: map, sreg: register(slot), dreg: register(toSlot) });
}

// Deciding.

const VERDICTS = { drop: 0, accept: 1, continue: -1, return: -5 } as const;
const NFT_JUMP = -3;
const NFT_GOTO = -4;
const NFT_REG_VERDICT = 0;

export function verdict(kind: keyof typeof VERDICTS): NftExpression {
  return expression('immediate', { dreg: NFT_REG_VERDICT, data: { verdict: { code: VERDICTS[kind] } } });
}

export function jumpTo(chain: string): NftExpression {
  return expression('immediate', { dreg: NFT_REG_VERDICT, data: { verdict: { code: NFT_JUMP, chain } } });
}

/** Like a jump that never comes back. */
export function goTo(chain: string): NftExpression {
  return expression('immediate', { dreg: NFT_REG_VERDICT, data: { verdict: { code: NFT_GOTO, chain } } });
}

const NFT_REJECT_TCP_RST = 1;

/** Answers TCP with a reset: the client sees "connection refused" at once. */
export function rejectWithReset(): NftExpression {
  return expression('reject', { type: NFT_REJECT_TCP_RST });
}

/** Hands the packet to the transparent listener on the port in the register; the rule ends here when there is none. */
export function tproxy(slot = 0): NftExpression {
  return expression('tproxy', { family: 0, regPort: register(slot) });
}

export function counter(): NftExpression {
  return expression('counter', {});
}

export function masquerade(): NftExpression {
  return expression('masq', {});
}

// Phrases.

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
const NFPROTO_IPV4 = 2;
const NFPROTO_IPV6 = 10;
const RTN_LOCAL = 2;

const byte = (value: number) => value.toString(16).padStart(2, '0');

/** `meta l4proto 6` */
export function matchL4Protocol(protocol: number): NftExpression[] {
  return [loadMeta('l4proto'), compare('==', byte(protocol))];
}

/** `meta nfproto ipv4` */
export function matchFamily(family: 'ipv4' | 'ipv6'): NftExpression[] {
  return [loadMeta('nfproto'), compare('==', byte(family === 'ipv4' ? NFPROTO_IPV4 : NFPROTO_IPV6))];
}

/** `iifname "eth0"` */
export function matchInputInterface(name: string): NftExpression[] {
  return [loadMeta('iifname'), compare('==', interfaceNameBytes(name))];
}

/** `iif lo`: by index, of an interface that keeps its own. */
export function matchInputInterfaceIndex(index: number): NftExpression[] {
  return [loadMeta('iif'), compare('==', hostWord(index))];
}

/** `oifname "eth0"` */
export function matchOutputInterface(name: string): NftExpression[] {
  return [loadMeta('oifname'), compare('==', interfaceNameBytes(name))];
}

/** `meta mark & mask == value` */
export function matchMark(value: number, mask = 0xffffffff): NftExpression[] {
  const masked = mask >>> 0 === 0xffffffff ? [] : [maskRegister(hostWord(mask))];
  return [loadMeta('mark'), ...masked, compare('==', hostWord(value))];
}

/** `meta mark set value` */
export function setMark(value: number): NftExpression[] {
  return [loadImmediate(hostWord(value)), storeMeta('mark')];
}

/** `fib daddr type local`: the packet is for this host itself, or not. */
export function matchLocalDestination(operator: '==' | '!=' = '==', slot = 0): NftExpression[] {
  return [loadAddressType('destination', slot), compare(operator, hostWord(RTN_LOCAL), slot)];
}

/** `fib saddr type local`: the packet has an address of this host, or another's. */
export function matchLocalSource(operator: '==' | '!='): NftExpression[] {
  return [loadAddressType('source'), compare(operator, hostWord(RTN_LOCAL))];
}

const CT_STATE_BITS = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;

/** `ct state established,related` */
export function matchCtState(...states: readonly (keyof typeof CT_STATE_BITS)[]): NftExpression[] {
  const bits = states.reduce((sum, state) => sum | CT_STATE_BITS[state], 0);
  return [loadCt('state'), maskRegister(hostWord(bits)), compare('!=', hostWord(0))];
}

/** `tproxy to :port` */
export function tproxyTo(port: number): NftExpression[] {
  return [loadImmediate(portBytes(port)), tproxy()];
}
