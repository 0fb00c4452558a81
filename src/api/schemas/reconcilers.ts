import { Type } from 'typebox';
import { Nullable, strict, Time } from './fields.ts';
import { ReconcileState } from './services.ts';

export const Reconciler = Type.Object(
  {
    name: Type.String(),
    state: ReconcileState.properties.state,
    last_run_at: Nullable(Time),
    last_error: Nullable(Type.String()),
    next_run_at: Nullable(Time),
    applied_digest: Nullable(Type.String()),
    applied_position: Nullable(Type.Integer()),
    consecutive_failures: Type.Integer({ minimum: 0 }),
    condition: Nullable(
      Type.String({ description: 'What an operator should know although nothing failed.' }),
    ),
  },
  strict,
);
export const Reconcilers = Type.Object({ reconcilers: Type.Array(Reconciler) }, strict);
