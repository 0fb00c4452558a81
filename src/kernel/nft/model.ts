/** What a transaction does to a table, and why the kernel would refuse it: the model behind the fake kernel. */
import {
  KernelError,
  type NftChange,
  type NftComparison,
  type NftDeviation,
  type NftElement,
  type NftExpectedSet,
  type NftSet,
  type NftTable,
} from '../contract.ts';
import { canonicalTable } from './canonical.ts';
import { dataType, isSameKind, keyLayout } from './data-types.ts';
import { elementText } from './elements.ts';

const ENOENT = 2;
const EEXIST = 17;
const EBUSY = 16;
const EINVAL = 22;

interface Outcome {
  readonly table: NftTable;
  /** False when every step found what it asked for. */
  readonly changed: boolean;
}

/** The table as the kernel would hold it. Throws KernelError as the kernel would. */
export function modelReplace(table: NftTable): NftTable {
  for (const set of table.sets) checkElements(set, set.elements);
  const result = canonicalTable(table);
  for (const set of result.sets) checkConflicts(set);
  checkReferences(result);
  return result;
}

/** The table without the elements of expected sets, and how those differ. */
export function modelCompare(
  table: NftTable,
  expected: ReadonlyMap<string, NftExpectedSet>,
): Pick<NftComparison, 'deviations'> & { readonly table: NftTable } {
  const deviations: NftDeviation[] = [];
  const sets = table.sets.map((set) => {
    const wanted = expected.get(set.name);
    if (wanted === undefined || !isSameKind(set, wanted)) return set;
    const held = new Map(set.elements.map((element) => [element.key, element.data]));
    const foreign = set.elements.filter(({ key, data }) => {
      const other = wanted.elements.get(key);
      return other === undefined || other.data !== data;
    });
    const missing = [...wanted.elements.values()].filter(
      ({ key, data }) => !held.has(key) || held.get(key) !== data,
    );
    if (foreign.length + missing.length > 0) deviations.push({ set: set.name, missing, foreign });
    return { ...set, elements: [] };
  });
  return { table: { ...table, sets }, deviations };
}

/** Applies the steps in order to `table`, or throws KernelError and has changed nothing. */
export function modelChange(table: NftTable, changes: readonly NftChange[]): Outcome {
  const sets = new Map(table.sets.map((set) => [set.name, set]));
  const chains = new Map(table.chains.map((chain) => [chain.name, chain]));
  let changed = false;
  const find = (name: string, subject: string): NftSet => {
    const set = sets.get(name);
    if (set === undefined) throw new KernelError('ENOENT', ENOENT, subject, 'the kernel knows no such set');
    return set;
  };
  for (const change of changes) {
    switch (change.kind) {
      case 'add-elements': {
        const set = find(change.set, `add elements to set ${change.set}`);
        checkElements(set, change.elements);
        const elements = addElements(set, change.elements);
        changed ||= elements.length > set.elements.length;
        sets.set(set.name, { ...set, elements });
        break;
      }
      case 'delete-elements': {
        const set = find(change.set, `delete elements of set ${change.set}`);
        sets.set(set.name, { ...set, elements: deleteElements(set, change.elements) });
        changed ||= change.elements.length > 0;
        break;
      }
      case 'add-set': {
        checkElements(change.set, change.set.elements);
        checkConflicts(change.set);
        if (sets.has(change.set.name)) {
          throw new KernelError('EEXIST', EEXIST, `add set ${change.set.name}`, 'exists already');
        }
        sets.set(change.set.name, change.set);
        changed = true;
        break;
      }
      case 'delete-set': {
        find(change.set, `delete set ${change.set}`);
        if (isReferenced(change.set, [...chains.values()])) {
          throw new KernelError('EBUSY', EBUSY, `delete set ${change.set}`, 'a rule looks it up');
        }
        sets.delete(change.set);
        changed = true;
        break;
      }
      case 'replace-rules': {
        const chain = chains.get(change.chain);
        if (chain === undefined) {
          throw new KernelError(
            'ENOENT',
            ENOENT,
            `flush chain ${change.chain}`,
            'the kernel knows no such chain',
          );
        }
        chains.set(chain.name, { ...chain, rules: change.rules });
        checkReferences({ ...table, sets: [...sets.values()], chains: [...chains.values()] });
        changed ||= chain.rules.length > 0 || change.rules.length > 0;
        break;
      }
    }
  }
  const result = { ...table, sets: [...sets.values()], chains: [...chains.values()] };
  return { table: canonicalTable(result), changed };
}

