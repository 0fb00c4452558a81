import { isDeepStrictEqual } from 'node:util';
import type { NftChange, NftElement, NftSet, NftTable } from '../../kernel/contract.ts';
import type { Difference } from '../contract.ts';
import { TUNNEL_TABLE } from './ruleset.ts';

/** How the table becomes what is desired. */
export type TunnelTableStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'remove' }
  | { readonly kind: 'replace'; readonly table: NftTable }
  | { readonly kind: 'change'; readonly table: NftTable; readonly changes: readonly NftChange[] };

export interface TunnelTableComparison {
  readonly step: TunnelTableStep;
  readonly differences: readonly Difference[];
}

const ITEM = `table ${TUNNEL_TABLE.family} ${TUNNEL_TABLE.name}`;

/** Compares two canonical tables: elements change one by one, anything else replaces the table in one transaction. */
export function compareTunnelTable(
  desired: NftTable | undefined,
  observed: NftTable | undefined,
): TunnelTableComparison {
  if (desired === undefined)
    return observed === undefined
      ? { step: { kind: 'none' }, differences: [] }
      : {
          step: { kind: 'remove' },
          differences: [{ item: ITEM, desired: null, observed: 'present' }],
        };
  const replace = (differences: readonly Difference[]): TunnelTableComparison => ({
    step: { kind: 'replace', table: desired },
    differences,
  });
  if (observed === undefined) return replace([{ item: ITEM, desired: 'present', observed: null }]);

  const differences: Difference[] = [];
  const held = new Map(observed.chains.map((chain) => [chain.name, chain]));
  for (const chain of desired.chains) {
    const other = held.get(chain.name);
    held.delete(chain.name);
    if (!isDeepStrictEqual(chain, other))
      differences.push({
        item: `${ITEM} chain ${chain.name}`,
        desired: `${chain.rules.length} rules`,
        observed: other === undefined ? null : `${other.rules.length} rules, altered`,
      });
  }
  for (const name of held.keys())
    differences.push({ item: `${ITEM} chain ${name}`, desired: null, observed: 'present' });

  const shape = (set: NftSet): string => `${set.keyTypes.join(' . ')} : ${set.dataType} ${set.flags ?? ''}`;
  const heldSets = new Map(observed.sets.map((set) => [set.name, set]));
  const changes: NftChange[] = [];
  let whole = differences.length > 0;
  for (const set of desired.sets) {
    const other = heldSets.get(set.name);
    heldSets.delete(set.name);
    if (other === undefined || shape(other) !== shape(set)) {
      whole = true;
      differences.push({
        item: `${ITEM} map ${set.name}`,
        desired: `${set.elements.length} elements`,
        observed: other === undefined ? null : shape(other),
      });
    } else changes.push(...elementChanges(set, other, differences));
  }
  for (const name of heldSets.keys()) {
    whole = true;
    differences.push({ item: `${ITEM} map ${name}`, desired: null, observed: 'present' });
  }
  if (differences.length === 0) return { step: { kind: 'none' }, differences };
  return whole ? replace(differences) : { step: { kind: 'change', table: desired, changes }, differences };
}

function elementChanges(desired: NftSet, observed: NftSet, differences: Difference[]): readonly NftChange[] {
  const held = new Map(observed.elements.map((element) => [element.key, element]));
  const added: NftElement[] = [];
  const removed: NftElement[] = [];
  const item = (key: string): string => `${ITEM} element ${key} of map ${desired.name}`;
  for (const element of desired.elements) {
    const other = held.get(element.key);
    held.delete(element.key);
    if (other?.data === element.data) continue;
    added.push(element);
    if (other !== undefined) removed.push(other);
    differences.push({
      item: item(element.key),
      desired: element.data ?? '',
      observed: other?.data ?? null,
    });
  }
  for (const element of held.values()) {
    removed.push(element);
    differences.push({ item: item(element.key), desired: null, observed: element.data ?? '' });
  }
  return [
    ...(removed.length > 0
      ? [{ kind: 'delete-elements' as const, set: desired.name, elements: removed }]
      : []),
    ...(added.length > 0 ? [{ kind: 'add-elements' as const, set: desired.name, elements: added }] : []),
  ];
}
