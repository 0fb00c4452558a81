import { describeEvent } from '../events/describe.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { isRow, type Row, show } from './fields.ts';
import type { Style } from './style.ts';

type Names = ReadonlyMap<string, string>;

/** Wall-clock time of a hybrid logical clock reading: its first 12 hex digits are milliseconds. */
export function hlcTime(hlc: string): string {
  const ms = Number.parseInt(hlc.slice(0, 12), 16);
  return Number.isNaN(ms) ? '-' : new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
}

/** `client cli_...`, `recovery from 10.0.0.9`, `system`. */
export function actorText(actor: unknown): string {
  if (!isRow(actor)) return '-';
  const id = show(actor, 'id') === '-' ? '' : ` ${show(actor, 'id')}`;
  const address = show(actor, 'address') === '-' ? '' : ` from ${show(actor, 'address')}`;
  return `${show(actor, 'kind')}${id}${address}`;
}

const valueText = (value: unknown): string =>
  typeof value === 'string' ? value : (JSON.stringify(value) ?? '-');

/** What the API gave is an event when it has the parts that every event has; its data is checked by its sentence. */
const isEvent = (row: Row): boolean =>
  typeof row['type'] === 'string' && typeof row['entity'] === 'string' && isRow(row['data']);

/** What happened. The agent knows the names and numbers of that time better than who asks it; one of before says nothing. */
const sentence = (row: Row, names: Names): string => {
  if (typeof row['text'] === 'string') return row['text'];
  return isEvent(row) ? describeEvent(row as unknown as AnyEvent, (id) => names.get(id)) : show(row, 'type');
};

/** One event for a person: position, time, origin and actor, what happened, and which event stands in its place where it lost or was overridden. */
export function eventLine(row: Row, names: Names, style: Style): string {
  const origin = names.get(show(row, 'origin')) ?? show(row, 'origin');
  const actor = isRow(row['actor']) ? show(row['actor'], 'kind') : '-';
  return [
    show(row, 'position').padStart(6),
    style.dim(hlcTime(show(row, 'hlc'))),
    `${origin}/${actor}`,
    `${sentence(row, names)}${style.yellow(lostText(row, names))}${style.dim(overrideText(row, names))}`,
  ].join('  ');
}

/** ` (priority lost to event 12 of london: written later)`; nothing for a write that lost nothing. */
function lostText(row: Row, names: Names): string {
  const lost = Array.isArray(row['lost']) ? row['lost'].filter(isRow) : [];
  const fields = new Map<string, string[]>();
  for (const one of lost) {
    const winner = one['winning_event'];
    const which = isRow(winner)
      ? `event ${show(winner, 'position')}, ${sentence(winner, names)}`
      : show(one, 'winner');
    const why = `${which}: ${show(one, 'reason')}`;
    fields.set(why, [...(fields.get(why) ?? []), show(one, 'field')]);
  }
  const parts = [...fields].map(([why, names]) => `${names.join(', ')} lost to ${why}`);
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`;
}

/** ` (priority overridden by event 15, route 1 of web updated: priority=9)`, or ` (overrides priority of event 12, ...)` beside that one. */
function overrideText(row: Row, names: Names): string {
  const grouped = (list: unknown, event: string): Map<string, string[]> => {
    const groups = new Map<string, string[]>();
    for (const one of Array.isArray(list) ? list.filter(isRow) : []) {
      const other = one[event];
      if (!isRow(other)) continue;
      const which = `event ${show(other, 'position')}, ${sentence(other, names)}`;
      groups.set(which, [...(groups.get(which) ?? []), show(one, 'field')]);
    }
    return groups;
  };
  const parts = [
    ...[...grouped(row['overridden'], 'winning_event')].map(
      ([which, fields]) => `${fields.join(', ')} overridden by ${which}`,
    ),
    ...[...grouped(row['overrides'], 'event')].map(
      ([which, fields]) => `overrides ${fields.join(', ')} of ${which}`,
    ),
  ];
  return parts.length === 0 ? '' : ` (${parts.join('; ')})`;
}

/** What became of a field the event wrote: `in force`, or which event won, why, and what it says. */
function outcomeText(one: Row): string {
  if (one['stands'] === true) return `${show(one, 'field')} in force`;
  const lost = `${show(one, 'field')} lost to ${show(one, 'winner')} (${show(one, 'reason')})`;
  const winner = one['winning_event'];
  if (!isRow(winner)) return lost;
  const time = show(winner, 'time').slice(0, 19).replace('T', ' ');
  return `${lost}: position ${show(winner, 'position')}, ${time}, ${actorText(winner['actor'])}: ${show(winner, 'text')}`;
}

export function eventFields(row: Row): readonly (readonly [string, string])[] {
  const fields: (readonly [string, string])[] = [
    ['ID', show(row, 'id')],
    ['Position', show(row, 'position')],
    ['Time', `${hlcTime(show(row, 'hlc'))} UTC (${show(row, 'hlc')})`],
    ['Type', `${show(row, 'type')} (version ${show(row, 'version')})`],
    ['Entity', show(row, 'entity')],
    ['Origin', `${show(row, 'origin')} ${show(row, 'stream')} ${show(row, 'seq')}`],
    ['Actor', actorText(row['actor'])],
    ['Correlation', show(row, 'correlation_id')],
    ['Data', valueText(row['data'])],
    ['Previous Hash', show(row, 'prev_hash')],
    ['Hash', show(row, 'hash')],
    ['Signature', show(row, 'signature')],
  ];
  const outcome = Array.isArray(row['outcome']) ? row['outcome'].filter(isRow) : [];
  const summary: (readonly [string, string])[] =
    typeof row['text'] === 'string' ? [['What', row['text']]] : [];
  return [...summary, ...fields, ...outcome.map((one) => ['Outcome', outcomeText(one)] as const)];
}
