import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { actorText } from '../event-line.ts';
import { Failure, usageFailure } from '../failure.ts';
import { asRow, isRow, type Row, show, showTime } from '../fields.ts';
import { readMoment } from '../moment.ts';
import type { Style } from '../style.ts';
import { printable } from '../terminal.ts';

const WATCH_MS = 2_000;

const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isRow) : []);

/** Text from the kernel, from peers and from other programs, safe for a terminal. */
const said = (row: Row, field: string): string => printable(show(row, field)).replaceAll('\n', ' ');

/** `nft (pid 4711)`; empty when the kernel did not tell. */
function culpritText(by: unknown): string {
  if (!isRow(by)) return '';
  const program = by['program'] === null ? 'an unknown program' : said(by, 'program');
  return `${program}${by['pid'] === null ? '' : ` (pid ${show(by, 'pid')})`}`;
}

function sinceText(since: unknown): string {
  if (!isRow(since)) return 'since: unknown, no pass has ended yet';
  const by = culpritText(since['by']);
  const when =
    since['exact'] === true
      ? `since: ${showTime(since, 'time')}${by === '' ? '' : `, by ${by}`}`
      : `since: after ${showTime(since, 'time')}, when all was last in place`;
  const event = since['event_id'] === null ? '' : ` (${show(since, 'event_id')})`;
  return `${when}${event}${since['reason'] === null ? '' : `; not repaired: ${said(since, 'reason')}`}`;
}

/** Found before what stands over all differences of the reconciler, which is the newest word. */
const isOlder = (item: unknown, whole: unknown): item is Row =>
  isRow(item) && isRow(whole) && item['event_id'] !== whole['event_id'];

function itemSinceText(since: Row): string {
  const by = culpritText(since['by']);
  return `since:    ${showTime(since, 'time')}${by === '' ? '' : `, by ${by}`} (${show(since, 'event_id')})`;
}

/** A wait is a minute at most, so its time is told without the day. */
function repairText(repair: unknown): string | undefined {
  if (!isRow(repair)) return undefined;
  const until = `repair waits until ${showTime(repair, 'waits_until').slice(11)}`;
  const times = Number(repair['undone']);
  if (!(times > 0)) return `${until}: somebody keeps undoing what this reconciler does`;
  const by = culpritText(repair['by']);
  return `${until}: undone ${times === 1 ? 'once' : `${times} times`}${by === '' ? '; the kernel did not tell by whom' : `, last by ${by}`}`;
}

function lastEventText(event: unknown): string | undefined {
  if (!isRow(event)) return undefined;
  return `position ${show(event, 'position')}, ${showTime(event, 'time')}, ${actorText(event['actor'])}: ${said(event, 'text')}`;
}

const sideText = (row: Row, side: string): string => (row[side] === null ? 'nothing' : said(row, side));

function describe(answer: Row, style: Style): string {
  const lines: string[] = [];
  for (const row of rowsOf(answer['reconcilers'])) {
    const differences = rowsOf(row['differences']);
    const name = show(row, 'reconciler');
    if (differences.length === 0) {
      lines.push(`${name}: ${style.green('no difference')}`);
      continue;
    }
    const count = `${differences.length} difference${differences.length === 1 ? '' : 's'}`;
    const { since } = row;
    lines.push(`${name}: ${style.red(count)}`, `  ${sinceText(since)}`);
    for (const one of differences) {
      lines.push(
        `  ${said(one, 'item')}`,
        `    desired:  ${sideText(one, 'desired')}`,
        `    observed: ${sideText(one, 'observed')}`,
      );
      if (isOlder(one['since'], since)) lines.push(`    ${itemSinceText(one['since'])}`);
      const repair = repairText(one['repair']);
      if (repair !== undefined) lines.push(`    ${style.yellow(repair)}`);
      const last = lastEventText(one['last_event']);
      if (last !== undefined) lines.push(style.dim(`    last event: ${last}`));
    }
  }
  return `${lines.length === 0 ? 'No reconciler reports.' : lines.join('\n')}\n`;
}

/** `heading` stands before what people read. */
async function look(context: Context, client: Client, heading = ''): Promise<boolean> {
  const answer = asRow(await client.get('/v1/drift'), 'drift');
  await context.output.either(answer, () => `${heading}${describe(answer, context.output.style)}`);
  return rowsOf(answer['reconcilers']).some((row) => rowsOf(row['differences']).length > 0);
}

async function lookBack(context: Context, client: Client, at: string): Promise<boolean> {
  const answer = asRow(await client.get('/v1/drift', { query: { at } }), 'drift --at');
  const { style } = context.output;
  await context.output.either(answer, () => {
    const lines = [`At ${showTime(answer, 'at')} (position ${show(answer, 'position')}):`];
    for (const row of rowsOf(answer['reconcilers'])) {
      const state = show(row, 'state');
      const paint =
        state === 'matched'
          ? style.green
          : state === 'drifted' || state === 'failed'
            ? style.red
            : style.yellow;
      const by = state === 'matched' ? '' : culpritText(row['by']);
      lines.push(
        `${show(row, 'reconciler')}: ${paint(state)}${by === '' ? '' : `, by ${by}`}`,
        `  ${said(row, 'text')}`,
      );
      for (const one of rowsOf(row['differences']))
        lines.push(
          `  ${said(one, 'item')}: desired ${sideText(one, 'desired')}, observed ${sideText(one, 'observed')}`,
        );
      const { until } = row;
      if (isRow(until))
        lines.push(
          style.dim(
            `  ${state === 'matched' ? 'until' : 'put right'} ${showTime(until, 'time')} (${show(until, 'event_id')})`,
          ),
        );
    }
    return `${lines.join('\n')}\n`;
  });
  return answer['drift'] === true;
}

/** Goes on whatever happens to the agent: who watches wants to see it come back. */
async function watch(context: Context, client: Client): Promise<never> {
  /** An outage is told once, however long it lasts. */
  let silent = false;
  for (;;) {
    await sleep(WATCH_MS);
    try {
      const time = new Date(context.clock.now()).toISOString().slice(0, 19).replace('T', ' ');
      await look(context, client, `\n${time} UTC\n`);
      silent = false;
    } catch (error) {
      if (!(error instanceof Failure) || error.exit !== EXIT.connection) throw error;
      if (!silent) context.terminal.note(`Note: ${error.message} Trying again until it answers.`);
      silent = true;
    }
  }
}

export const drift: Run = async (context, input) => {
  const given = input.text('at');
  if (given !== undefined && input.flag('watch'))
    throw usageFailure('--at is about the past, which does not change; leave out --watch.');
  const at = given === undefined ? undefined : readMoment(given, 'at');
  const client = await context.client();
  const differs = at === undefined ? await look(context, client) : await lookBack(context, client, at);
  if (input.flag('watch')) return watch(context, client);
  return differs ? EXIT.different : EXIT.success;
};
