import type { Style } from '../style.ts';
import { printable } from '../terminal.ts';
import type { AddPeer, Change, ChangeService, FieldChange, Plan, Value } from './plan.ts';
import { type RouteSpec, SERVICE_FIELDS, type ServiceSpec } from './spec.ts';

type Sign = '+' | '~' | '-';
const SIGNS = { add: '+', change: '~', remove: '-' } as const;

/** Long lists of routes are cut in the middle of nowhere by no one: a plan shows this many a service and counts the rest. */
const MOST_ROUTES = 50;

export interface Counts {
  readonly add: number;
  readonly change: number;
  readonly remove: number;
}

export const countsOf = (plan: Plan): Counts => ({
  add: plan.changes.filter(({ action }) => action === 'add').length,
  change: plan.changes.filter(({ action }) => action === 'change').length,
  remove: plan.changes.filter(({ action }) => action === 'remove').length,
});

export const summaryLine = (plan: Plan): string => {
  const { add, change, remove } = countsOf(plan);
  return `Plan: ${add} to add, ${change} to change, ${remove} to remove.`;
};

/** A value as the file would have it; text that YAML would take for something else stands in quotes. */
function showValue(value: Value): string {
  if (value === null) return 'none';
  const text = printable(String(value));
  return typeof value === 'string' && /^$|^\s|\s$|^(none|true|false|\d+)$/.test(text) ? `'${text}'` : text;
}

export const showRoute = (route: RouteSpec): string =>
  `${route.source_cidr ?? 'any'} -> ${route.dest_cidr ?? 'any'}`;

/** The plan for a person: a block a thing, a line a field, a summary at the end. */
export function renderPlan(plan: Plan, style: Style): string {
  const paint = { '+': style.green, '~': style.yellow, '-': style.red } as const;
  const line = (indent: number, sign: Sign, text: string) =>
    `${' '.repeat(indent)}${paint[sign](sign)} ${text}`;
  const blocks = plan.changes.map((change) => {
    const sign = SIGNS[change.action];
    const head = line(2, sign, `${change.kind} ${style.bold(showName(change.name))}${remark(change)}`);
    return [head, ...bodyOf(change).map(([inner, text]) => line(6, inner, text))].join('\n');
  });
  return `${[...blocks, summaryLine(plan)].join('\n\n')}\n`;
}

const showName = (name: string): string => (/^[\w.-]+$/.test(name) ? name : `'${printable(name)}'`);

type Line = readonly [Sign, string];

function bodyOf(change: Change): readonly Line[] {
  if (change.kind === 'peer')
    return change.action === 'add'
      ? [
          ...aligned('+', [
            ['address', change.peer.address],
            ['api_access', change.peer.api_access],
          ]),
        ]
      : change.fields.map(changedField);
  if (change.action === 'add') return newService(change.service);
  if (change.action === 'change') return changedService(change);
  return [];
}

/** What happens to a thing besides its fields. */
function remark(change: Change): string {
  if (change.kind === 'peer') return change.action === 'add' ? `  (${arrival(change)})` : '';
  if (change.action !== 'remove') return '';
  const count = change.service.routes.length;
  return `  (${showName(change.service.source_peer)} to ${showName(change.service.target_peer)}, ${count} route${count === 1 ? '' : 's'})`;
}

function arrival({ contact }: AddPeer): string {
  if (contact.kind === 'bare') return 'bootstrap, then join';
  return contact.kind === 'bootstrapped' ? 'join' : `cannot be reached: ${contact.reason}`;
}

const aligned = (sign: Sign, rows: readonly (readonly [string, Value])[]): readonly Line[] => {
  const width = Math.max(...rows.map(([label]) => label.length)) + 1;
  return rows.map(([label, value]) => [sign, `${`${label}:`.padEnd(width)} ${showValue(value)}`]);
};

