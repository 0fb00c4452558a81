import type { DesiredFirewall, RouteChanges } from '../../projections/desired/contract.ts';
import {
  type IpFamily,
  type Kernel,
  KernelError,
  type NftComparison,
  type NftTable,
} from '../kernel/contract.ts';
import type { Difference, ObserveScope, Plan, Reconciler } from './contract.ts';
import {
  compareTables,
  elementNames,
  type HeldTable,
  heldOf,
  heldSince,
  type TableStep,
} from './firewall/difference.ts';
import {
  applyRouting,
  type ObservedRouting,
  observeRouting,
  planRouting,
  type RoutingPlan,
} from './firewall/policy-routing.ts';
import { explainRefusal } from './firewall/refusal.ts';
import { type MapChanges, NOTHING, RouteMaps, toSet } from './firewall/route-maps.ts';
import {
  canonicalFrame,
  compileRuleset,
  GUARD_TABLE,
  SECOND_LOOK,
  TABLE,
  type TableFrame,
} from './firewall/ruleset.ts';
import { swapTable } from './firewall/swap.ts';
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
  /** How the classes came to be what they are; without it everything is compared at each change. */
  readonly changes?: (since: number) => RouteChanges;
  /** What people call a service. */
  readonly serviceName: (id: string) => string;
  readonly memory: SysctlMemory;
  /** Waits that many milliseconds; not at all by default. */
  readonly pause?: (ms: number) => Promise<void>;
}

export interface ObservedFirewall {
  readonly generation: number;
  /** By name of the table. `as-applied`: nobody can have changed what the last pass left. */
  readonly tables: ReadonlyMap<string, NftComparison | 'as-applied'>;
  readonly routing: ObservedRouting;
  readonly sysctls: ObservedSysctls;
  readonly families: readonly IpFamily[];
}

export interface FirewallPlan extends Plan {
  /** The ruleset the plan was made for; undefined: the tables are ours alone, and no other change matters. */
  readonly generation: number | undefined;
  readonly tables: readonly TableStep[];
  readonly routing: RoutingPlan | undefined;
  /** What stands in the kernel when this has been applied. */
  readonly frames: readonly TableFrame[];
}

const TABLES = [TABLE, GUARD_TABLE] as const;

