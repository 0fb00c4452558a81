import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import { usageFailure } from '../failure.ts';
import { asRow, isRow, type Row, show, showTime, yesNo } from '../fields.ts';
import type { Input } from '../input.ts';
import { rememberNames } from '../known-names.ts';
import { type Column, fold, type Output } from '../output.ts';
import { peerId, peerNames, serviceId } from '../resolve.ts';
import { overallStatus, paintStatus, readStatus } from '../service-status.ts';
import { flowEffect, routeColumns } from './routes.ts';

/** I own interface, T fully transparent, Q bandwidth limit. */
function flagLetters(row: Row): string {
  const letters = [
    row['requires_interface'] === true ? 'I' : '',
    row['fully_transparent'] === true ? 'T' : '',
    Number(row['bandwidth_limit_mbps'] ?? 0) > 0 ? 'Q' : '',
  ].join('');
  return letters === '' ? '-' : letters;
}

type Names = ReadonlyMap<string, string>;

const nameOf = (names: Names, row: Row, field: string): string =>
  names.get(show(row, field)) ?? show(row, field);

const columns = (names: Names): readonly Column<Row>[] => [
  { title: 'ID', value: (row) => show(row, 'id') },
  { title: 'NAME', value: (row) => show(row, 'name'), shrinkTo: 4 },
  { title: 'SOURCE', value: (row) => nameOf(names, row, 'source_peer_id'), shrinkTo: 6 },
  { title: 'TARGET', value: (row) => nameOf(names, row, 'target_peer_id'), shrinkTo: 6 },
  { title: 'TRANSPORT', value: (row) => show(row, 'transport_type') },
  { title: 'FLAGS', value: flagLetters },
  {
    title: 'STATUS',
    value: (row) => overallStatus(readStatus(row['status'])),
    paint: paintStatus,
  },
];

export const list: Run = async (context, input) => {
  const client = await context.client();
  const source = input.text('source-peer');
  const target = input.text('target-peer');
  const rows = await client.list('/v1/services', 'services', {
    source_peer_id: source === undefined ? undefined : await peerId(source, client),
    target_peer_id: target === undefined ? undefined : await peerId(target, client),
    requires_interface: input.toggle('requires-interface'),
  });
  if (source === undefined && target === undefined && input.toggle('requires-interface') === undefined)
    rememberNames(
      context.configPath,
      'service',
      rows.map((row) => show(row, 'name')),
    );
  const human = context.output.format === 'table' && rows.length > 0;
  await context.output.table(rows, columns(human ? await peerNames(client) : new Map()), 'No services.');
  return EXIT.success;
};

/** ` (why)` on the line of its state where it fits, else below it. */
function reasonText(reason: string, columns: number | undefined, before: number): string {
  if (reason === '') return '';
  const text = `(${reason})`;
  if (columns === undefined || before + text.length + 5 <= columns) return ` ${text}`;
  return `\n${fold(text, columns, '    ')}`;
}

/** Only the source peer knows; elsewhere there is no such line. */
function carriedBy(row: Row): readonly (readonly [string, string])[] {
  const now = row['carried_by'];
  if (!isRow(now)) return [];
  return [['Carried By', `${show(now, 'transport')}: ${show(now, 'reason')}`]];
}

/** Only the two ends have one, and only once a packet of a service may need it. */
function tunnelTo(row: Row): readonly (readonly [string, string])[] {
  const tunnel = row['tunnel'];
  if (!isRow(tunnel)) return [];
  const age = Number(tunnel['handshake_age_ms'] ?? Number.NaN);
  const parts = [
    Number.isNaN(age) ? 'no handshake yet' : `handshake ${Math.round(age / 1000)} s ago`,
    show(tunnel, 'aead'),
    `${show(tunnel, 'bytes_sent')} B sent`,
    `${show(tunnel, 'bytes_received')} B received`,
    `${show(tunnel, 'datagrams_lost')} datagrams lost`,
  ];
  return [
    ['Tunnel', `${show(tunnel, 'device')} to ${show(tunnel, 'endpoint')}, MTU ${show(tunnel, 'mtu')}`],
    ['Tunnel State', parts.join(', ')],
  ];
}

