/** Whole tables replaced while connections are made through them; for the test and the bench. */
import { setTimeout as sleep } from 'node:timers/promises';
import { deriveClasses } from '../../../projections/desired/firewall.ts';
import { RouteMaps, toSet } from '../../../src/reconcilers/firewall/route-maps.ts';
import { compileRuleset, SECOND_LOOK } from '../../../src/reconcilers/firewall/ruleset.ts';
import { swapTable } from '../../../src/reconcilers/firewall/swap.ts';
import { desiredOf, firewallOf, type Lab, LISTEN_PORT, routeViews, WORLD } from './lab.ts';

/** Enough for a commit to leave on the thread pool, so that packets meet it half way. */
const ROUTES = 3_000;
const AT_ONCE = 8;

export interface SwapOutcome {
  readonly swaps: number;
  readonly connections: number;
  /** How often a connection ended so: `taken`, `bypassed`, or an error. */
  readonly outcomes: ReadonlyMap<string, number>;
  /** Milliseconds each swap took. */
  readonly times: readonly number[];
}

/**
 * Replaces the router's table `swaps` times, spread evenly over `connections` new connections. Each of those has to be taken
 * by the engine; one that reaches the server itself has bypassed it.
 */
export async function swapUnderLoad(lab: Lab, swaps: number, connections: number): Promise<SwapOutcome> {
  const engine = await lab.startEngine();
  const routes = Array.from({ length: ROUTES }, (_, n) => ({
    service: 1,
    source: null,
    dest: `172.${16 + (n >> 8)}.${n & 255}.0/24`,
  }));
  const { services, transparent_exit } = desiredOf(routes.slice(0, 1));
  const desired = { services, transparent_exit, classes: deriveClasses([routeViews(routes)]) };
  const maps = new RouteMaps();
  maps.follow(desired, undefined);
  const [frame] = compileRuleset(desired, { listenPort: LISTEN_PORT, owned: false });
  if (frame === undefined) throw new Error('no table');
  const table = { ...frame, sets: [...frame.sets, ...Array.from(maps.maps.values(), toSet)] };
  await firewallOf(lab).pass(desired);

  let made = 0;
  let done = 0;
  const times: number[] = [];
  const outcomes = new Map<string, number>();
  const swap = async (): Promise<void> => {
    while (times.length < swaps) {
      if (times.length * connections > done * swaps) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      const began = performance.now();
      await swapTable(lab.kernel.nft, table, SECOND_LOOK, sleep);
      times.push(performance.now() - began);
    }
  };
  const connect = async (): Promise<void> => {
    while (made < connections) {
      const n = made;
      made += 1;
      const dest = `172.${16 + (n % 11)}.${n % 256}.${1 + (n % 250)}`;
      const answer = await lab.ask(lab.client, WORLD.ipv4.client, dest);
      const outcome = answer.startsWith('service 1 of ')
        ? 'taken'
        : answer === 'direct'
          ? 'bypassed'
          : answer;
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      done += 1;
    }
  };
  await Promise.all([swap(), ...Array.from({ length: AT_ONCE }, connect)]);
  await engine.close();
  return { swaps: times.length, connections: made, outcomes, times };
}