/** Our nftables tables, the policy routing that delivers what they mark, and the kernel parameters both need. */
export function createFirewallReconciler(
  options: FirewallOptions,
  deps: FirewallDeps,
): Reconciler<DesiredFirewall, ObservedFirewall, FirewallPlan> {
  const { kernel, memory, pause = async () => undefined } = deps;
  const maps = new RouteMaps();
  let families: readonly IpFamily[] | undefined;
  let owned: boolean | undefined;
  /** What the kernel holds, after a pass that applied or found everything in place; undefined while that is not known. */
  let applied: { readonly generation: number; readonly frames: readonly TableFrame[] } | undefined;

  let compiled: { readonly key: string; readonly frames: readonly TableFrame[] } | undefined;

  const changesOf = (): RouteChanges | undefined => deps.changes?.(maps.revision);

  /** One array while the classes of routes and the services stay. */
  function compile(desired: DesiredFirewall): readonly TableFrame[] {
    const rulesetOptions = { listenPort: options.listenPort(), owned: owned ?? false };
    const heads = desired.classes.map((one) => [one.family, one.source_length, one.dest_length]);
    const key = JSON.stringify([rulesetOptions, desired.services, desired.transparent_exit, heads]);
    if (compiled?.key !== key)
      compiled = { key, frames: compileRuleset(desired, rulesetOptions).map(canonicalFrame) };
    return compiled.frames;
  }

  async function probe(): Promise<readonly IpFamily[]> {
    if (families !== undefined) return families;
    const features = await kernel.features();
    owned = options.firewallOwner === true && features.nftOwner;
    families = features.ipv6 ? ['ipv4', 'ipv6'] : ['ipv4'];
    return families;
  }

  /** Whether the tables must be what the last pass left: nothing was committed since, or they are ours alone. */
  async function areAsApplied(): Promise<boolean> {
    if (applied === undefined) return false;
    if (await kernel.nft.isOursSince(applied.generation)) return true;
    if (owned !== true) return false;
    for (const { family, name } of applied.frames)
      if (!(await kernel.nft.ownsTable(family, name))) return false;
    return applied.frames.length > 0;
  }

  async function observeTables(
    scope: ObserveScope,
  ): Promise<Pick<ObservedFirewall, 'generation' | 'tables'>> {
    const tables = new Map<string, NftComparison | 'as-applied'>();
    const generation = await kernel.nft.generation();
    if (scope === 'notice' && (await areAsApplied())) {
      for (const { name } of TABLES) tables.set(name, 'as-applied');
      return { generation, tables };
    }
    const desired = deps.desired();
    const since = changesOf();
    if (maps.needsRebuild(desired, since)) await maps.rebuild(desired, since?.revision ?? 0);
    else maps.follow(desired, since);
    // What the maps were does not matter any more: the kernel is compared with what they are.
    applied = undefined;
    let seen = generation;
    for (const { family, name } of TABLES) {
      const comparison = await kernel.nft.compareTable(family, name, maps.maps);
      tables.set(name, comparison);
      seen = comparison.generation;
    }
    return { generation: seen, tables };
  }

  async function observe(scope: ObserveScope = 'full'): Promise<ObservedFirewall> {
    const known = await probe();
    return {
      families: known,
      sysctls: await observeSysctls(kernel),
      routing: await observeRouting(kernel, known),
      ...(await observeTables(scope)),
    };
  }

  /** What stands in the kernel of a table that nobody has touched since it was applied. */
  function asApplied(frames: readonly TableFrame[], name: string, since: MapChanges): HeldTable | undefined {
    const frame = frames.find((one) => one.name === name);
    return frame && heldSince(frame, maps, since);
  }

  function planTables(
    desired: DesiredFirewall,
    frames: readonly TableFrame[],
    heldTable: (name: string, since: MapChanges) => HeldTable | undefined,
  ): { readonly steps: readonly TableStep[]; readonly differences: readonly Difference[] } {
    const since = maps.follow(desired, changesOf());
    const names = elementNames(desired.services, deps.serviceName);
    const steps: TableStep[] = [];
    const differences: Difference[] = [];
    for (const table of TABLES) {
      const wanted = frames.find((frame) => frame.name === table.name);
      const held = heldTable(table.name, since);
      const comparison = compareTables(wanted, held, table, maps, wanted ? since : NOTHING, names);
      if (comparison.step.kind !== 'none') steps.push(comparison.step);
      differences.push(...comparison.differences);
    }
    return { steps, differences };
  }

  async function commit(
    step: Extract<TableStep, { kind: 'replace' | 'change' }>,
    lock: { readonly generation: number } | undefined,
  ): Promise<number> {
    if (step.kind === 'change') {
      try {
        return (await kernel.nft.changeTable(step.table, step.changes, lock)).generation;
      } catch (error) {
        // Whatever a single step stumbles over, a whole replacement clears away; unless the ruleset has moved on.
        if (!(error instanceof KernelError) || error.code === 'ESTALE') throw error;
      }
    }
    if (step.kind === 'replace' && !step.over)
      return (await kernel.nft.replaceTable(step.table, lock)).generation;
    const table = step.kind === 'replace' ? step.table : filled(step.table, maps);
    return (await swapTable(kernel.nft, table, SECOND_LOOK, pause, lock)).generation;
  }

  async function applyTables(plan: FirewallPlan): Promise<void> {
    let generation = plan.generation;
    for (const step of plan.tables) {
      if (step.kind === 'none') continue;
      const lock = generation === undefined ? undefined : { generation };
      const now =
        step.kind === 'remove'
          ? (await kernel.nft.deleteTable(step.table.family, step.table.name)).generation
          : await commit(step, lock);
      if (generation !== undefined) generation = now;
      else applied = { frames: plan.frames, generation: now };
    }
    generation ??= applied?.generation ?? (await kernel.nft.generation());
    applied = { frames: plan.frames, generation };
  }

  /** Routing before rules when they come, rules before routing when they go: a mark never leads nowhere. */
  async function applyAll(plan: FirewallPlan): Promise<void> {
    await applySysctls(kernel, plan.differences, memory);
    if (plan.frames.length > 0 && plan.routing) await applyRouting(kernel, plan.routing);
    await applyTables(plan);
    if (plan.frames.length === 0 && plan.routing) await applyRouting(kernel, plan.routing);
  }

  return {
    name: 'firewall',
    desired: deps.desired,
    observe,

    plan(desired, observed) {
      const frames = compile(desired);
      const wanted = frames.length > 0;
      const before = applied?.frames ?? [];
      const { steps, differences } = planTables(desired, frames, (name, since) => {
        const seen = observed.tables.get(name);
        if (seen === 'as-applied') return asApplied(before, name, since);
        return seen?.table && heldOf(seen.table, seen.deviations, maps);
      });
      const routing = planRouting(wanted, observed.families, observed.routing);
      const all = [...planSysctls(wanted, observed.sysctls), ...routing.differences, ...differences];
      // Until it has been applied the kernel is not what the maps say.
      applied = steps.length === 0 ? { frames, generation: observed.generation } : undefined;
      return { differences: all, generation: observed.generation, tables: steps, routing, frames };
    },

    change(desired) {
      if (applied === undefined) return undefined;
      const before = applied;
      const frames = compile(desired);
      // Routing and kernel parameters come and go with the tables.
      if (frames.length !== before.frames.length) return undefined;
      const { steps, differences } = planTables(desired, frames, (name, since) =>
        asApplied(before.frames, name, since),
      );
      applied = steps.length === 0 ? before : undefined;
      const generation = owned === true ? undefined : before.generation;
      return { differences, generation, tables: steps, routing: undefined, frames };
    },

    async apply(plan) {
      try {
        await applyAll(plan);
      } catch (error) {
        throw explainRefusal(error, maps, elementNames(deps.desired().services, deps.serviceName));
      }
    },

    async cleanup(scope) {
      applied = undefined;
      if (scope === 'shutdown') {
        const { table } = await kernel.nft.readTable(TABLE.family, TABLE.name);
        // Without the engine the rules would hand connections to nobody; the maps can wait for the next start.
        const active = table?.chains.filter((chain) => chain.base || chain.name === 'apply') ?? [];
        if (table && active.length > 0)
          await kernel.nft.changeTable(
            table,
            active.map((chain) => ({ kind: 'replace-rules', chain: chain.name, rules: [] })),
          );
        return;
      }
      for (const { family, name } of TABLES) await kernel.nft.deleteTable(family, name);
      const known = await probe();
      await applyRouting(kernel, planRouting(false, known, await observeRouting(kernel, known)));
      await restoreSysctls(kernel, memory);
    },
  };
}

/** A table whose maps of routes were named without their elements, with them. */
const filled = (table: NftTable, maps: RouteMaps): NftTable => ({
  ...table,
  sets: [...table.sets.filter((set) => !maps.maps.has(set.name)), ...Array.from(maps.maps.values(), toSet)],
});