function addElements(set: NftSet, added: readonly NftElement[]): NftElement[] {
  const values = new Map(set.elements.map((element) => [element.key, element]));
  for (const element of added) {
    const there = values.get(element.key);
    if (there !== undefined && there.data !== element.data) throw conflict(set.name, element);
    values.set(element.key, element);
  }
  return [...values.values()];
}

function deleteElements(set: NftSet, deleted: readonly NftElement[]): NftElement[] {
  const values = new Map(set.elements.map((element) => [element.key, element]));
  for (const { key } of deleted) {
    if (!values.delete(key)) {
      throw new KernelError(
        'ENOENT',
        ENOENT,
        `delete element ${key} of set ${set.name}`,
        'the kernel knows no such object',
      );
    }
  }
  return [...values.values()];
}

function checkConflicts(set: NftSet): void {
  const keys = new Set<string>();
  for (const element of set.elements) {
    // Repeating an element with its value is no conflict; a canonical set has it once.
    if (
      keys.has(element.key) &&
      set.elements.some((other) => other.key === element.key && other.data !== element.data)
    ) {
      throw conflict(set.name, element);
    }
    keys.add(element.key);
  }
}

function conflict(set: string, element: NftElement): KernelError {
  return new KernelError(
    'EEXIST',
    EEXIST,
    `add element ${elementText(element)} of set ${set}`,
    'exists already',
  );
}

function checkElements(set: NftSet, elements: readonly NftElement[]): void {
  const names = set.keyTypes.map((type) => ours(set.name, type));
  const key = keyLayout(names).length * 2;
  const data = set.dataType === undefined ? undefined : dataType(ours(set.name, set.dataType)).length * 2;
  for (const element of elements) {
    if (element.key.length !== key || element.data?.length !== data) {
      throw new KernelError(
        'EINVAL',
        EINVAL,
        `element ${elementText(element)} of set ${set.name}`,
        'wrong length',
      );
    }
  }
}

function ours(set: string, type: NftSet['keyTypes'][number]): Parameters<typeof dataType>[0] {
  if (type === 'verdict' || type.startsWith('type ')) {
    throw new KernelError(
      'EINVAL',
      EINVAL,
      `set ${set}`,
      `${type} is read from the kernel but never written`,
    );
  }
  return type as Parameters<typeof dataType>[0];
}

function isReferenced(set: string, chains: NftTable['chains']): boolean {
  return chains.some((chain) =>
    chain.rules.some((rule) =>
      rule.expressions.some((expression) => expression.name === 'lookup' && expression.data?.['set'] === set),
    ),
  );
}

/** Rules may look up only sets that are there and jump only to chains that are there. */
function checkReferences(table: NftTable): void {
  const sets = new Set(table.sets.map((set) => set.name));
  const chains = new Set(table.chains.map((chain) => chain.name));
  for (const chain of table.chains) {
    chain.rules.forEach((rule, index) => {
      rule.expressions.forEach((expression, position) => {
        const set = expression.name === 'lookup' ? expression.data?.['set'] : undefined;
        const target = expression.name === 'immediate' ? jumpTarget(expression.data?.['data']) : undefined;
        if ((typeof set === 'string' && !sets.has(set)) || (target !== undefined && !chains.has(target))) {
          const name = rule.comment === '' ? `${index}` : `${index} (${rule.comment})`;
          const subject = `add rule ${name} to chain ${chain.name}`;
          throw new KernelError(
            'ENOENT',
            ENOENT,
            subject,
            'the kernel knows no such object',
            `expressions[${position}]`,
          );
        }
      });
    });
  }
}

function jumpTarget(data: unknown): string | undefined {
  const { verdict } = (data ?? {}) as { readonly verdict?: { readonly chain?: string } };
  return verdict?.chain;
}
