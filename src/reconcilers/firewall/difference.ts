import { isDeepStrictEqual } from 'node:util';
import type { ClassRoute, DesiredFirewall } from '../../../projections/desired/contract.ts';
import type { NftChain, NftChange, NftElement, NftSet, NftTable } from '../../kernel/contract.ts';
import { hostWord } from '../../kernel/nft/expressions.ts';
import { textOfAddress } from '../../kernel/rt/cidr.ts';
import type { Difference } from '../contract.ts';
import { className, elementKey, INTERFACES, TABLE } from './ruleset.ts';

/** How a table becomes what is desired: not at all, step by step, or anew. */
export type TableStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'remove' }
  | { readonly kind: 'replace'; readonly table: NftTable }
  | { readonly kind: 'change'; readonly table: NftTable; readonly changes: readonly NftChange[] };

export interface TableComparison {
  readonly step: TableStep;
  readonly differences: readonly Difference[];
}

/** Past this share of the elements a whole replacement is cheaper than single steps (netlink note, section 5). */
const REPLACE_SHARE = 0.5;
const TABLE_ITEM = `table ${TABLE.family} ${TABLE.name}`;

/** Compares two canonical tables. `describe` names what an element stands for, and is asked only where one differs. */
export function compareTables(
  desired: NftTable | undefined,
  observed: NftTable | undefined,
  describe: ElementNames,
): TableComparison {
  if (desired === undefined)
    return observed === undefined
      ? { step: { kind: 'none' }, differences: [] }
      : {
          step: { kind: 'remove' },
          differences: [{ item: TABLE_ITEM, desired: null, observed: 'present' }],
        };
  if (observed === undefined)
    return {
      step: { kind: 'replace', table: desired },
      differences: [{ item: TABLE_ITEM, desired: 'present', observed: null }],
    };

  const differences: Difference[] = [];
  const changes = new Steps();
  let whole = compareHeads(desired, observed, differences);
  if (compareChains(desired.chains, observed.chains, differences, changes)) whole = true;
  if (compareSets(desired.sets, observed.sets, differences, changes, describe)) whole = true;
  if (differences.length === 0) return { step: { kind: 'none' }, differences };
  const elements = desired.sets.reduce((sum, set) => sum + set.elements.length, 0);
  if (whole || changes.elements > Math.max(100, elements * REPLACE_SHARE))
    return { step: { kind: 'replace', table: desired }, differences };
  return { step: { kind: 'change', table: desired, changes: changes.inOrder() }, differences };
}

/** The order that keeps every reference satisfied: sets before the rules that use them, and away after. */
class Steps {
  readonly addSets: NftChange[] = [];
  readonly elementChanges: NftChange[] = [];
  readonly rules: NftChange[] = [];
  readonly deleteSets: NftChange[] = [];
  elements = 0;

  inOrder(): readonly NftChange[] {
    return [...this.addSets, ...this.elementChanges, ...this.rules, ...this.deleteSets];
  }
}

function compareHeads(desired: NftTable, observed: NftTable, differences: Difference[]): boolean {
  const flags = (table: NftTable): string =>
    [table.owned ? 'owner' : '', table.persist ? 'persist' : ''].filter(Boolean).join(', ') || 'none';
  if (flags(desired) === flags(observed)) return false;
  differences.push({
    item: `${TABLE_ITEM} flags`,
    desired: flags(desired),
    observed: flags(observed),
  });
  return true;
}

/** True when only a whole replacement will do. */
function compareChains(
  desired: readonly NftChain[],
  observed: readonly NftChain[],
  differences: Difference[],
  steps: Steps,
): boolean {
  let whole = false;
  const held = new Map(observed.map((chain) => [chain.name, chain]));
  for (const chain of desired) {
    const other = held.get(chain.name);
    held.delete(chain.name);
    if (other === undefined || !isDeepStrictEqual(chain.base, other.base)) {
      differences.push({
        item: `chain ${chain.name}`,
        desired: describeBase(chain),
        observed: other ? describeBase(other) : null,
      });
      whole = true;
    } else if (compareRules(chain, other, differences))
      steps.rules.push({ kind: 'replace-rules', chain: chain.name, rules: chain.rules });
  }
  for (const chain of held.values()) {
    differences.push({ item: `chain ${chain.name}`, desired: null, observed: describeBase(chain) });
    whole = true;
  }
  return whole;
}

const describeBase = ({ base }: NftChain): string =>
  base ? `${base.type} hook ${base.hook} priority ${base.priority} policy ${base.policy}` : 'present';

/** Says which rules are missing, foreign or out of place; true when any is. */
function compareRules(desired: NftChain, observed: NftChain, differences: Difference[]): boolean {
  if (isDeepStrictEqual(desired.rules, observed.rules)) return false;
  const left = [...observed.rules];
  let named = false;
  for (const rule of desired.rules) {
    const at = left.findIndex((other) => isDeepStrictEqual(other, rule));
    if (at >= 0) {
      left.splice(at, 1);
      continue;
    }
    const changed = left.findIndex((other) => other.comment === rule.comment);
    if (changed >= 0) left.splice(changed, 1);
    differences.push({
      item: `chain ${desired.name} rule "${rule.comment}"`,
      desired: 'present',
      observed: changed >= 0 ? 'altered' : null,
    });
    named = true;
  }
  for (const rule of left) {
    differences.push({
      item: `chain ${desired.name} rule ${rule.comment === '' ? 'without comment' : `"${rule.comment}"`}`,
      desired: null,
      observed: rule.expressions.map((expression) => expression.name).join(' '),
    });
    named = true;
  }
  if (!named)
    differences.push({
      item: `chain ${desired.name}`,
      desired: 'rules in order',
      observed: 'rules out of order',
    });
  return true;
}

