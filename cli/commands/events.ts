import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import type { Client, Query } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { eventFields, eventLine } from '../event-line.ts';
import { Failure, usageFailure } from '../failure.ts';
import { asRow, isRow, type Row } from '../fields.ts';
import type { Input } from '../input.ts';
import { readMoment } from '../moment.ts';
import { allNames, peerId } from '../resolve.ts';
import { readServerSentEvents } from '../server-sent-events.ts';

async function filtersOf(input: Input, client: Client): Promise<Query> {
  const origin = input.text('origin');
  return {
    type: input.text('type'),
    actor: input.text('actor'),
    entity: input.text('entity'),
    origin: origin === undefined ? undefined : await peerId(origin, client),
  };
}

/** Prints one event: a line for people, one JSON or YAML document for machines. */
type Print = (row: Row) => Promise<void>;

async function printer(context: Context, client: Client): Promise<Print> {
  if (context.output.format !== 'table') return (row) => context.output.line(row, () => '');
  const names = await allNames(client);
  return (row) => context.output.line(row, () => `${eventLine(row, names, context.output.style)}\n`);
}

/** One JSON array, written as it comes: a log may be longer than memory. */
async function listAsJson(context: Context, client: Client, query: Query, most: number): Promise<number> {
  let shown = 0;
  for await (const row of client.pages('/v1/events', 'events', query)) {
    if (shown >= most) break;
    context.terminal.data(`${shown === 0 ? '[\n' : ',\n'}  ${JSON.stringify(row)}`);
    shown += 1;
  }
  context.terminal.data(shown === 0 ? '[]\n' : '\n]\n');
  return EXIT.success;
}

export const list: Run = async (context, input) => {
  const until = input.text('until');
  const moment = until === undefined ? undefined : readMoment(until, 'until');
  const client = await context.client();
  const query = { ...(await filtersOf(input, client)), after: input.number('after'), until: moment };
  const most = input.number('limit') ?? Number.POSITIVE_INFINITY;
  if (most < 1) throw usageFailure('--limit must be at least 1.');
  if (context.output.format === 'yaml') {
    const rows: Row[] = [];
    for await (const row of client.pages('/v1/events', 'events', query)) {
      if (rows.length >= most) break;
      rows.push(row);
    }
    await context.output.either(rows, () => '');
    return EXIT.success;
  }
  if (context.output.format === 'json') return listAsJson(context, client, query, most);
  const print = await printer(context, client);
  let shown = 0;
  for await (const row of client.pages('/v1/events', 'events', query)) {
    if (shown >= most) break;
    await print(row);
    shown += 1;
  }
  if (shown === 0) context.terminal.note('No events.');
  return EXIT.success;
};

export const get: Run = async (context, input) => {
  const client = await context.client();
  const row = asRow(await client.get(`/v1/events/${encodeURIComponent(input.arg(0))}`), 'events get');
  await context.output.fields(row, eventFields(row));
  return EXIT.success;
};

const DEFAULT_LINES = 20;
const RECONNECT_MS = 1_000;
/** Rows the API gives at once. */
const MOST_A_PAGE = 1_000;

/** Position of an event; 0 when it has none. */
const positionOf = (row: Row): number => (typeof row['position'] === 'number' ? row['position'] : 0);

/** The last events that fit the filters, oldest first, and the position to follow from. */
async function newest(client: Client, filters: Query, count: number) {
  const rows: Row[] = [];
  let head = 0;
  const query = { ...filters, order: 'desc', limit: Math.min(Math.max(count, 1), MOST_A_PAGE) };
  for await (const row of client.pages('/v1/events', 'events', query)) {
    head = Math.max(head, positionOf(row));
    if (rows.length >= count) break;
    rows.push(row);
  }
  return { rows: rows.reverse(), head };
}

export const tail: Run = async (context, input) => {
  const lines = input.number('lines') ?? DEFAULT_LINES;
  if (lines < 0) throw usageFailure('--lines must not be negative.');
  const after = input.number('after');
  if (after !== undefined && input.number('lines') !== undefined)
    throw usageFailure('give either --after or --lines, not both.');
  if (after !== undefined && after < 0) throw usageFailure('--after must not be negative.');
  const client = await context.client();
  const filters = await filtersOf(input, client);
  const print = await printer(context, client);
  let position = after ?? 0;
  if (after === undefined) {
    const { rows, head } = await newest(client, filters, lines);
    for (const row of rows) await print(row);
    position = head;
  } else {
    for await (const row of client.pages('/v1/events', 'events', { ...filters, after })) {
      await print(row);
      position = Math.max(position, positionOf(row));
    }
  }
  /** An outage is told once, however long it lasts. */
  let silent = false;
  while (input.flag('follow')) {
    try {
      const bytes = await client.open('/v1/events', {
        query: { ...filters, after: position },
        headers: { accept: 'text/event-stream' },
      });
      silent = false;
      for await (const event of readServerSentEvents(bytes)) {
        const row: unknown = JSON.parse(event.data);
        if (!isRow(row) || typeof row['hlc'] !== 'string') continue;
        position = Math.max(position, positionOf(row));
        await print(row);
      }
      context.terminal.note('Note: the agent ended the stream; asking it again.');
    } catch (error) {
      // A restart of the agent must not lose a line: go on after the last position once it answers again.
      if (!(error instanceof Failure) || error.exit !== EXIT.connection) throw error;
      if (!silent) context.terminal.note(`Note: ${error.message} Trying again until it answers.`);
      silent = true;
    }
    await sleep(RECONNECT_MS);
  }
  return EXIT.success;
};
