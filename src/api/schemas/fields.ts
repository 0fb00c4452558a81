import { type TSchema, Type } from 'typebox';

export const strict = { additionalProperties: false } as const;
export const Nullable = <S extends TSchema>(schema: S, options: { readonly description?: string } = {}) =>
  Type.Union([schema, Type.Null()], options);
export const Time = Type.String({ format: 'date-time' });
export const CidrText = Type.String({ minLength: 1, maxLength: 64 });
export const Version = Type.Integer({ minimum: 0, description: 'What If-Match compares; also the ETag.' });
const Cursor = Nullable(
  Type.String({ description: 'Give it as `cursor` for the next page; null on the last.' }),
);
export const Priority = Type.Integer({ minimum: 0, maximum: 65_535, description: 'Higher wins.' });
export const RouteNumber = Type.Integer({ minimum: 1 });
export const listOf = (name: string, item: TSchema) =>
  Type.Object({ [name]: Type.Array(item), next_cursor: Cursor }, strict);
export const ErrorAnswer = Type.Object(
  {
    error: Type.String({ description: 'For a person.' }),
    code: Type.String({ pattern: '^[A-Z_]+$' }),
    details: Type.Optional(
      Type.Array(Type.Object({ pointer: Type.String(), message: Type.String() }, strict)),
    ),
  },
  strict,
);
export const SecretText = Type.String({ pattern: '^sec_[A-Za-z0-9_-]{43}$' });