/** True when only a whole replacement will do. */
function compareSets(
  desired: readonly NftSet[],
  observed: readonly NftSet[],
  differences: Difference[],
  steps: Steps,
  names: ElementNames,
): boolean {
  let whole = false;
  const held = new Map(observed.map((set) => [set.name, set]));
  for (const set of desired) {
    const other = held.get(set.name);
    held.delete(set.name);
    if (other === undefined) {
      differences.push({
        item: `map ${set.name}`,
        desired: `${set.elements.length} elements`,
        observed: null,
      });
      steps.addSets.push({ kind: 'add-set', set });
      steps.elements += set.elements.length;
    } else if (describeType(set) !== describeType(other)) {
      differences.push({
        item: `map ${set.name}`,
        desired: describeType(set),
        observed: describeType(other),
      });
      whole = true;
    } else compareElements(set, other.elements, differences, steps, names);
  }
  for (const set of held.values()) {
    differences.push({ item: `map ${set.name}`, desired: null, observed: `${set.elements.length} elements` });
    // A set of another's making may hang on things we cannot name.
    if (set.flags === undefined) steps.deleteSets.push({ kind: 'delete-set', set: set.name });
    else whole = true;
  }
  return whole;
}

const describeType = (set: NftSet): string =>
  `${set.keyTypes.join(' . ')}${set.dataType ? ` : ${set.dataType}` : ''}${set.flags ? ` flags ${set.flags}` : ''}`;

/** Both lists are sorted by key (canonical), so one walk over both finds every difference. */
function compareElements(
  set: NftSet,
  observed: readonly NftElement[],
  differences: Difference[],
  steps: Steps,
  names: ElementNames,
): void {
  const add: NftElement[] = [];
  const remove: NftElement[] = [];
  const value = (element: NftElement): string => names.value(element.data);
  for (let i = 0, j = 0; i < set.elements.length || j < observed.length; ) {
    const ours = set.elements[i];
    const theirs = observed[j];
    if (ours && theirs && ours.key === theirs.key) {
      if (ours.data !== theirs.data) {
        add.push(ours);
        remove.push(theirs);
        differences.push({ ...names.of(set.name, ours.key), desired: value(ours), observed: value(theirs) });
      }
      i += 1;
      j += 1;
    } else if (ours && (!theirs || ours.key < theirs.key)) {
      add.push(ours);
      differences.push({ ...names.of(set.name, ours.key), desired: value(ours), observed: null });
      i += 1;
    } else if (theirs) {
      remove.push(theirs);
      differences.push({ ...names.of(set.name, theirs.key), desired: null, observed: value(theirs) });
      j += 1;
    }
  }
  if (remove.length > 0)
    steps.elementChanges.push({ kind: 'delete-elements', set: set.name, elements: remove });
  if (add.length > 0) steps.elementChanges.push({ kind: 'add-elements', set: set.name, elements: add });
  steps.elements += remove.length + add.length;
}

/** Addresses of an element that stands for no route (any more), from the name of its map. */
function describeKey(set: string, key: string): string {
  const [, family, source, dest] = /^m([46])(?:_s(\d+))?(?:_d(\d+))?$/.exec(set) ?? [];
  const digits = family === '4' ? 8 : 32;
  const sides = [source, dest].filter((length) => length !== undefined).length;
  if (family === undefined || key.length !== digits * sides) return key;
  const cidr = (length: string | undefined, at: number): string =>
    length === undefined ? 'any' : `${textOfAddress(key.slice(at, at + digits))}/${length}`;
  return `${cidr(source, 0)} -> ${cidr(dest, source === undefined ? 0 : digits)}`;
}

/** Says in an operator's words what an element stands for. */
export interface ElementNames {
  of(set: string, key: string): Pick<Difference, 'item' | 'service_id'>;
  value(data: string | undefined): string;
}

/** Names from the desired state; the index is made at the first question, since most passes ask none. */
export function elementNames(desired: DesiredFirewall, nameOf: (service: string) => string): ElementNames {
  let routes: Map<string, ClassRoute> | undefined;
  const index = (): Map<string, ClassRoute> => {
    if (routes) return routes;
    routes = new Map();
    for (const one of desired.classes) {
      const name = className(one);
      for (const route of one.routes) routes.set(`${name} ${elementKey(route)}`, route);
    }
    return routes;
  };
  const services = new Map(desired.services.map((service) => [hostWord(service.mark), service.service_id]));
  return {
    of(set, key) {
      const route = index().get(`${set} ${key}`);
      if (route)
        return {
          item: `route ${route.number} of ${nameOf(route.service_id)}: ${route.source_cidr ?? 'any'} -> ${route.dest_cidr ?? 'any'}`,
          service_id: route.service_id,
        };
      if (set === INTERFACES)
        return { item: `interface ${Buffer.from(key, 'hex').toString().replace(/\0+$/, '')} of ${set}` };
      return { item: `element ${describeKey(set, key)} of map ${set}` };
    },
    value(data) {
      const service = data === undefined ? undefined : services.get(data);
      return service === undefined ? `mark ${data ?? 'none'}` : `to ${nameOf(service)}`;
    },
  };
}
