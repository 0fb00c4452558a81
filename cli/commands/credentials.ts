import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { ago } from '../duration.ts';
import { configurationFailure } from '../failure.ts';
import { asRow, type Row, show, showTime, textOf } from '../fields.ts';
import type { Column } from '../output.ts';

const columns = (now: number): readonly Column<Row>[] => [
  { title: 'CLIENT ID', value: (row) => show(row, 'client_id') },
  { title: 'SCOPES', value: (row) => show(row, 'scopes'), shrinkTo: 12 },
  { title: 'CREATED', value: (row) => ago(textOf(row, 'created_at'), now) },
  { title: 'LAST USED', value: (row) => ago(textOf(row, 'last_used_at'), now) },
];

export const list: Run = async (context) => {
  const client = await context.client();
  const rows = await client.list('/v1/credentials', 'credentials');
  await context.output.table(rows, columns(context.clock.now()), 'No credentials.');
  return EXIT.success;
};

export const create: Run = async (context, input) => {
  const client = await context.client();
  const scopes = input.list('scopes');
  const row = asRow(
    await client.post('/v1/credentials', { body: scopes === undefined ? {} : { scopes } }),
    'credentials create',
  );
  await context.output.fields(row, [
    ['Client ID', show(row, 'client_id')],
    ['Client Secret', show(row, 'client_secret')],
    ['Scopes', show(row, 'scopes')],
  ]);
  context.terminal.note('The secret is shown this once; only its hash is kept.');
  return EXIT.success;
};

export const revoke: Run = async (context, input) => {
  const id = input.arg(0);
  const client = await context.client();
  await context.confirm(`Revoke credential ${id}? Whoever uses it is locked out at once.`);
  await client.delete(`/v1/credentials/${encodeURIComponent(id)}`);
  await context.output.either({ revoked: id }, () => `Credential ${id} revoked.\n`);
  return EXIT.success;
};

export const rotate: Run = async (context, input) => {
  const client = await context.client();
  const update = input.flag('update-config');
  if (update) {
    // Before anything is changed: a secret that cannot be saved would be lost.
    if (Object.keys((await context.config()).clusters).length === 0)
      throw configurationFailure(`${context.configPath} has no cluster whose secret could be updated.`);
    await context.changeConfig((config) => config);
  }
  const row = asRow(await client.post('/v1/cluster/credentials/rotate', { body: {} }), 'credentials rotate');
  const clientId = show(row, 'client_id');
  const secret = textOf(row, 'client_secret');
  if (update && secret !== undefined) {
    let updated = 0;
    await context.changeConfig((config) => ({
      ...config,
      clusters: Object.fromEntries(
        Object.entries(config.clusters).map(([id, cluster]) => {
          if (cluster.client_id !== clientId) return [id, cluster];
          updated += 1;
          return [id, { ...cluster, client_secret: secret }];
        }),
      ),
    }));
    if (updated > 0) {
      const { client_secret: _secret, ...shown } = row;
      await context.output.fields(shown, [
        ['Client ID', clientId],
        ['Old Secret Until', showTime(row, 'previous_secret_valid_until')],
      ]);
      context.terminal.note(`The new secret is saved in ${context.configPath}.`);
      return EXIT.success;
    }
    context.terminal.note(
      `Warning: ${context.configPath} does not hold ${clientId}; the secret is shown instead.`,
    );
  }
  await context.output.fields(row, [
    ['Client ID', clientId],
    ['Client Secret', show(row, 'client_secret')],
    ['Old Secret Until', showTime(row, 'previous_secret_valid_until')],
  ]);
  context.terminal.note('The secret is shown this once; only its hash is kept.');
  return EXIT.success;
};
