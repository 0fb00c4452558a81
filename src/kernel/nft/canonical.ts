/**
 * One form for a table, whether given by us or read back: sets, chains and elements sorted, registers as the kernel
 * names them, counters and other state left out, attributes that only repeat a default left out. Two tables mean the
 * same exactly when their canonical forms are deeply equal.
 */
import type { NftChain, NftElement, NftExpression, NftRule, NftSet, NftTable } from '../contract.ts';
import { UNKNOWN } from '../netlink/codec.ts';

/** What the kernel counts or assigns by itself. */
const STATE: Readonly<Record<string, readonly string[]>> = {
  counter: ['bytes', 'packets'],
  lookup: ['setId'],
};

/** Attributes whose 0 means the same as their absence. */
const ZERO_IS_ABSENT: Readonly<Record<string, readonly string[]>> = {
  bitwise: ['op'],
  exthdr: ['flags', 'op'],
  limit: ['type', 'flags'],
  log: ['flags', 'snaplen'],
  lookup: ['flags'],
  masq: ['flags'],
  payload: ['checksumType', 'checksumOffset', 'checksumFlags'],
  socket: ['level'],
};

const REGISTERS = new Set(['sreg', 'dreg', 'regAddr', 'regPort']);
const NFT_REG32_00 = 8;

/** NFT_REG32_00, 04, 08 and 12 are NFT_REG_1 to 4. */
function canonicalRegister(value: unknown): unknown {
  if (typeof value !== 'number' || value < NFT_REG32_00 || value % 4 !== 0) return value;
  return 1 + (value - NFT_REG32_00) / 4;
}

export function canonicalExpression({ name, data }: NftExpression): NftExpression {
  const kept: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(data ?? {}).sort(([a], [b]) => order(a, b))) {
    if (value === undefined || key === UNKNOWN || STATE[name]?.includes(key) === true) continue;
    if (value === 0 && ZERO_IS_ABSENT[name]?.includes(key) === true) continue;
    kept[key] = REGISTERS.has(key) ? canonicalRegister(value) : withoutUnknown(value);
  }
  return { name, data: kept };
}

/** Nested values (constants and verdicts), without what the schema does not know. */
function withoutUnknown(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).filter(([key, inner]) => key !== UNKNOWN && inner !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => order(a, b)).map(([key, inner]) => [key, withoutUnknown(inner)]),
  );
}

export function canonicalRule(rule: NftRule): NftRule {
  return { comment: rule.comment, expressions: rule.expressions.map(canonicalExpression) };
}

export function canonicalChain(chain: NftChain): NftChain {
  const { base } = chain;
  return {
    name: chain.name,
    ...(base === undefined
      ? {}
      : { base: { type: base.type, hook: base.hook, priority: base.priority, policy: base.policy } }),
    rules: chain.rules.map(canonicalRule),
  };
}

/** Sorted by key; an element given twice counts once. */
export function canonicalElements(elements: readonly NftElement[]): readonly NftElement[] {
  if (isStrictlySorted(elements)) return elements;
  const sorted = [...elements].sort((a, b) => order(a.key, b.key) || order(a.data ?? '', b.data ?? ''));
  return sorted.filter((element, index) => {
    const before = sorted[index - 1];
    return before === undefined || before.key !== element.key || before.data !== element.data;
  });
}

/** Canonical already, as what was read is: spares a second sort of 100,000. */
function isStrictlySorted(elements: readonly NftElement[]): boolean {
  let before = '';
  for (const { key } of elements) {
    if (key <= before) return false;
    before = key;
  }
  return true;
}

export function canonicalSet(set: NftSet): NftSet {
  return {
    name: set.name,
    keyTypes: [...set.keyTypes],
    ...(set.dataType === undefined ? {} : { dataType: set.dataType }),
    ...(set.flags === undefined || set.flags === 0 ? {} : { flags: set.flags }),
    elements: canonicalElements(set.elements),
  };
}

export function canonicalTable(table: NftTable): NftTable {
  return {
    family: table.family,
    name: table.name,
    ...(table.owned === true ? { owned: true } : {}),
    ...(table.persist === true ? { persist: true } : {}),
    sets: table.sets.map(canonicalSet).sort((a, b) => order(a.name, b.name)),
    chains: table.chains.map(canonicalChain).sort((a, b) => order(a.name, b.name)),
  };
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
