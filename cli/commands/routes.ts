import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { usageFailure } from '../failure.ts';
import { asRow, type Row, show } from '../fields.ts';
import type { Input } from '../input.ts';
import { rememberNames } from '../known-names.ts';
import type { Column } from '../output.ts';
import { serviceId } from '../resolve.ts';

export const routeColumns: readonly Column<Row>[] = [
  { title: 'ID', value: (row) => show(row, 'id'), align: 'right' },
  { title: 'PRIORITY', value: (row) => show(row, 'priority'), align: 'right' },
  { title: 'SOURCE', value: (row) => show(row, 'source_cidr') },
  { title: 'DESTINATION', value: (row) => show(row, 'dest_cidr') },
];

const pathOf = (service: string, route?: string): string =>
  `/v1/services/${encodeURIComponent(service)}/routes${route === undefined ? '' : `/${route}`}`;

function routeNumber(text: string): string {
  if (!/^[1-9]\d{0,15}$/.test(text))
    throw usageFailure(`ROUTE is the number that 'arctic routes list' shows under ID, not '${text}'.`);
  return text;
}

/** What becomes of connections that are established already. */
export const flowEffect = (input: Input) => (input.flag('reset-flows') ? { reset_flows: true } : {});

/** An empty value takes a CIDR away. */
const orNull = (text: string): string | null => (text === '' ? null : text);

function ruleOf(input: Input): Record<string, unknown> {
  const source = input.text('source-cidr');
  const dest = input.text('dest-cidr');
  const priority = input.number('priority');
  return {
    ...(priority === undefined ? {} : { priority }),
    ...(source === undefined ? {} : { source_cidr: orNull(source) }),
    ...(dest === undefined ? {} : { dest_cidr: orNull(dest) }),
  };
}

export const list: Run = async (context, input) => {
  const client = await context.client();
  const wanted = input.requiredText('service');
  const rows = await client.list(pathOf(await serviceId(wanted, client)), 'routes');
  rememberNames(
    context.configPath,
    `route:${wanted}`,
    rows.map((row) => show(row, 'id')),
  );
  await context.output.table(rows, routeColumns, 'No routes.');
  return EXIT.success;
};

export const add: Run = async (context, input) => {
  const rule = ruleOf(input);
  if (!rule['source_cidr'] && !rule['dest_cidr'])
    throw usageFailure('a route needs --source-cidr, --dest-cidr, or both.');
  const client = await context.client();
  const service = await serviceId(input.requiredText('service'), client);
  const answer = asRow(await client.post(pathOf(service), { body: { routes: [rule] } }), 'routes add');
  await context.output.either(
    answer,
    () => `Route ${show(answer, 'route_ids')} added to service ${input.requiredText('service')}.\n`,
  );
  return EXIT.success;
};

export const update: Run = async (context, input) => {
  const route = routeNumber(input.arg(0));
  const body = ruleOf(input);
  if (Object.keys(body).length === 0)
    throw usageFailure('nothing to change: give --priority, --source-cidr or --dest-cidr.');
  const client = await context.client();
  const service = await serviceId(input.requiredText('service'), client);
  const row = asRow(
    await client.put(pathOf(service, route), { body, query: flowEffect(input) }),
    'routes update',
  );
  await context.output.either(row, () => context.output.renderTable([row], routeColumns));
  return EXIT.success;
};

export const remove: Run = async (context, input) => {
  const route = routeNumber(input.arg(0));
  const client = await context.client();
  const service = await serviceId(input.requiredText('service'), client);
  await context.confirm(`Delete route ${route} of service ${input.requiredText('service')}?`);
  await client.delete(pathOf(service, route), { query: flowEffect(input) });
  await context.output.either(
    { deleted: Number(route), service_id: service },
    () => `Route ${route} of service ${input.requiredText('service')} deleted.\n`,
  );
  return EXIT.success;
};
