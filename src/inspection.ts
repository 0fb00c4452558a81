/** What `arctic doctor` and `arctic setup` learn of this host's kernel without an agent. Leaves nothing behind. */
import type { KernelFacts } from './health/facts.ts';
import { defaultInterface } from './host.ts';
import type { Kernel, KernelFeatures, NftExpression, NftTable } from './kernel/contract.ts';
import { createKernel } from './kernel/kernel.ts';

export interface Inspection {
  readonly kernel: KernelFacts;
  /** Interfaces that could be a parent: up, and neither loopback nor one of ours; that of the default route first. */
  readonly interfaces: readonly { readonly name: string; readonly addresses: readonly string[] }[];
}

const OURS = /^arctic/;

/** A port as nf_tables has it in rules and sets: 16 bits, network order. */
const portHex = (port: number): string => port.toString(16).padStart(4, '0');

/** Input chains that drop by default in a table that mentions none of the ports. A heuristic, and worded as one. */
export function closedInputs(
  tables: readonly NftTable[],
  ports: readonly number[],
): KernelFacts['closedInputs'] {
  return tables.flatMap((table) => {
    const text = JSON.stringify([table.sets, table.chains]);
    if (ports.some((port) => text.includes(`"${portHex(port)}`))) return [];
    return table.chains
      .filter(({ base }) => base?.hook === 'input' && base.policy === 'drop')
      .map(({ name }) => ({ table: `${table.family} ${table.name}`, chain: name }));
  });
}

/** Targets of iptables-nft that do what our own rules do. */
const XT_TARGETS = new Set(['TPROXY', 'MARK', 'CONNMARK', 'REDIRECT']);

/** Chains that mark or redirect before routing: of two programs that do, the later one has its way. */
export function foreignMarks(tables: readonly NftTable[]): KernelFacts['foreignMarks'] {
  const marks = ({ name, data }: NftExpression): boolean =>
    name === 'tproxy' ||
    (name === 'meta' && data?.['key'] === 'mark' && data?.['sreg'] !== undefined) ||
    (name === 'target' && XT_TARGETS.has(String(data?.['name'])));
  return tables.flatMap((table) =>
    table.chains
      .filter(({ base }) => base?.hook === 'prerouting' || base?.hook === 'output')
      .filter((chain) => chain.rules.some((rule) => rule.expressions.some(marks)))
      .map((chain) => ({ table: `${table.family} ${table.name}`, chain: chain.name })),
  );
}

/** What the kernel can do, as the table of conditions asks for it. */
export const kernelFactsOf = (
  features: KernelFeatures | undefined,
  rest: Pick<KernelFacts, 'nftables' | 'parentInterface' | 'closedInputs' | 'foreignMarks'>,
): KernelFacts => ({
  tproxy: features?.tproxy ?? false,
  macvlan: features?.macvlan ?? false,
  tun: features?.tun ?? false,
  bbr: features?.congestionControls.includes('bbr') ?? false,
  ipv6: features?.ipv6 ?? false,
  ownerFlag: features?.nftOwner ?? false,
  flowReset: features?.flowReset ?? false,
  xtables: features?.xtables ?? [],
  ...rest,
});

async function foreignTables(kernel: Kernel): Promise<readonly NftTable[]> {
  const tables: NftTable[] = [];
  for (const { family, name } of await kernel.nft.listTables()) {
    if (OURS.test(name) || (family !== 'inet' && family !== 'ip' && family !== 'ip6')) continue;
    try {
      const { table } = await kernel.nft.readTable(family, name);
      if (table !== undefined) tables.push(table);
    } catch {
      // A table with something in it that we do not read is not ours to judge.
    }
  }
  return tables;
}

/** Needs CAP_NET_ADMIN. */
export async function inspectHost(options: {
  readonly parentInterface: string | undefined;
  /** Ports the agent needs open. */
  readonly ports: readonly number[];
}): Promise<Inspection> {
  const kernel = createKernel();
  await kernel.start();
  try {
    const nftables = await kernel.nft.listTables().then(
      () => true,
      () => false,
    );
    const features = await kernel.features().catch(() => undefined);
    const links = await kernel.rt.links();
    const addresses = await kernel.rt.addresses();
    const preferred = await defaultInterface(kernel.rt);
    const wanted = options.parentInterface ?? preferred;
    const interfaces = links
      .filter((link) => link.up && link.name !== 'lo' && link.alias?.startsWith('arctic:') !== true)
      .map((link) => ({
        name: link.name,
        addresses: addresses.filter((one) => one.linkIndex === link.index).map((one) => one.cidr),
      }))
      .sort((a, b) => Number(b.name === preferred) - Number(a.name === preferred));
    const tables = nftables ? await foreignTables(kernel) : [];
    return {
      interfaces,
      kernel: kernelFactsOf(features, {
        nftables,
        parentInterface: links.find((link) => link.name === wanted)?.name,
        closedInputs: closedInputs(tables, options.ports),
        foreignMarks: foreignMarks(tables),
      }),
    };
  } finally {
    await kernel.stop();
  }
}
