import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { usageFailure } from '../failure.ts';
import { isRow } from '../fields.ts';

/** Position or RFC 3339 time, as the API takes them. @throws Failure (usage) */
export function readMoment(text: string, flag: string): string {
  if (/^\d+$/.test(text)) return text;
  if (/^\d{4}-\d{2}-\d{2}([T ].*)?$/.test(text) && !Number.isNaN(Date.parse(text)))
    return new Date(text).toISOString();
  throw usageFailure(`--${flag} must be a position or a time such as 2026-03-01T12:00:00Z, not '${text}'.`);
}

interface Change {
  readonly kind: 'added' | 'removed' | 'changed';
  /** JSON pointer (RFC 6901); rows of a list are named by their id. */
  readonly path: string;
  readonly before?: unknown;
  readonly after?: unknown;
}

const keyOf = (value: unknown): string | undefined => {
  if (!isRow(value)) return undefined;
  const key = value['key'] ?? value['id'] ?? value['client_id'];
  return typeof key === 'string' || typeof key === 'number' ? String(key) : undefined;
};

/** Lists of things with an id compare by id, not by place. */
function entriesOf(value: unknown): ReadonlyMap<string, unknown> | undefined {
  if (Array.isArray(value)) {
    const keyed = value.every((item) => keyOf(item) !== undefined);
    return new Map(value.map((item: unknown, at) => [keyed ? (keyOf(item) ?? '') : String(at), item]));
  }
  return isRow(value) ? new Map(Object.entries(value)) : undefined;
}

const escapePointer = (part: string): string => part.replaceAll('~', '~0').replaceAll('/', '~1');

/** What differs between two states, deepest first place where they part. */
export function compareStates(before: unknown, after: unknown, path = ''): readonly Change[] {
  const left = entriesOf(before);
  const right = entriesOf(after);
  if (left === undefined || right === undefined)
    return Object.is(before, after) ? [] : [{ kind: 'changed', path, before, after }];
  const changes: Change[] = [];
  for (const [key, value] of left) {
    const inner = `${path}/${escapePointer(key)}`;
    if (right.has(key)) changes.push(...compareStates(value, right.get(key), inner));
    else changes.push({ kind: 'removed', path: inner, before: value });
  }
  for (const [key, value] of right)
    if (!left.has(key)) changes.push({ kind: 'added', path: `${path}/${escapePointer(key)}`, after: value });
  return changes;
}

export const replay: Run = async (context, input) => {
  const until = input.text('until');
  const from = input.text('diff-with');
  const projection = input.text('projection');
  const untilMoment = until === undefined ? undefined : readMoment(until, 'until');
  const fromMoment = from === undefined ? undefined : readMoment(from, 'diff-with');
  const client = await context.client();
  const at = (moment: string | undefined) =>
    client.get('/v1/replay', { query: { until: moment, projection } });
  const state = await at(untilMoment);
  if (fromMoment === undefined) {
    // A state is a tree; YAML is the readable form of one.
    const { stringify } = await import('yaml');
    await context.output.either(state, () => stringify(state, { lineWidth: 0 }));
    return EXIT.success;
  }
  const before = await at(fromMoment);
  const stateOf = (answer: unknown) => (isRow(answer) && 'state' in answer ? answer['state'] : answer);
  const changes = compareStates(stateOf(before), stateOf(state));
  const { style } = context.output;
  await context.output.either(changes, () => {
    if (changes.length === 0) return 'No difference.\n';
    return changes
      .map(({ kind, path, before: old, after }) => {
        if (kind === 'added') return style.green(`+ ${path}: ${JSON.stringify(after)}`);
        if (kind === 'removed') return style.red(`- ${path}: ${JSON.stringify(old)}`);
        return style.yellow(`~ ${path}: ${JSON.stringify(old)} -> ${JSON.stringify(after)}`);
      })
      .map((line) => `${line}\n`)
      .join('');
  });
  return EXIT.success;
};
