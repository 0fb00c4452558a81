import { Type } from 'typebox';
import { strict, Time } from './fields.ts';

export const LogLevelBody = Type.Object(
  {
    level: Type.Union([Type.Literal('trace'), Type.Literal('debug'), Type.Literal('info')]),
    seconds: Type.Integer({
      minimum: 1,
      maximum: 3_600,
      description: 'The level falls back by itself then.',
    }),
  },
  strict,
);
export const LogLevelAnswer = Type.Object({ level: Type.String(), until: Time }, strict);
export const Health = Type.Object({ status: Type.Literal('ok'), timestamp: Time }, strict);
export const Readiness = Type.Object(
  {
    status: Type.Union([Type.Literal('ok'), Type.Literal('unavailable')]),
    timestamp: Time,
    checks: Type.Array(
      Type.Object({ name: Type.String(), ok: Type.Boolean(), detail: Type.String() }, strict),
    ),
  },
  strict,
);
