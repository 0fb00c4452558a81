import type { DesiredFirewall } from '../../projections/desired/contract.ts';
import {
  type IpFamily,
  type Kernel,
  KernelError,
  type NftSnapshot,
  type NftTable,
} from '../kernel/contract.ts';
import { canonicalTable } from '../kernel/nft/canonical.ts';
import type { Plan, Reconciler } from './contract.ts';
import { compareTables, elementNames, type TableStep } from './firewall/difference.ts';
import {
  applyRouting,
  type ObservedRouting,
  observeRouting,
  planRouting,
  type RoutingPlan,
} from './firewall/policy-routing.ts';
import { compileRuleset, TABLE } from './firewall/ruleset.ts';
import {
  applySysctls,
  type ObservedSysctls,
  observeSysctls,
  planSysctls,
  restoreSysctls,
  type SysctlMemory,
} from './firewall/sysctls.ts';

export interface FirewallOptions {
  /** Port of the engine's transparent listener, asked for at each pass (it may be chosen at start). */
  readonly listenPort: () => number;
  /** Claim the kernel's owner flag: nobody else can change the table, and it goes with the agent. Default false. */
  readonly firewallOwner?: boolean;
}

export interface FirewallDeps {
  readonly kernel: Pick<Kernel, 'nft' | 'rt' | 'sysctl' | 'features'>;
  readonly desired: () => DesiredFirewall;
  /** What people call a service. */
  readonly serviceName: (id: string) => string;
  readonly memory: SysctlMemory;
}

export interface ObservedFirewall {
  readonly snapshot: NftSnapshot;
  readonly routing: ObservedRouting;
  readonly sysctls: ObservedSysctls;
  readonly families: readonly IpFamily[];
}

export interface FirewallPlan extends Plan {
  readonly generation: number;
  readonly table: TableStep;
  readonly routing: RoutingPlan;
}

/** `table inet arctic`, the policy routing that delivers what it marks, and the kernel parameters both need. */
export function createFirewallReconciler(
  options: FirewallOptions,
  deps: FirewallDeps,
): Reconciler<DesiredFirewall, ObservedFirewall, FirewallPlan> {
  const { kernel, memory } = deps;
  let families: readonly IpFamily[] | undefined;
  let compiled: { desired: DesiredFirewall; port: number; table: NftTable | undefined } | undefined;

  /** The desired state is one object until it changes, so it is compiled once. */
  function compile(desired: DesiredFirewall): NftTable | undefined {
    const port = options.listenPort();
    if (compiled?.desired === desired && compiled.port === port) return compiled.table;
    const table = compileRuleset(desired, { listenPort: port, owned: options.firewallOwner ?? false });
    compiled = { desired, port, table: table && canonicalTable(table) };
    return compiled.table;
  }

  async function observe(): Promise<ObservedFirewall> {
    families ??= (await kernel.features()).ipv6 ? ['ipv4', 'ipv6'] : ['ipv4'];
    return {
      families,
      sysctls: await observeSysctls(kernel),
      routing: await observeRouting(kernel, families),
      snapshot: await kernel.nft.readTable(TABLE.family, TABLE.name),
    };
  }

  async function commit(
    step: Exclude<TableStep, { kind: 'none' | 'remove' }>,
    lock: { readonly generation: number },
  ): Promise<void> {
    if (step.kind === 'change') {
      try {
        await kernel.nft.changeTable(step.table, step.changes, lock);
        return;
      } catch (error) {
        // Whatever a single step stumbles over, a whole replacement clears away; unless the ruleset has moved on.
        if (!(error instanceof KernelError) || error.code === 'ESTALE') throw error;
      }
    }
    await kernel.nft.replaceTable(step.table, lock);
  }

  return {
    name: 'firewall',
    desired: deps.desired,
    observe,

    plan(desired, observed) {
      const table = compile(desired);
      const wanted = table !== undefined;
      const names = elementNames(desired, deps.serviceName);
      const comparison = compareTables(table, observed.snapshot.table, names);
      const routing = planRouting(wanted, observed.families, observed.routing);
      return {
        differences: [
          ...planSysctls(wanted, observed.sysctls),
          ...routing.differences,
          ...comparison.differences,
        ],
        generation: observed.snapshot.generation,
        table: comparison.step,
        routing,
      };
    },

    /** Routing before rules when they come, rules before routing when they go: a mark never leads nowhere. */
    async apply(plan) {
      await applySysctls(kernel, plan.differences, memory);
      if (plan.table.kind === 'remove') {
        await kernel.nft.deleteTable(TABLE.family, TABLE.name);
        await applyRouting(kernel, plan.routing);
        return;
      }
      await applyRouting(kernel, plan.routing);
      if (plan.table.kind !== 'none') await commit(plan.table, { generation: plan.generation });
    },

    async cleanup(scope) {
      const { table } = await kernel.nft.readTable(TABLE.family, TABLE.name);
      if (scope === 'shutdown') {
        // Without the engine the rules would hand connections to nobody; the maps can wait for the next start.
        const active = table?.chains.filter((chain) => chain.base || chain.name === 'apply') ?? [];
        if (table && active.length > 0)
          await kernel.nft.changeTable(
            table,
            active.map((chain) => ({ kind: 'replace-rules', chain: chain.name, rules: [] })),
          );
        return;
      }
      await kernel.nft.deleteTable(TABLE.family, TABLE.name);
      const observed = await observe();
      await applyRouting(kernel, planRouting(false, observed.families, observed.routing));
      await restoreSysctls(kernel, memory);
    },
  };
}
