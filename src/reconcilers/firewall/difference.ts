import { isDeepStrictEqual } from 'node:util';
import type { ClassRoute } from '../../../projections/desired/contract.ts';
import type {
  NftChain,
  NftChange,
  NftComparison,
  NftElement,
  NftSet,
  NftTable,
} from '../../kernel/contract.ts';
import { hostWord } from '../../kernel/nft/expressions.ts';
import { textOfAddress } from '../../kernel/rt/cidr.ts';
import type { Difference } from '../contract.ts';
import { type MapChanges, type RouteElement, type RouteMaps, toSet } from './route-maps.ts';
import { INTERFACES, type TableFrame } from './ruleset.ts';

/** How a table becomes what is desired: not at all, step by step, or anew. */
export type TableStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'remove'; readonly table: TableId }
  /** `over`: there is a table in its place. */
  | { readonly kind: 'replace'; readonly table: NftTable; readonly over: boolean }
  | { readonly kind: 'change'; readonly table: NftTable; readonly changes: readonly NftChange[] };

type TableId = Pick<NftTable, 'family' | 'name'>;

export interface TableComparison {
  readonly step: TableStep;
  readonly differences: readonly Difference[];
}

/** Past this share of the elements a whole replacement is cheaper than single steps (netlink note, section 5). */
const REPLACE_SHARE = 0.5;
const itemOf = ({ family, name }: TableId): string => `table ${family} ${name}`;

/** What stands in the kernel, as far as is known: the frame, the sets besides our maps, and how the maps differ. */
export interface HeldTable {
  readonly frame: TableFrame;
  /** Names of the maps of routes that are there. */
  readonly maps: ReadonlySet<string>;
  readonly deviations: NftComparison['deviations'];
}

/** What was read, split into our maps and the rest. */
export function heldOf(table: NftTable, deviations: NftComparison['deviations'], maps: RouteMaps): HeldTable {
  const isMap = (set: NftSet): boolean => {
    const map = maps.maps.get(set.name);
    return map !== undefined && describeType(map) === describeType(set);
  };
  const ours = table.sets.filter(isMap);
  return {
    frame: { ...table, sets: table.sets.filter((set) => !ours.includes(set)) },
    maps: new Set(ours.map((set) => set.name)),
    deviations,
  };
}

/** What stands in the kernel of a table that nobody has touched since it was applied, before the maps changed by `since`. */
export function heldSince(frame: TableFrame, maps: RouteMaps, since: MapChanges): HeldTable {
  const names = new Set([...maps.maps.keys()].filter((map) => !since.come.has(map)));
  for (const map of since.gone) names.add(map);
  return { frame, maps: names, deviations: [] };
}

/** The table as one transaction writes it. */
const wholeTable = (frame: TableFrame, maps: RouteMaps): NftTable => ({
  ...frame,
  sets: [...frame.sets, ...Array.from(maps.maps.values(), toSet)],
});

/**
 * Compares a table with what is held, when the maps have since changed by `since`. `names` is asked only where something
 * differs.
 */
export function compareTables(
  desired: TableFrame | undefined,
  held: HeldTable | undefined,
  table: TableId,
  maps: RouteMaps,
  since: MapChanges,
  names: ElementNames,
): TableComparison {
  const item = itemOf(table);
  if (desired === undefined)
    return held === undefined
      ? { step: { kind: 'none' }, differences: [] }
      : {
          step: { kind: 'remove', table },
          differences: [{ item, desired: null, observed: 'present' }],
        };
  if (held === undefined)
    return {
      step: { kind: 'replace', table: wholeTable(desired, maps), over: false },
      differences: [{ item, desired: 'present', observed: null }],
    };

  const differences: Difference[] = [];
  const steps = new Steps();
  let whole = compareHeads(desired, held.frame, differences);
  if (compareChains(desired.chains, held.frame.chains, differences, steps)) whole = true;
  if (compareSets(desired.sets, held.frame.sets, differences, steps, names)) whole = true;
  if (compareMaps(maps, held, since, differences, steps, names)) whole = true;
  if (differences.length === 0) return { step: { kind: 'none' }, differences };
  if (whole || steps.elements > Math.max(100, maps.size * REPLACE_SHARE))
    return { step: { kind: 'replace', table: wholeTable(desired, maps), over: true }, differences };
  // A change names the types of the sets it touches; their elements are none of its business.
  const shapes = Array.from(maps.maps.values(), (map) => ({ ...map, elements: [] }));
  const sets = [...desired.sets, ...shapes];
  return { step: { kind: 'change', table: { ...desired, sets }, changes: steps.inOrder() }, differences };
}

/** The order that keeps every reference satisfied: sets before the rules that use them, and away after. */
class Steps {
  readonly addSets: NftChange[] = [];
  readonly elementChanges: NftChange[] = [];
  readonly rules: NftChange[] = [];
  readonly deleteSets: NftChange[] = [];
  elements = 0;

  /** Removes before it adds: an element that gets another value goes first. */
  elementsOf(set: string, remove: readonly NftElement[], add: readonly NftElement[]): void {
    if (remove.length > 0) this.elementChanges.push({ kind: 'delete-elements', set, elements: remove });
    if (add.length > 0) this.elementChanges.push({ kind: 'add-elements', set, elements: add });
    this.elements += remove.length + add.length;
  }

