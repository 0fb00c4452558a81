import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { Refusal } from '../failure.ts';
import { asRow, type Row, show, showTime, textOf } from '../fields.ts';
import { readLicenseFile } from './bootstrap.ts';

/** `2027-01-01 00:00:00 UTC (in 40 days)`. */
function expiry(row: Row, now: number): string {
  const time = Date.parse(textOf(row, 'expires_at') ?? '');
  if (Number.isNaN(time)) return show(row, 'expires_at');
  const days = Math.floor(Math.abs(time - now) / 86_400_000);
  const distance = `${days} day${days === 1 ? '' : 's'}`;
  return `${showTime(row, 'expires_at')} (${time > now ? `in ${distance}` : `${distance} ago`})`;
}

/** `10 (3 in use)`. */
const cap = (row: Row, limit: string, used: string): string =>
  row[used] === undefined ? show(row, limit) : `${show(row, limit)} (${show(row, used)} in use)`;

/** `grace (until 2027-01-15 00:00:00 UTC)`; a valid license needs no such note. */
function stateText(row: Row): string {
  const state = show(row, 'state');
  return state === 'valid' || show(row, 'state_changes_at') === '-'
    ? state
    : `${state} (until ${showTime(row, 'state_changes_at')})`;
}

const fieldsOf = (row: Row, now: number): (readonly [string, string])[] => [
  ['License ID', show(row, 'license_id')],
  ['Customer ID', show(row, 'customer_id')],
  ['State', stateText(row)],
  ['Issued', showTime(row, 'issued_at')],
  ['Expires', expiry(row, now)],
  ['Max Nodes', cap(row, 'max_nodes', 'nodes')],
  ['Max Services', cap(row, 'max_services', 'services')],
  ['Features', show(row, 'features')],
];

export const status: Run = async (context) => {
  const client = await context.client();
  try {
    const row = asRow(await client.get('/v1/license'), 'license status');
    await context.output.fields(row, fieldsOf(row, context.clock.now()));
    return EXIT.success;
  } catch (error) {
    // An agent of another cluster: what anyone may know is enough to compare licenses.
    if (!(error instanceof Refusal) || error.status !== 401 || client.cluster() !== undefined) throw error;
    const row = asRow(await client.get('/v1/cluster/identity', { open: true }), 'cluster identity');
    await context.output.fields({ license_id: row['license_id'], cluster_id: row['cluster_id'] }, [
      ['License ID', show(row, 'license_id')],
      ['Cluster ID', show(row, 'cluster_id')],
    ]);
    context.terminal.note(
      `Note: the configuration has no credentials for ${client.endpoint().base}, so only its public identity is shown.`,
    );
    return EXIT.success;
  }
};

export const install: Run = async (context, input) => {
  const license = await readLicenseFile(context, input.arg(0));
  const client = await context.client();
  const row = asRow(await client.put('/v1/license', { body: license }), 'license install');
  await context.output.fields(row, fieldsOf(row, context.clock.now()));
  return EXIT.success;
};