const changedField = ({ label, before, after }: FieldChange): Line => [
  '~',
  `${label}: ${showValue(before)} -> ${showValue(after)}`,
];

/** Of a new service the fields that say something; what is off or unlimited goes without saying. */
function newService(service: ServiceSpec): readonly Line[] {
  const rows = SERVICE_FIELDS.flatMap(({ field, label }): readonly (readonly [string, Value])[] => {
    const value = service[field];
    const silent = field === 'name' || value === false || value === null || value === 0 || value === 'direct';
    return silent ? [] : [[label, value]];
  });
  return [...aligned('+', rows), ...cutRoutes(service.routes.map((route) => ['+', addedRoute(route)]))];
}

const addedRoute = (route: RouteSpec): string => `route ${showRoute(route)}, priority ${route.priority}`;

const changedService = ({ fields, routes }: ChangeService): readonly Line[] => [
  ...fields.map(changedField),
  ...cutRoutes([
    ...routes.added.map((route): Line => ['+', addedRoute(route)]),
    ...routes.changed.map(
      ({ before, after }): Line => [
        '~',
        `route ${showRoute(after)}, priority ${before.priority} -> ${after.priority}`,
      ],
    ),
    ...routes.removed.map((route): Line => ['-', addedRoute(route)]),
  ]),
];

function cutRoutes(lines: readonly Line[]): readonly Line[] {
  if (lines.length <= MOST_ROUTES) return lines;
  const counts = (['+', '~', '-'] as const).flatMap((sign) => {
    const count = lines.slice(MOST_ROUTES).filter(([one]) => one === sign).length;
    return count === 0 ? [] : [[sign, `and ${count} more routes (-o json shows them all)`] as const];
  });
  return [...lines.slice(0, MOST_ROUTES), ...counts];
}

/** The plan for a machine. */
export const planData = (plan: Plan) => ({
  changes: plan.changes.map(changeData),
  summary: countsOf(plan),
  warnings: plan.warnings,
});

interface RouteData {
  readonly action: 'add' | 'change' | 'remove';
  readonly before: RouteSpec | null;
  readonly after: RouteSpec | null;
}

const bare = ({ priority, source_cidr, dest_cidr }: RouteSpec): RouteSpec => ({
  priority,
  source_cidr,
  dest_cidr,
});

const addition = (label: string, after: Value) => ({ field: label, before: null, after });

function changeData(change: Change) {
  const { kind, action, name } = change;
  const head = { kind, action, name, id: idOf(change) };
  if (change.kind === 'peer') {
    const fields =
      change.action === 'add'
        ? [addition('address', change.peer.address), addition('api_access', change.peer.api_access)]
        : change.fields.map(({ label, before, after }) => ({ field: label, before, after }));
    return { ...head, fields, routes: [] as RouteData[] };
  }
  if (change.action === 'remove') return { ...head, fields: [], routes: [] as RouteData[] };
  if (change.action === 'add')
    return {
      ...head,
      fields: SERVICE_FIELDS.filter(({ field }) => field !== 'name').map(({ field, label }) =>
        addition(label, change.service[field]),
      ),
      routes: change.service.routes.map(
        (route): RouteData => ({ action: 'add', before: null, after: bare(route) }),
      ),
    };
  const { added, changed, removed } = change.routes;
  return {
    ...head,
    fields: change.fields.map(({ label, before, after }) => ({ field: label, before, after })),
    routes: [
      ...added.map((route): RouteData => ({ action: 'add', before: null, after: bare(route) })),
      ...changed.map(
        ({ before, after }): RouteData => ({
          action: 'change',
          before: bare(before),
          after: bare(after),
        }),
      ),
      ...removed.map((route): RouteData => ({ action: 'remove', before: bare(route), after: null })),
    ],
  };
}

function idOf(change: Change): string | null {
  if (change.action === 'add') return null;
  if (change.kind === 'peer') return change.member.id;
  return change.action === 'change' ? change.before.id : change.service.id;
}
