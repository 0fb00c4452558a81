/** Partitions of a lab with more than two agents: the router between them drops what passes from one group to another. */
import type { Lab } from '../../ops/lab/lab.ts';

/** Cuts the lab into groups of hosts; whoever stands in no group is cut off from all of them. */
export async function split(lab: Lab, ...groups: readonly (readonly string[])[]): Promise<void> {
  const addresses = (group: readonly string[]) => group.map((name) => lab.host(name).address.ipv4).join(', ');
  const rules = groups.map(
    (group) => `ip saddr { ${addresses(group)} } ip daddr { ${addresses(group)} } accept`,
  );
  const ruleset = [
    'table ip split',
    'delete table ip split',
    'table ip split {',
    'chain forward {',
    'type filter hook forward priority -10; policy drop;',
    ...rules,
    '}',
    '}',
  ];
  await lab.exec('core', ['nft', '-f', '-'], { input: `${ruleset.join('\n')}\n` });
}

export async function heal(lab: Lab): Promise<void> {
  await lab.exec('core', ['nft', 'delete', 'table', 'ip', 'split']);
}
