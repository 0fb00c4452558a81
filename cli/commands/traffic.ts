import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { Failure, usageFailure } from '../failure.ts';
import { asRow, isRow, type Row, show } from '../fields.ts';
import type { Column } from '../output.ts';
import { peerNames, serviceId } from '../resolve.ts';
import { printable } from '../terminal.ts';

const DEFAULT_INTERVAL = 2;
const MOST_INTERVAL = 60;
/** Cursor to the top left, and erase to the end (ECMA-48 CUP, ED). */
const FROM_THE_TOP = '\u001b[H\u001b[J';

const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isRow) : []);
const numberOf = (row: Row, field: string): number => Number(row[field] ?? 0);

/** `3.4 Mbit/s`: three significant figures at most. */
export function rateText(bitsPerSecond: number): string {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'] as const;
  let value = bitsPerSecond;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

/** `0.4 ms`, `52 ms`, `4.1 s`, `88 s`, `12 min`, `5 h`, `3 d`. */
export function millisecondsText(value: unknown): string {
  if (value === null || value === undefined) return '-';
  const ms = Number(value);
  if (ms < 999.5) return `${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 120) return `${seconds < 9.95 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
  const minutes = seconds / 60;
  if (minutes < 120) return `${minutes.toFixed(0)} min`;
  return minutes < 48 * 60 ? `${(minutes / 60).toFixed(0)} h` : `${(minutes / 1_440).toFixed(0)} d`;
}

const lossText = (share: unknown): string =>
  share === null || share === undefined ? '-' : `${(100 * Number(share)).toFixed(2)} %`;

/** One side of a service over one interval. */
interface Busy {
  readonly row: Row;
  /** Bits and connections a second. */
  readonly inward: number;
  readonly outward: number;
  readonly opens: number;
}

/** Counters of an agent that has started again begin at zero: then what there is counts. */
const grown = (now: Row, before: Row | undefined, field: string): number => {
  const [from, to] = [before === undefined ? 0 : numberOf(before, field), numberOf(now, field)];
  return to >= from ? to - from : to;
};

/** Rates between two answers of /v1/traffic, the busiest first. */
export function compare(before: Row, after: Row): readonly Busy[] {
  const seconds = Math.max(0.001, (Date.parse(show(after, 'at')) - Date.parse(show(before, 'at'))) / 1_000);
  const key = (row: Row): string => `${show(row, 'service_id')} ${show(row, 'side')}`;
  const known = new Map(rowsOf(before['services']).map((row) => [key(row), row]));
  return rowsOf(after['services'])
    .map((row) => {
      const old = known.get(key(row));
      return {
        row,
        inward: (grown(row, old, 'bytes_in') * 8) / seconds,
        outward: (grown(row, old, 'bytes_out') * 8) / seconds,
        opens: grown(row, old, 'connections') / seconds,
      };
    })
    .sort(
      (a, b) =>
        b.inward + b.outward - a.inward - a.outward || numberOf(b.row, 'active') - numberOf(a.row, 'active'),
    );
}

const TOP: readonly Column<Busy>[] = [
  {
    title: 'SERVICE',
    value: ({ row }) => printable(row['name'] === null ? show(row, 'service_id') : show(row, 'name')),
    shrinkTo: 6,
  },
  { title: 'SIDE', value: ({ row }) => show(row, 'side') },
  { title: 'ACTIVE', value: ({ row }) => show(row, 'active') },
  { title: 'NEW/S', value: ({ opens }) => opens.toFixed(opens < 10 ? 1 : 0) },
  { title: 'IN', value: ({ inward }) => rateText(inward) },
  { title: 'OUT', value: ({ outward }) => rateText(outward) },
  { title: 'OPEN', value: ({ row }) => millisecondsText(row['mean_open_ms']) },
  { title: 'WAITS', value: ({ row }) => show(row, 'limiter_waits') },
  // Refused and failed in one, which leaves the name of the service room on 80 columns; JSON has them apart.
  { title: 'ERRORS', value: ({ row }) => String(numberOf(row, 'refused') + numberOf(row, 'failed')) },
];

const links = (names: ReadonlyMap<string, string>): readonly Column<Row>[] => [
  { title: 'PEER', value: (row) => names.get(show(row, 'peer_id')) ?? show(row, 'peer_id'), shrinkTo: 6 },
  { title: 'TRANSPORT', value: (row) => show(row, 'transport') },
  { title: 'IDLE', value: (row) => (row['transport'] === 'kcp' ? '-' : show(row, 'idle')) },
  { title: 'LEASED', value: (row) => show(row, 'leased') },
  { title: 'RTT', value: (row) => millisecondsText(row['rtt_ms']) },
  { title: 'LOSS', value: (row) => lossText(row['loss']) },
];

const look = async (client: Client): Promise<Row> => asRow(await client.get('/v1/traffic'), 'services top');

async function present(
  { output }: Context,
  names: ReadonlyMap<string, string>,
  before: Row,
  after: Row,
  head: string,
): Promise<void> {
  const busy = compare(before, after);
  const answer = {
    ...after,
    services: busy.map(({ row, inward, outward, opens }) => ({
      ...row,
      in_bits_per_second: Math.round(inward),
      out_bits_per_second: Math.round(outward),
      connections_per_second: opens,
    })),
  };
  await output.either(answer, () => {
    const peers = rowsOf(after['links']);
    return [
      head,
      busy.length === 0 ? 'No services.\n' : output.renderTable(busy, TOP),
      peers.length === 0 ? '' : `\n${output.renderTable(peers, links(names))}`,
    ].join('');
  });
}

/** Goes on whatever happens to the agent: who watches wants to see it come back. */
export const top: Run = async (context, input) => {
  const interval = input.number('interval') ?? DEFAULT_INTERVAL;
  if (interval < 1 || interval > MOST_INTERVAL)
    throw usageFailure(`--interval takes 1 to ${MOST_INTERVAL} seconds.`);
  const client = await context.client();
  const live = context.output.format === 'table' && context.terminal.stdoutIsTerminal && !input.flag('once');
  const names = context.output.format === 'table' ? await peerNames(client) : new Map<string, string>();
  let before = await look(client);
  for (let silent = false; ; ) {
    await sleep(interval * 1_000);
    try {
      const after = await look(client);
      const time = show(after, 'at').slice(0, 19).replace('T', ' ');
      await present(context, names, before, after, live ? `${FROM_THE_TOP}${time} UTC\n\n` : '');
      before = after;
      silent = false;
    } catch (error) {
      if (!live || !(error instanceof Failure) || error.exit !== EXIT.connection) throw error;
      if (!silent) context.terminal.note(`Note: ${error.message} Trying again until it answers.`);
      silent = true;
    }
    if (!live) return EXIT.success;
  }
};

const endText = (end: unknown): string => {
  if (!isRow(end)) return '-';
  const address = show(end, 'address');
  return `${address.includes(':') ? `[${address}]` : address}:${show(end, 'port')}`;
};

const pathOf = (row: Row): Row => (isRow(row['path']) ? row['path'] : {});

const controlText = (path: Row): string =>
  path['transport'] === 'kcp' ? 'kcp' : show(path, 'congestion_control');

const FLOWS: readonly Column<Row>[] = [
  { title: 'CLIENT', value: (row) => endText(row['client']), shrinkTo: 15 },
  { title: 'DESTINATION', value: (row) => endText(row['destination']), shrinkTo: 15 },
  { title: 'SIDE', value: (row) => show(row, 'side') },
  { title: 'STATE', value: (row) => show(row, 'state'), dispensable: 1 },
  { title: 'AGE', value: (row) => millisecondsText(row['age_ms']) },
  { title: 'IN', value: (row) => sizeText(numberOf(row, 'bytes_in')) },
  { title: 'OUT', value: (row) => sizeText(numberOf(row, 'bytes_out')) },
  { title: 'OPEN', value: (row) => millisecondsText(row['open_ms']), dispensable: 3 },
  { title: 'RTT', value: (row) => millisecondsText(pathOf(row)['rtt_ms']), dispensable: 2 },
  { title: 'LOSS', value: (row) => lossText(pathOf(row)['loss']), dispensable: 4 },
  { title: 'CONTROL', value: (row) => controlText(pathOf(row)), dispensable: 5 },
  { title: 'WAITS', value: (row) => show(row, 'limiter_waits'), dispensable: 6 },
];

export const flows: Run = async (context, input) => {
  const client = await context.client();
  const id = await serviceId(input.arg(0), client);
  const answer = asRow(await client.get(`/v1/services/${encodeURIComponent(id)}/flows`), 'services flows');
  await context.output.table(rowsOf(answer['flows']), FLOWS, 'No connections.');
  return EXIT.success;
};
