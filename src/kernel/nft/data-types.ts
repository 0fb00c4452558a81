/** nft's data types of set keys and map values (nftables include/datatype.h); the kernel only stores the numbers. */
import type { NftDataType, NftSet } from '../contract.ts';

interface DataType {
  readonly id: number;
  /** Bytes. */
  readonly length: number;
  /** Host byte order, which `nft list` must be told. */
  readonly host: boolean;
}

const TYPES: Readonly<Record<NftDataType, DataType>> = {
  ipv4_addr: { id: 7, length: 4, host: false },
  ipv6_addr: { id: 8, length: 16, host: false },
  inet_proto: { id: 12, length: 1, host: false },
  inet_service: { id: 13, length: 2, host: false },
  mark: { id: 19, length: 4, host: true },
  ifname: { id: 41, length: 16, host: true },
};

/** Bits of each part in the type of a concatenation. */
const PART_BITS = 6;

export function dataType(name: NftDataType): DataType {
  return TYPES[name];
}

function nameOf(id: number): NftDataType | `type ${number}` {
  for (const [name, type] of Object.entries(TYPES)) if (type.id === id) return name as NftDataType;
  return `type ${id}`;
}

export interface KeyLayout {
  /** NFTA_SET_KEY_TYPE: the parts' ids, 6 bits each. */
  readonly type: number;
  /** Bytes; each part of a concatenation is padded to 4. */
  readonly length: number;
  readonly host: boolean;
}

export function keyLayout(types: readonly NftDataType[]): KeyLayout {
  const [only] = types;
  if (only === undefined) throw new RangeError('a set needs a key type');
  if (types.length === 1) return { type: TYPES[only].id, length: TYPES[only].length, host: TYPES[only].host };
  let type = 0;
  let length = 0;
  for (const name of types) {
    type = (type << PART_BITS) | TYPES[name].id;
    length += (TYPES[name].length + 3) & ~3;
  }
  return { type, length, host: false };
}

/** The parts of a key type as the kernel gives it back; `type 99` for one that is not ours. */
export function keyTypeNames(type: number): (NftDataType | `type ${number}`)[] {
  const parts: (NftDataType | `type ${number}`)[] = [];
  for (let rest = type >>> 0; rest > 0; rest >>>= PART_BITS)
    parts.unshift(nameOf(rest & ((1 << PART_BITS) - 1)));
  return parts;
}

export function dataTypeName(type: number): NftDataType | 'verdict' | `type ${number}` {
  return type === NFT_DATA_VERDICT ? 'verdict' : nameOf(type);
}

/** NFTA_SET_DATA_TYPE of a verdict map. */
export const NFT_DATA_VERDICT = 0xffffff00;

/** Whether two sets hold the same kind of elements. */
export const isSameKind = (
  a: Pick<NftSet, 'keyTypes' | 'dataType' | 'flags'>,
  b: Pick<NftSet, 'keyTypes' | 'dataType' | 'flags'>,
): boolean =>
  a.keyTypes.join() === b.keyTypes.join() && a.dataType === b.dataType && (a.flags ?? 0) === (b.flags ?? 0);
