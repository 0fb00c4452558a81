import type { PeerId, RouteKey, ServiceId } from '../../events/brand.ts';
import type { RouteView, Views } from '../views.ts';
import type { ClassRoute, DesiredFirewall, RouteChange, RouteChanges, RouteClass } from './contract.ts';
import { classKey, classOfRoute, compareRouteClasses, firewallServices, toClassRoute } from './firewall.ts';
import { type ClassSum, presetDigest, routeSum } from './firewall-digest.ts';
import { compareEqualPrefixes } from './precedence.ts';
import { relevantServices } from './relevant.ts';

/** Changes kept for whoever asks; who lags further behind looks at everything. */
const JOURNAL = 20_000;

interface IndexedClass {
  readonly key: string;
  readonly head: Omit<RouteClass, 'routes'>;
  /** By (source, destination): the route that wins; where several name one pair, all of them, the winner first. */
  readonly pairs: Map<string, ClassRoute | readonly ClassRoute[]>;
  sum: ClassSum;
  /** What is shown of it, until it changes. */
  shown: RouteClass | undefined;
}

/**
 * The firewall's part of the desired state, kept current route by route: with 100,000 routes a change of one costs
 * microseconds, a derivation from nothing some 100 ms. Both give the same; a property test holds them together.
 */
export class FirewallIndex {
  readonly #views: Views;
  readonly #local: PeerId;
  /** What is known of the routes that count here, as the classes show it. */
  readonly #rows = new Map<RouteKey, ClassRoute>();
  readonly #classes = new Map<string, IndexedClass>();
  #included: ReadonlySet<ServiceId> = new Set();
  #heads: Omit<DesiredFirewall, 'classes'>;
  #order: readonly IndexedClass[] | undefined;
  #revision: number;
  #journal: RouteChange[] = [];

  /** `revision`: later than any of an index that this one takes the place of. */
  constructor(views: Views, local: PeerId, revision: number) {
    this.#revision = revision;
    this.#views = views;
    this.#local = local;
    this.#heads = { services: [], transparent_exit: false };
    this.servicesChanged();
    this.#journal = [];
  }

  /** Services or members changed: which services count here is looked up anew, and only routes of those that came or went. */
  servicesChanged(): void {
    const relevant = relevantServices(this.#views, this.#local);
    this.#heads = firewallServices(relevant);
    const included = new Set(relevant.entries.map((service) => service.id));
    const gone = new Set([...this.#included].filter((id) => !included.has(id)));
    const come = [...included].filter((id) => !this.#included.has(id));
    this.#included = included;
    if (gone.size > 0)
      for (const row of [...this.#rows.values()])
        if (gone.has(row.service_id)) this.#replace(row.key, undefined);
    for (const id of come) for (const row of this.#views.routes.eachOf(id)) this.#replace(row.key, row);
  }

  /** These routes were written; those of other hosts' services are passed over. */
  routesChanged(keys: Iterable<RouteKey>): void {
    for (const key of keys) {
      const row = this.#views.routes.get(key);
      this.#replace(key, row !== undefined && this.#included.has(row.service_id) ? row : undefined);
    }
  }

  get revision(): number {
    return this.#revision;
  }

  /** The state as it is now. Its routes are listed when first read, which has to be before the next change. */
  desired(): DesiredFirewall {
    this.#order ??= [...this.#classes.values()].sort((a, b) => compareRouteClasses(a.head, b.head));
    const { services, transparent_exit } = this.#heads;
    return { services, classes: this.#order.map(show), transparent_exit };
  }

  changesSince(revision: number): RouteChanges {
    const known = this.#revision - this.#journal.length;
    const changes =
      revision < known || revision > this.#revision ? undefined : this.#journal.slice(revision - known);
    return { revision: this.#revision, changes };
  }

  #replace(key: RouteKey, next: RouteView | undefined): void {
    const held = this.#rows.get(key);
    if (held !== undefined) {
      this.#rows.delete(key);
      this.#leave(held);
    }
    if (next !== undefined && (next.source_cidr !== null || next.dest_cidr !== null)) {
      const route = toClassRoute(next);
      this.#rows.set(key, route);
      this.#join(route);
    }
  }

  /** Between routes that name the same prefixes; one that is gone by now comes last, until it is told of. */
  #compare(a: ClassRoute, b: ClassRoute): number {
    const [first, second] = [this.#views.routes.get(a.key), this.#views.routes.get(b.key)];
    if (first === undefined || second === undefined)
      return Number(first === undefined) - Number(second === undefined);
    return compareEqualPrefixes(first, second);
  }

  #join(row: ClassRoute): void {
    const head = classOfRoute(row);
    const key = classKey(head);
    let one = this.#classes.get(key);
    if (one === undefined) {
      one = { key, head, pairs: new Map(), sum: { count: 0, sum: 0n }, shown: undefined };
      this.#classes.set(key, one);
      this.#order = undefined;
    }
    const pair = pairOf(row);
    const there = one.pairs.get(pair);
    if (there === undefined) {
      one.pairs.set(pair, row);
      this.#note(one, undefined, row);
      return;
    }
    const rivals = [...listOf(there), row].sort((a, b) => this.#compare(a, b));
    one.pairs.set(pair, rivals);
    this.#note(one, winnerOf(there), rivals[0]);
  }

  #leave(row: ClassRoute): void {
    const one = this.#classes.get(classKey(classOfRoute(row)));
    const pair = pairOf(row);
    const there = one?.pairs.get(pair);
    if (one === undefined || there === undefined) return;
    const left = listOf(there).filter((other) => other !== row);
    const [first] = left;
    if (first === undefined) one.pairs.delete(pair);
    else one.pairs.set(pair, left.length === 1 ? first : left);
    this.#note(one, winnerOf(there), first);
    if (one.pairs.size > 0) return;
    this.#classes.delete(one.key);
    this.#order = undefined;
  }

  #note(one: IndexedClass, before: ClassRoute | undefined, now: ClassRoute | undefined): void {
    const seen = now ?? before;
    if (before === now || seen === undefined) return;
    const { source_cidr, dest_cidr } = seen;
    const route = now ?? null;
    one.sum = routeSum(one.sum, before, now);
    one.shown = undefined;
    this.#revision += 1;
    this.#journal.push({ ...one.head, source_cidr, dest_cidr, route });
    // In blocks, so that the rest is not moved at each change.
    if (this.#journal.length >= 2 * JOURNAL) this.#journal = this.#journal.slice(-JOURNAL);
  }
}

const listOf = (there: ClassRoute | readonly ClassRoute[]): readonly ClassRoute[] =>
  'key' in there ? [there] : there;
const winnerOf = (there: ClassRoute | readonly ClassRoute[]): ClassRoute | undefined =>
  'key' in there ? there : there[0];
/** Inside a class; where it looks at one side, that side's own text, which is there already. */
const pairOf = ({ source_cidr: source, dest_cidr: dest }: ClassRoute): string =>
  source === null ? (dest ?? '') : dest === null ? source : `${source} ${dest}`;

/** The class with its routes listed on demand: nobody asks for 100,000 of them when one changes. */
function show(one: IndexedClass): RouteClass {
  if (one.shown !== undefined) return one.shown;
  let routes: RouteClass['routes'] | undefined;
  const shown: RouteClass = {
    ...one.head,
    get routes() {
      routes ??= Array.from(one.pairs.values(), (there) => winnerOf(there) as ClassRoute);
      return routes;
    },
  };
  presetDigest(shown, one.sum);
  one.shown = shown;
  return shown;
}
