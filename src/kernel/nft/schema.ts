/** nf_tables messages (linux/netfilter/nf_tables.h). All integers of nf_tables are big-endian. */
import type { Of, Schema } from '../netlink/codec.ts';

export const NETLINK_NETFILTER = 12;
export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNLGRP_NFTABLES = 7;
export const NFNL_MSG_BATCH_BEGIN = 16;
export const NFNL_MSG_BATCH_END = 17;

export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  deleteTable: 2,
  newChain: 3,
  getChain: 4,
  newRule: 6,
  getRule: 7,
  deleteRule: 8,
  newSet: 9,
  getSet: 10,
  deleteSet: 11,
  newSetElements: 12,
  getSetElements: 13,
  deleteSetElements: 14,
  newGeneration: 15,
  getGeneration: 16,
  destroyTable: 26,
} as const;

export const NFT_TABLE_F_OWNER = 2;
export const NFT_TABLE_F_PERSIST = 4;

export const NFT_SET_ANONYMOUS = 0x1;
export const NFT_SET_CONSTANT = 0x2;
export const NFT_SET_MAP = 0x8;

export const batchSchema = { generation: [1, 'be32'] } as const satisfies Schema;

export const generationSchema = {
  id: [1, 'be32'],
  pid: [2, 'be32'],
  program: [3, 'str'],
} as const satisfies Schema;

export const tableSchema = {
  name: [1, 'str'],
  flags: [2, 'be32'],
  use: [3, 'be32'],
  handle: [4, 'be64'],
  userdata: [6, 'hex'],
  owner: [7, 'be32'],
} as const satisfies Schema;

export const chainSchema = {
  table: [1, 'str'],
  handle: [2, 'be64'],
  name: [3, 'str'],
  hook: [4, 'nest', { number: [1, 'be32'], priority: [2, 'sbe32'], device: [3, 'str'] }],
  policy: [5, 'be32'],
  use: [6, 'be32'],
  type: [7, 'str'],
  flags: [10, 'be32'],
  id: [11, 'be32'],
  userdata: [12, 'hex'],
} as const satisfies Schema;

/** NFTA_DATA_*: a value, or a verdict with the chain a jump goes to. */
const dataSchema = {
  value: [1, 'hex'],
  verdict: [2, 'nest', { code: [1, 'sbe32'], chain: [2, 'str'] }],
} as const satisfies Schema;

/** Attributes of each expression we build or expect to meet, by the kernel's name of the expression. */
export const expressionSchemas = {
  bitwise: {
    sreg: [1, 'be32'],
    dreg: [2, 'be32'],
    len: [3, 'be32'],
    mask: [4, 'nest', dataSchema],
    xor: [5, 'nest', dataSchema],
    op: [6, 'be32'],
    data: [7, 'nest', dataSchema],
  },
  byteorder: { sreg: [1, 'be32'], dreg: [2, 'be32'], op: [3, 'be32'], len: [4, 'be32'], size: [5, 'be32'] },
  cmp: { sreg: [1, 'be32'], op: [2, 'be32'], data: [3, 'nest', dataSchema] },
  counter: { bytes: [1, 'be64'], packets: [2, 'be64'] },
  ct: { dreg: [1, 'be32'], key: [2, 'be32'], direction: [3, 'u8'], sreg: [4, 'be32'] },
  exthdr: {
    dreg: [1, 'be32'],
    type: [2, 'u8'],
    offset: [3, 'be32'],
    len: [4, 'be32'],
    flags: [5, 'be32'],
    op: [6, 'be32'],
    sreg: [7, 'be32'],
  },
  fib: { dreg: [1, 'be32'], result: [2, 'be32'], flags: [3, 'be32'] },
  immediate: { dreg: [1, 'be32'], data: [2, 'nest', dataSchema] },
  limit: { rate: [1, 'be64'], unit: [2, 'be64'], burst: [3, 'be32'], type: [4, 'be32'], flags: [5, 'be32'] },
  log: {
    group: [1, 'be16'],
    prefix: [2, 'str'],
    snaplen: [3, 'be32'],
    level: [5, 'be32'],
    flags: [6, 'be32'],
  },
  lookup: { set: [1, 'str'], sreg: [2, 'be32'], dreg: [3, 'be32'], setId: [4, 'be32'], flags: [5, 'be32'] },
  masq: { flags: [1, 'be32'], minimumPort: [2, 'be32'], maximumPort: [3, 'be32'] },
  meta: { dreg: [1, 'be32'], key: [2, 'be32'], sreg: [3, 'be32'] },
  notrack: {},
  payload: {
    dreg: [1, 'be32'],
    base: [2, 'be32'],
    offset: [3, 'be32'],
    len: [4, 'be32'],
    sreg: [5, 'be32'],
    checksumType: [6, 'be32'],
    checksumOffset: [7, 'be32'],
    checksumFlags: [8, 'be32'],
  },
  range: { sreg: [1, 'be32'], op: [2, 'be32'], from: [3, 'nest', dataSchema], to: [4, 'nest', dataSchema] },
  reject: { type: [1, 'be32'], icmpCode: [2, 'u8'] },
  rt: { dreg: [1, 'be32'], key: [2, 'be32'] },
  socket: { key: [1, 'be32'], dreg: [2, 'be32'], level: [3, 'be32'] },
  tproxy: { family: [1, 'be32'], regAddr: [2, 'be32'], regPort: [3, 'be32'] },
} as const satisfies Readonly<Record<string, Schema>>;

export type ExpressionName = keyof typeof expressionSchemas;
export type ExpressionData<N extends ExpressionName> = Of<(typeof expressionSchemas)[N]>;

export const expressionSchema = {
  name: [1, 'str'],
  data: [2, 'choice', 'name', expressionSchemas],
} as const satisfies Schema;

export const ruleSchema = {
  table: [1, 'str'],
  chain: [2, 'str'],
  handle: [3, 'be64'],
  expressions: [4, 'list', [1, 'nest', expressionSchema]],
  position: [6, 'be64'],
  userdata: [7, 'hex'],
} as const satisfies Schema;

export const setSchema = {
  table: [1, 'str'],
  name: [2, 'str'],
  flags: [3, 'be32'],
  keyType: [4, 'be32'],
  keyLength: [5, 'be32'],
  dataType: [6, 'be32'],
  dataLength: [7, 'be32'],
  policy: [8, 'be32'],
  description: [9, 'nest', { size: [1, 'be32'] }],
  id: [10, 'be32'],
  timeout: [11, 'be64'],
  userdata: [13, 'hex'],
  handle: [16, 'be64'],
  /** How many elements there are; 6.16 and later. */
  count: [20, 'be32'],
} as const satisfies Schema;

/** Only for GET requests, error paths and tests: elements themselves take the fast path of `elements.ts`. */
export const elementsSchema = {
  table: [1, 'str'],
  set: [2, 'str'],
  elements: [
    3,
    'list',
    [
      1,
      'nest',
      {
        key: [1, 'nest', dataSchema],
        data: [2, 'nest', dataSchema],
        flags: [3, 'be32'],
        keyEnd: [10, 'nest', dataSchema],
      },
    ],
  ],
} as const satisfies Schema;

const FAMILIES = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const;

/** NFPROTO_* of a table family name. */
export function familyNumber(family: keyof typeof FAMILIES): number {
  return FAMILIES[family];
}

export function familyName(number: number): string {
  return Object.entries(FAMILIES).find(([, value]) => value === number)?.[0] ?? `family ${number}`;
}
