import { Type } from 'typebox';
import { ClusterIdField } from '../../events/catalogue/fields.ts';
import { ClusterFile } from '../compose/schema.ts';
import { Count, Nullable, oneOf, strict, Texts } from './strict.ts';

const File = Type.String({ description: 'As it was named; - is stdin.' });
const Value = Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()]);
const Rule = Nullable(
  Type.Object(
    {
      priority: Type.Integer({ minimum: 0, maximum: 65_535 }),
      source_cidr: Nullable(Type.String()),
      dest_cidr: Nullable(Type.String()),
    },
    strict,
  ),
);
const Action = oneOf('add', 'change', 'remove');

/** `compose diff`: what it takes to make the cluster what the file says. */
export const PLAN = Type.Object(
  {
    changes: Type.Array(
      Type.Object(
        {
          kind: oneOf('peer', 'service'),
          action: Action,
          name: Type.String(),
          id: Nullable(Type.String({ description: 'Null for what is to be made.' })),
          fields: Type.Array(Type.Object({ field: Type.String(), before: Value, after: Value }, strict)),
          routes: Type.Array(Type.Object({ action: Action, before: Rule, after: Rule }, strict)),
        },
        strict,
      ),
    ),
    summary: Type.Object({ add: Count, change: Count, remove: Count }, strict),
    warnings: Texts,
  },
  strict,
);

const State = oneOf('applied', 'pending', 'failed');

/** `compose apply` and `compose rollback`: the plan, what became of each step, and where each peer stands. */
export const RUN = Type.Object(
  {
    changed: Type.Boolean(),
    dry_run: Type.Boolean(),
    cluster_id: Nullable(ClusterIdField),
    correlation_id: Nullable(Type.String({ description: 'Of all events of the run.' })),
    plan: PLAN,
    steps: Type.Array(
      Type.Object({ step: Type.String(), state: oneOf('done', 'failed', 'not tried') }, strict),
    ),
    peers: Type.Array(
      Type.Object(
        {
          peer: Type.String(),
          received: Type.Boolean(),
          applied: Type.Boolean(),
          note: Type.String(),
          reconcilers: Type.Array(
            Type.Object(
              { reconciler: Type.String(), state: State, reason: Type.Optional(Nullable(Type.String())) },
              strict,
            ),
          ),
        },
        strict,
      ),
    ),
    error: Nullable(Type.String({ description: 'Why it ended before its end.' })),
  },
  strict,
);

export const WRITTEN = Type.Object({ file: File }, strict);
export const FORMATTED = Type.Union([
  Type.Object({ file: File, changed: Type.Boolean() }, strict),
  Type.Object(
    { file: File, formatted: Type.Boolean({ description: 'With --check: it is in the common layout.' }) },
    strict,
  ),
]);
export const VALIDATED = Type.Union([
  Type.Object(
    {
      file: File,
      valid: Type.Literal(true),
      errors: Type.Array(Type.Never()),
      peers: Count,
      services: Count,
      routes: Count,
    },
    strict,
  ),
  Type.Object(
    {
      file: File,
      valid: Type.Literal(false),
      errors: Type.Array(
        Type.Object(
          {
            file: File,
            line: Type.Integer({ minimum: 1 }),
            column: Type.Integer({ minimum: 1 }),
            message: Type.String(),
          },
          strict,
        ),
      ),
    },
    strict,
  ),
]);
/** `compose export`: the file itself, as JSON. */
export const EXPORTED = ClusterFile;
