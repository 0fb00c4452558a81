import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { ago } from '../duration.ts';
import { asRow, isRow, type Row, show, showTime, textOf } from '../fields.ts';
import { type Column, fold } from '../output.ts';
import { printable } from '../terminal.ts';
import { paintState } from './peers.ts';

export const identity: Run = async (context) => {
  const client = await context.client();
  const row = asRow(await client.get('/v1/cluster/identity', { open: true }), 'cluster identity');
  await context.output.fields(row, [
    ['Peer ID', show(row, 'peer_id')],
    ['Public Key', show(row, 'public_key')],
    ['License ID', show(row, 'license_id')],
    ['Cluster ID', show(row, 'cluster_id')],
    ['Version', show(row, 'version')],
  ]);
  return EXIT.success;
};

const columns = (now: number): readonly Column<Row>[] => [
  { title: 'PEER', value: (row) => show(row, 'name'), shrinkTo: 8 },
  { title: 'STATE', value: (row) => show(row, 'state'), paint: paintState },
  {
    title: 'LAST SEEN',
    value: (row) => (row['is_local'] === true ? 'local' : ago(textOf(row, 'last_seen_at'), now)),
  },
  { title: 'LAG', value: (row) => show(row, 'lag'), align: 'right' },
  { title: 'LOG HEAD', value: (row) => show(row, 'log_head'), align: 'right' },
  { title: 'DIGEST', value: (row) => show(row, 'projection_digest').slice(0, 12) },
];

export const status: Run = async (context) => {
  const client = await context.client();
  const answer = asRow(await client.get('/v1/cluster/status'), 'cluster status');
  const peers = Array.isArray(answer['peers']) ? answer['peers'].filter(isRow) : [];
  const conditions = Array.isArray(answer['conditions']) ? answer['conditions'].filter(isRow) : [];
  await context.output.either(answer, () =>
    [
      context.output.renderFields([
        ['Cluster ID', show(answer, 'cluster_id')],
        ['Customer ID', show(answer, 'customer_id')],
        ['License', show(answer, 'license_state')],
        ['Log Head', show(answer, 'log_head')],
        ['Digest', show(answer, 'projection_digest').slice(0, 12)],
        ['Lock', isRow(answer['lock']) ? `held by ${show(answer['lock'], 'holder')}` : 'none'],
      ]),
      '\n',
      context.output.renderTable(peers, columns(context.clock.now())),
      ...(conditions.length === 0
        ? []
        : [
            '\n',
            ...conditions.map(
              (row) =>
                `${fold(printable(`${show(row, 'severity')}: ${show(row, 'text')}`), context.output.width)}\n`,
            ),
            "'arctic doctor' says what to do.\n",
          ]),
    ].join(''),
  );
  return EXIT.success;
};

export const sync: Run = async (context) => {
  const client = await context.client();
  const answer = asRow(await client.post('/v1/cluster/sync', { body: {} }), 'cluster sync');
  await context.output.either(
    answer,
    () => 'Sync triggered: a gossip round and a full pass of every reconciler.\n',
  );
  return EXIT.success;
};

/** The lease, when somebody holds it. */
const leaseOf = (answer: Row): Row | undefined => (isRow(answer['lock']) ? answer['lock'] : undefined);

export const lock: Run = async (context) => {
  const client = await context.client();
  const answer = asRow(await client.get('/v1/cluster/lock'), 'cluster lock');
  const lease = leaseOf(answer);
  await context.output.either(answer, () => {
    if (lease === undefined) return 'The cluster is not locked.\n';
    return context.output.renderFields([
      ['Holder', show(lease, 'holder')],
      ['Purpose', show(lease, 'purpose')],
      ['Expires', showTime(lease, 'expires_at')],
      ['Fence', show(lease, 'fence')],
      ['Peer', show(lease, 'peer_id')],
    ]);
  });
  return EXIT.success;
};

export const unlock: Run = async (context) => {
  const client = await context.client();
  const lease = leaseOf(asRow(await client.get('/v1/cluster/lock'), 'cluster lock'));
  if (lease === undefined) {
    await context.output.either({ released: false }, () => 'The cluster is not locked.\n');
    return EXIT.success;
  }
  await context.confirm(`Break the cluster lock of ${show(lease, 'holder')} (${show(lease, 'purpose')})?`);
  await client.delete('/v1/cluster/lock');
  await context.output.either({ released: true }, () => 'The cluster lock is broken.\n');
  return EXIT.success;
};

export const init: Run = async (context, input) => {
  const force = input.flag('force');
  const client = await context.client();
  if (force) await context.confirm('Initialise the cluster record again?');
  const answer = asRow(await client.post('/v1/cluster/init', { body: { force } }), 'cluster init');
  await context.output.either(answer, () =>
    answer['initialised'] === false
      ? `Cluster ${show(answer, 'cluster_id')} is initialised already; --force does it again.\n`
      : `Cluster ${show(answer, 'cluster_id')} initialised.\n`,
  );
  return EXIT.success;
};