/** Settings, what the agent made of them, one line a reconciler, and the routes. */
function describe(row: Row, names: Names, output: Output): string {
  const withName = (field: string) => {
    const name = names.get(show(row, field));
    return name === undefined ? show(row, field) : `${name} (${show(row, field)})`;
  };
  const limit = Number(row['bandwidth_limit_mbps'] ?? 0);
  const fields: (readonly [string, string])[] = [
    ['ID', show(row, 'id')],
    ['Name', show(row, 'name')],
    ['Source', withName('source_peer_id')],
    ['Target', withName('target_peer_id')],
    ['Transport', show(row, 'transport_type')],
    ...carriedBy(row),
    ...tunnelTo(row),
    ['Transparent', yesNo(row, 'fully_transparent')],
    ['Bandwidth', limit > 0 ? `${limit} Mbit/s (bandwidth_limit_mbps)` : 'unlimited'],
    ['On Failure', show(row, 'on_failure')],
    ['Requires Interface', yesNo(row, 'requires_interface')],
  ];
  if (row['requires_interface'] === true)
    fields.push(
      ['Interface', show(row, 'interface_name')],
      ['Desired IPv4', show(row, 'desired_ipv4_cidr')],
      ['Desired IPv6', show(row, 'desired_ipv6_cidr')],
      ['Interface IPv4', show(row, 'interface_ipv4_cidr')],
      ['Interface IPv6', show(row, 'interface_ipv6_cidr')],
    );
  fields.push(['Created', showTime(row, 'created_at')], ['Updated', showTime(row, 'updated_at')]);
  const status = readStatus(row['status']);
  const lines = status.map(
    ({ reconciler, state, reason }) =>
      `  ${reconciler}: ${paintStatus(state, output.style)}${reasonText(reason, output.columns, reconciler.length + state.length)}\n`,
  );
  const routes = Array.isArray(row['routes']) ? row['routes'].filter(isRow) : [];
  return [
    output.renderFields(fields),
    `\n${output.style.bold('Status:')}\n${lines.length === 0 ? '  -\n' : lines.join('')}`,
    `\n${output.style.bold('Routes:')}\n`,
    routes.length === 0 ? '  none\n' : output.renderTable(routes, routeColumns),
  ].join('');
}

export const get: Run = async (context, input) => {
  const client = await context.client();
  const id = await serviceId(input.arg(0), client);
  const row = asRow(await client.get(`/v1/services/${encodeURIComponent(id)}`), 'services get');
  const names: Names = context.output.format === 'table' ? await peerNames(client) : new Map();
  await context.output.either(row, () => describe(row, names, context.output));
  return EXIT.success;
};

/** An empty value takes an address away. */
const orNull = (text: string): string | null => (text === '' ? null : text);

/** The body of a create or an update: what was given and nothing else. */
async function settings(input: Input, client: Client): Promise<Record<string, unknown>> {
  const source = input.text('source-peer');
  const target = input.text('target-peer');
  const ipv4 = input.text('desired-ipv4');
  const ipv6 = input.text('desired-ipv6');
  const body = {
    name: input.text('name'),
    source_peer_id: source === undefined ? undefined : await peerId(source, client),
    target_peer_id: target === undefined ? undefined : await peerId(target, client),
    transport_type: input.text('transport'),
    requires_interface: input.toggle('requires-interface'),
    desired_ipv4_cidr: ipv4 === undefined ? undefined : orNull(ipv4),
    desired_ipv6_cidr: ipv6 === undefined ? undefined : orNull(ipv6),
    fully_transparent: input.toggle('fully-transparent'),
    bandwidth_limit_mbps: input.number('bandwidth-limit'),
    on_failure: input.text('on-failure'),
  };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}

export const create: Run = async (context, input) => {
  const client = await context.client();
  const body = await settings(input, client);
  const row = asRow(await client.post('/v1/services', { body }), 'services create');
  const names: Names = context.output.format === 'table' ? await peerNames(client) : new Map();
  await context.output.either(row, () => describe(row, names, context.output));
  return EXIT.success;
};

export const update: Run = async (context, input) => {
  const client = await context.client();
  const body = await settings(input, client);
  if (Object.keys(body).length === 0)
    throw usageFailure("nothing to change: 'arctic services update --help' lists the settings.");
  const id = await serviceId(input.arg(0), client);
  const row = asRow(
    await client.put(`/v1/services/${encodeURIComponent(id)}`, { body, query: flowEffect(input) }),
    'services update',
  );
  const names: Names = context.output.format === 'table' ? await peerNames(client) : new Map();
  await context.output.either(row, () => describe(row, names, context.output));
  return EXIT.success;
};

export const remove: Run = async (context, input) => {
  const client = await context.client();
  const id = await serviceId(input.arg(0), client);
  const label = id === input.arg(0) ? id : `${input.arg(0)} (${id})`;
  await context.confirm(`Delete service ${label} and its routes, and end its connections?`);
  await client.delete(`/v1/services/${encodeURIComponent(id)}`, { query: flowEffect(input) });
  await context.output.either({ deleted: id }, () => `Service ${label} deleted.\n`);
  return EXIT.success;
};
