import { EXIT } from '../../events/errors.ts';
import { portsReason } from '../../src/health/closed-ports.ts';
import { closedPortsOf } from '../closed-ports.ts';
import type { Run } from '../command.ts';
import { ago } from '../duration.ts';
import { usageFailure } from '../failure.ts';
import { asRow, type Row, show, showTime, textOf, yesNo } from '../fields.ts';
import { rememberPeers } from '../known-peers.ts';
import type { Column } from '../output.ts';
import { peerId } from '../resolve.ts';
import type { Style } from '../style.ts';
import { printable } from '../terminal.ts';

export const paintState = (state: string, style: Style): string => {
  if (state === 'active') return style.green(state);
  return state === 'pending' ? style.yellow(state) : style.red(state);
};

const columns = (now: number): readonly Column<Row>[] => [
  { title: 'ID', value: (row) => show(row, 'id') },
  { title: 'NAME', value: (row) => show(row, 'name'), shrinkTo: 6 },
  { title: 'ADDRESS', value: (row) => show(row, 'address'), shrinkTo: 14 },
  { title: 'STATE', value: (row) => show(row, 'state'), paint: paintState },
  {
    title: 'LAST SEEN',
    value: (row) => (row['is_local'] === true ? 'local' : ago(textOf(row, 'last_seen_at'), now)),
  },
];

function fieldsOf(row: Row): readonly (readonly [string, string])[] {
  const closed = portsReason(closedPortsOf(row));
  return [
    ['ID', show(row, 'id')],
    ['Name', show(row, 'name')],
    ['Address', show(row, 'address')],
    ['Endpoints', show(row, 'endpoints')],
    ['State', show(row, 'state')],
    ['Local', yesNo(row, 'is_local')],
    ['API Access', show(row, 'api_access')],
    ['Public Key', show(row, 'public_key')],
    ...(typeof row['reason'] === 'string' ? [['Reason', row['reason']] as const] : []),
    ...(closed === null ? [] : [['Ports', closed] as const]),
    ['Last Seen', row['is_local'] === true ? 'local' : showTime(row, 'last_seen_at')],
    ['Created', showTime(row, 'created_at')],
    ['Version', show(row, 'version')],
  ];
}

export const list: Run = async (context, input) => {
  if (input.flag('local') && input.flag('remote'))
    throw usageFailure('--local and --remote leave nothing together; give one of them.');
  const client = await context.client();
  const all = await client.list('/v1/peers', 'peers');
  await rememberPeers(context, client, all);
  const rows = all.filter((row) => {
    if (input.flag('local')) return row['is_local'] === true;
    return !input.flag('remote') || row['is_local'] !== true;
  });
  await context.output.table(rows, columns(context.clock.now()), 'No peers.');
  for (const row of rows)
    if (typeof row['reason'] === 'string' && row['state'] !== 'active')
      context.terminal.note(printable(`${show(row, 'name')}: ${row['reason']}`));
  return EXIT.success;
};

export const get: Run = async (context, input) => {
  const client = await context.client();
  const id = await peerId(input.arg(0), client);
  const row = asRow(await client.get(`/v1/peers/${encodeURIComponent(id)}`), 'peers get');
  await context.output.fields(row, fieldsOf(row));
  return EXIT.success;
};

const ADDRESS = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/;

/** `HOST:PORT` as typed; a scheme and a trailing slash, as copied from a URL, are taken off. */
function readAddress(text: string): string {
  const bare = text.replace(/^https?:\/\//i, '').replace(/\/$/, '');
  const port = Number(ADDRESS.exec(bare)?.[2] ?? 0);
  if (port < 1 || port > 65_535)
    throw usageFailure(`'${text}' is not HOST:PORT, such as 10.0.0.2:8080 or [2001:db8::2]:8080.`);
  return bare;
}

export const add: Run = async (context, input) => {
  const address = readAddress(input.arg(0));
  const name = input.text('name');
  const client = await context.client();
  const row = asRow(
    await client.post('/v1/peers', { body: { address, ...(name === undefined ? {} : { name }) } }),
    'peers add',
  );
  try {
    await rememberPeers(context, client, await client.list('/v1/peers', 'peers'));
  } catch {
    // The peer is added; the configuration learns of it with the next 'peers list'.
  }
  await context.output.fields(row, fieldsOf(row));
  return EXIT.success;
};

export const update: Run = async (context, input) => {
  const name = input.text('name');
  const access = input.text('api-access');
  if (name === undefined && access === undefined)
    throw usageFailure('nothing to change: give --name or --api-access.');
  const client = await context.client();
  const id = await peerId(input.arg(0), client);
  const body = {
    ...(name === undefined ? {} : { name }),
    ...(access === undefined ? {} : { api_access: access }),
  };
  const row = asRow(await client.put(`/v1/peers/${encodeURIComponent(id)}`, { body }), 'peers update');
  await context.output.fields(row, fieldsOf(row));
  return EXIT.success;
};

export const remove: Run = async (context, input) => {
  const client = await context.client();
  const id = await peerId(input.arg(0), client);
  const label = id === input.arg(0) ? id : `${input.arg(0)} (${id})`;
  await context.confirm(`Remove peer ${label} from the cluster?`);
  await client.delete(`/v1/peers/${encodeURIComponent(id)}`);
  await context.output.either({ deleted: id }, () => `Peer ${label} removed.\n`);
  return EXIT.success;
};

export const removeSelf: Run = async (context) => {
  const client = await context.client();
  const identity = asRow(await client.get('/v1/cluster/identity', { sameHost: true }), 'cluster identity');
  const id = show(identity, 'peer_id');
  await context.confirm(
    `Take ${id} (${client.endpoint().base}) out of cluster ${show(identity, 'cluster_id')}?`,
  );
  await client.delete('/v1/peers/self', { sameHost: true });
  await context.output.either({ left: id }, () => `Peer ${id} left the cluster.\n`);
  return EXIT.success;
};
