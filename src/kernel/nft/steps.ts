import { KernelError, type NftChange, type NftSet } from '../contract.ts';
import type { Transaction } from './transaction.ts';

/** Adds incremental steps to a transaction; `sets` are those of the table as it will be, for their types. */
export function addChanges(
  transaction: Transaction,
  sets: readonly NftSet[],
  changes: readonly NftChange[],
): void {
  const known = new Map(sets.map((set) => [set.name, set]));
  const find = (name: string): NftSet => {
    const set = known.get(name);
    if (set === undefined)
      throw new KernelError('ENOENT', 2, `set ${name}`, 'not among the sets of the table given');
    return set;
  };
  for (const change of changes) {
    switch (change.kind) {
      case 'add-elements':
        transaction.addElements(find(change.set), change.elements);
        break;
      case 'delete-elements':
        transaction.deleteElements(find(change.set), change.elements);
        break;
      case 'add-set':
        known.set(change.set.name, change.set);
        transaction.addSet(change.set);
        transaction.addElements(change.set, change.set.elements);
        break;
      case 'delete-set':
        transaction.deleteSet(change.set);
        break;
      case 'replace-rules':
        transaction.flushChain(change.chain);
        transaction.addRules(change.chain, change.rules);
        break;
    }
  }
}
