import { type TSchema, Type } from 'typebox';

/** Nothing but the fields named: one that is added is a change of the contract. */
export const strict = { additionalProperties: false } as const;
export const Nullable = <S extends TSchema>(schema: S) => Type.Union([schema, Type.Null()]);
export const oneOf = (...texts: readonly string[]) => Type.Union(texts.map((text) => Type.Literal(text)));
export const Texts = Type.Array(Type.String());
export const Count = Type.Integer({ minimum: 0 });
export const Time = Type.String({ format: 'date-time' });