  inOrder(): readonly NftChange[] {
    return [...this.addSets, ...this.elementChanges, ...this.rules, ...this.deleteSets];
  }
}

function compareHeads(desired: TableFrame, observed: TableFrame, differences: Difference[]): boolean {
  const flags = (table: TableFrame): string =>
    [table.owned ? 'owner' : '', table.persist ? 'persist' : ''].filter(Boolean).join(', ') || 'none';
  if (flags(desired) === flags(observed)) return false;
  differences.push({
    item: `${itemOf(desired)} flags`,
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

const describeType = (set: Omit<NftSet, 'elements'>): string =>
  `${set.keyTypes.join(' . ')}${set.dataType ? ` : ${set.dataType}` : ''}${set.flags ? ` flags ${set.flags}` : ''}`;

/** For the few elements of sets that are no maps of routes. */
function compareElements(
  set: NftSet,
  observed: readonly NftElement[],
  differences: Difference[],
  steps: Steps,
  names: ElementNames,
): void {
  const held = new Map(observed.map((element) => [element.key, element.data]));
  const wanted = new Map(set.elements.map((element) => [element.key, element.data]));
  const added = set.elements.filter(({ key, data }) => !held.has(key) || held.get(key) !== data);
  const removed = observed.filter(({ key, data }) => !wanted.has(key) || wanted.get(key) !== data);
  steps.elementsOf(set.name, removed, added);
  describeElements(set.name, removed, added, differences, names);
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

/** The maps of routes: what was read, and what has changed since. True when only a whole replacement will do. */
function compareMaps(
  maps: RouteMaps,
  held: HeldTable,
  since: MapChanges,
  differences: Difference[],
  steps: Steps,
  names: ElementNames,
): boolean {
  const deviating = new Map(held.deviations.map((deviation) => [deviation.set, deviation]));
  for (const map of maps.maps.values()) {
    if (held.maps.has(map.name)) {
      const read = deviating.get(map.name);
      if (read !== undefined) steps.elementsOf(map.name, read.foreign, read.missing);
      const changed = since.maps.get(map.name);
      if (changed !== undefined) steps.elementsOf(map.name, changed.removed, changed.added);
      if (read !== undefined) describeElements(map.name, read.foreign, read.missing, differences, names);
      if (changed !== undefined)
        describeElements(map.name, changed.removed, changed.added, differences, names);
      continue;
    }
    differences.push({
      item: `map ${map.name}`,
      desired: `${map.elements.size} elements`,
      observed: null,
    });
    steps.addSets.push({ kind: 'add-set', set: toSet(map) });
    steps.elements += map.elements.size;
  }
  for (const name of held.maps) {
    if (maps.maps.has(name)) continue;
    const { length } = since.maps.get(name)?.removed ?? [];
    differences.push({ item: `map ${name}`, desired: null, observed: `${length} elements` });
    steps.deleteSets.push({ kind: 'delete-set', set: name });
  }
  // A map whose name is taken by a set of another kind.
  return held.frame.sets.some((set) => maps.maps.has(set.name));
}

/** One difference an element; one that has another value is in both lists. */
function describeElements(
  set: string,
  theirs: readonly NftElement[],
  ours: readonly NftElement[],
  differences: Difference[],
  names: ElementNames,
): void {
  const others = new Map(theirs.map((element) => [element.key, element]));
  for (const element of ours) {
    const other = others.get(element.key);
    others.delete(element.key);
    differences.push({
      ...names.of(set, element),
      desired: names.value(element.data),
      observed: other === undefined ? null : names.value(other.data),
    });
  }
  for (const element of others.values())
    differences.push({ ...names.of(set, element), desired: null, observed: names.value(element.data) });
}

/** Says in an operator's words what an element stands for. */
export interface ElementNames {
  of(set: string, element: NftElement): Pick<Difference, 'item' | 'service_id'>;
  value(data: string | undefined): string;
}

/** `services` by mark. */
export function elementNames(
  services: readonly { readonly service_id: string; readonly mark: number }[],
  nameOf: (service: string) => string,
): ElementNames {
  const byMark = new Map(services.map((service) => [hostWord(service.mark), service.service_id]));
  return {
    of(set, element) {
      const route: ClassRoute | undefined = 'route' in element ? (element as RouteElement).route : undefined;
      if (route)
        return {
          item: `route ${route.number} of ${nameOf(route.service_id)}: ${route.source_cidr ?? 'any'} -> ${route.dest_cidr ?? 'any'}`,
          service_id: route.service_id,
        };
      if (set === INTERFACES)
        return {
          item: `interface ${Buffer.from(element.key, 'hex').toString().replace(/\0+$/, '')} of ${set}`,
        };
      return { item: `element ${describeKey(set, element.key)} of map ${set}` };
    },
    value(data) {
      const service = data === undefined ? undefined : byMark.get(data);
      return service === undefined ? `mark ${data ?? 'none'}` : `to ${nameOf(service)}`;
    },
  };
}
