import type { Nft, NftChain, NftCommit, NftRule, NftTable } from '../../kernel/contract.ts';

/**
 * The kernel makes a transaction visible at once, but a packet may be between two hooks, or between a rule and its map, at
 * that moment: it has passed the new table's chain too early and meets the old one's maps too late, and nothing has
 * captured it: one of 10,000 connections, when a table was replaced 1,000 times under them. So a table that takes another's
 * place looks at every packet a second time, behind both, until the packets that were under way have left.
 */

/** By chain that is empty but while a table takes another's place: the one it repeats, behind what that one has decided. */
export type SecondLook = ReadonlyMap<
  string,
  { readonly repeats: string; readonly decided: readonly NftRule[] }
>;

/** Far longer than a packet takes through the hooks, ms. */
const UNDER_WAY_MS = 50;

const withoutLook = (chain: NftChain): NftChain => ({ ...chain, rules: [] });

/** The table with its second look at work. */
export function lookingTwice(table: NftTable, looks: SecondLook): NftTable {
  const chains = table.chains.map((chain) => {
    const look = looks.get(chain.name);
    if (look === undefined) return chain;
    const rules = table.chains.find(({ name }) => name === look.repeats)?.rules ?? [];
    return { ...chain, rules: [...look.decided, ...rules] };
  });
  return { ...table, chains };
}

/** Puts the table in the place of one that is there, so that no packet slips between the two. */
export async function swapTable(
  nft: Pick<Nft, 'replaceTable' | 'changeTable'>,
  table: NftTable,
  looks: SecondLook,
  pause: (ms: number) => Promise<void>,
  lock?: { readonly generation: number },
): Promise<NftCommit> {
  const idle = table.chains.filter(({ name }) => looks.has(name)).map(withoutLook);
  const commit = await nft.replaceTable(lookingTwice(table, looks), lock);
  if (idle.length === 0) return commit;
  await pause(UNDER_WAY_MS);
  return nft.changeTable(
    table,
    idle.map(({ name, rules }) => ({ kind: 'replace-rules', chain: name, rules })),
    lock && { generation: commit.generation },
  );
}
