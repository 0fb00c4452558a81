/** Table `inet arctic` on the entry, read and harmed with the nft program as an operator would. */
import type { Lab } from '../lab/lab.ts';

export interface TableRule {
  readonly chain: string;
  /** Without what changes by itself: its handle and its counters. */
  readonly text: string;
  readonly handle: string;
}

/** The rules in a listing of `nft -a list table`. */
export function parseRules(listing: string): TableRule[] {
  const rules: TableRule[] = [];
  let chain = '';
  for (const line of listing.split('\n')) {
    const opened = /^\tchain (\S+) \{/.exec(line)?.[1];
    if (opened !== undefined) chain = opened;
    else if (line.startsWith('\t}')) chain = '';
    const rule = /^\t\t(.*) # handle (\d+)$/.exec(line);
    if (chain === '' || rule === null) continue;
    const text = (rule[1] ?? '').replaceAll(/ ?counter packets \d+ bytes \d+/g, ' counter').trim();
    rules.push({ chain, text, handle: rule[2] ?? '' });
  }
  return rules;
}

export async function readRules(lab: Lab): Promise<TableRule[]> {
  return parseRules((await lab.exec('entry', ['nft', '-a', 'list', 'table', 'inet', 'arctic'])).stdout);
}

export async function deleteRule(lab: Lab, rule: TableRule): Promise<void> {
  await lab.exec('entry', ['nft', 'delete', 'rule', 'inet', 'arctic', rule.chain, 'handle', rule.handle]);
}
