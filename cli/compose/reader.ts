import { type Document, isAlias, isMap, isPair, isScalar, isSeq, type Node } from 'yaml';
import { didYouMean, nearest } from '../../events/suggest.ts';
import type { Fault, Range } from './diagnostic.ts';
import { interpolate, type Variables } from './interpolation.ts';

/** A value with the place it stands at. */
export interface Placed<T> {
  readonly value: T;
  readonly at: Range;
}

export interface Entry {
  readonly key: Range;
  /** Undefined for `key:` with nothing behind it. */
  readonly value: Node | undefined;
}

export interface Mapping {
  readonly at: Range;
  readonly entries: ReadonlyMap<string, Entry>;
  /** Keys that were misspelt, as they were meant: they are not missing too. */
  readonly meant: ReadonlySet<string>;
}

/** A reader that goes on after a fault would bury the first one under its consequences. */
export const MOST_FAULTS = 20;

/** Takes typed values out of a parsed YAML document and collects what does not fit, with its place. */
export class Reader {
  readonly faults: Fault[] = [];
  readonly #document: Document;
  readonly #variables: Variables;

  constructor(document: Document, variables: Variables) {
    this.#document = document;
    this.#variables = variables;
  }

  refuse(at: Range, message: string): undefined {
    if (this.faults.length < MOST_FAULTS) this.faults.push({ at, message });
    return undefined;
  }

  rangeOf(node: Node | undefined, otherwise: Range): Range {
    const range = node?.range;
    if (range === undefined || range === null) return otherwise;
    return { start: range[0], end: Math.max(range[0] + 1, range[1]) };
  }

  /** A mapping with no other keys than these. */
  mapping(node: Node | undefined, what: string, parent: Range, keys: readonly string[]): Mapping | undefined {
    const found = this.#resolve(node, parent);
    const at = this.rangeOf(found, parent);
    if (!isMap(found)) return this.refuse(at, `${what} must be a mapping (key: value)`);
    const entries = new Map<string, Entry>();
    const meant = new Set<string>();
    for (const pair of found.items) {
      if (!isPair(pair)) continue;
      const key = isScalar(pair.key) ? pair.key : undefined;
      const place = this.rangeOf(key, at);
      const name = key === undefined ? '' : String(key.value);
      if (!keys.includes(name)) {
        meant.add(nearest(name, keys) ?? '');
        this.refuse(
          place,
          name === '<<'
            ? 'merge keys (<<) are not supported'
            : `${what} has no key '${name}'.${didYouMean(name, keys)} It takes ${keys.join(', ')}`,
        );
      } else entries.set(name, { key: place, value: nodeOf(pair.value) });
    }
    return { at, entries, meant };
  }

  list(entry: Entry | undefined, what: string): readonly { readonly node: Node | undefined; at: Range }[] {
    if (entry === undefined) return [];
    const found = this.#resolve(entry.value, entry.key);
    if (found === undefined || (isScalar(found) && found.value === null)) return [];
    const at = this.rangeOf(found, entry.key);
    if (!isSeq(found)) {
      this.refuse(at, `${what} must be a list (lines that begin with '- ')`);
      return [];
    }
    return found.items.map((item) => {
      const node = nodeOf(item);
      return { node, at: this.rangeOf(node, at) };
    });
  }

  text(from: Mapping, key: string, what: string): Placed<string> | undefined {
    const found = this.#scalar(from, key, what);
    if (found === undefined) return undefined;
    if (typeof found.value === 'string') return { value: found.value, at: found.at };
    return this.refuse(found.at, `${what}.${key} must be text; put it in quotes`);
  }

  number(
    from: Mapping,
    key: string,
    what: string,
    bounds: { readonly min: number; readonly max: number; readonly whole: boolean },
  ): Placed<number> | undefined {
    const found = this.#scalar(from, key, what);
    if (found === undefined) return undefined;
    const { at } = found;
    const value =
      found.filled && /^[+-]?\d+(\.\d+)?$/.test(String(found.value)) ? Number(found.value) : found.value;
    const fits =
      typeof value === 'number' &&
      Number.isFinite(value) &&
      value >= bounds.min &&
      value <= bounds.max &&
      (!bounds.whole || Number.isInteger(value));
    if (fits) return { value, at };
    const kind = bounds.whole ? 'a whole number' : 'a number';
    return this.refuse(at, `${what}.${key} must be ${kind} from ${bounds.min} to ${bounds.max}`);
  }

  boolean(from: Mapping, key: string, what: string): Placed<boolean> | undefined {
    const found = this.#scalar(from, key, what);
    if (found === undefined) return undefined;
    const { value, at, filled } = found;
    if (typeof value === 'boolean') return { value, at };
    if (filled && (value === 'true' || value === 'false')) return { value: value === 'true', at };
    return this.refuse(at, `${what}.${key} must be true or false`);
  }

  choice<C extends string>(
    from: Mapping,
    key: string,
    what: string,
    choices: readonly C[],
  ): Placed<C> | undefined {
    const found = this.#scalar(from, key, what);
    if (found === undefined) return undefined;
    const chosen = choices.find((one) => one === found.value);
    if (chosen !== undefined) return { value: chosen, at: found.at };
    const hint = didYouMean(String(found.value), choices);
    return this.refuse(
      found.at,
      `${what}.${key} must be ${choices.join(' or ')}${hint === '' ? '' : `.${hint}`}`,
    );
  }

  /**
   * The value with its variables put in; undefined when it is not there (or is `null`), or was refused. `filled`: it had
   * variables, so it is text whatever is wanted, with quotes or without.
   */
  #scalar(
    from: Mapping,
    key: string,
    what: string,
  ): (Placed<unknown> & { readonly filled: boolean }) | undefined {
    const entry = from.entries.get(key);
    if (entry === undefined) return undefined;
    const node = this.#resolve(entry.value, entry.key);
    const at = this.rangeOf(node, entry.key);
    if (node === undefined) return undefined;
    if (!isScalar(node)) return this.refuse(at, `${what}.${key} must be a single value`);
    if (node.value === null) return undefined;
    if (typeof node.value === 'bigint' || typeof node.value === 'object' || typeof node.value === 'symbol')
      return this.refuse(at, `${what}.${key} must be plain text, a number, true or false`);
    if (typeof node.value !== 'string' || !node.value.includes('$'))
      return { value: node.value, at, filled: false };
    const result = interpolate(node.value, this.#variables);
    if ('fault' in result) return this.refuse(at, result.fault);
    return { value: result.text, at, filled: true };
  }

  #resolve(node: Node | undefined, at: Range): Node | undefined {
    if (!isAlias(node)) return node;
    const target = node.resolve(this.#document);
    if (target === undefined) this.refuse(this.rangeOf(node, at), `there is no anchor &${node.source}`);
    return target;
  }
}

const nodeOf = (value: unknown): Node | undefined =>
  isScalar(value) || isMap(value) || isSeq(value) || isAlias(value) ? value : undefined;
