import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import { ArcticError, type ErrorDetail } from '../../events/errors.ts';

const MAX_DETAILS = 20;

/**
 * Compiles a TypeBox schema to Fastify's validator. Bodies are taken as they are: nothing is coerced, filled in or
 * dropped. Query and path are text, so there a number or boolean may stand as its digits or word.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const check = Compile(schema);
  return (given: unknown) => {
    const value = httpPart === 'body' ? given : readText(schema, given);
    if (check.Check(value)) return { value };
    const details = detailsOf(check.Errors(value), httpPart === 'body' ? '' : (httpPart ?? ''));
    const [first] = details;
    const where = first === undefined || first.pointer === '' ? 'the body' : first.pointer;
    return {
      error: new ArcticError(
        'INVALID_REQUEST',
        `the request is not valid: ${where} ${first?.message ?? 'does not fit'}.`,
        details.slice(0, MAX_DETAILS),
      ),
    };
  };
};

function readText(schema: TSchema, given: unknown): unknown {
  if (typeof given !== 'object' || given === null || !('properties' in schema)) return given;
  const properties = schema.properties as Readonly<Record<string, { readonly type?: string }>>;
  return Object.fromEntries(
    Object.entries(given).map(([name, text]): [string, unknown] => {
      const type = Object.hasOwn(properties, name) ? properties[name]?.type : undefined;
      if (typeof text !== 'string') return [name, text];
      if (type === 'integer' && /^(0|[1-9]\d{0,15})$/.test(text)) return [name, Number(text)];
      if (type === 'boolean' && (text === 'true' || text === 'false')) return [name, text === 'true'];
      return [name, text];
    }),
  );
}

/** One fault a place, in words: what a union says about each of its branches becomes one sentence. */
function detailsOf(errors: readonly TLocalizedValidationError[], prefix: string): readonly ErrorDetail[] {
  const places = new Map<string, { allowed: string[]; messages: Set<string> }>();
  const at = (pointer: string) => {
    const key = `${prefix}${pointer}`;
    const place = places.get(key) ?? { allowed: [], messages: new Set<string>() };
    places.set(key, place);
    return place;
  };
  for (const error of errors) {
    switch (error.keyword) {
      case 'anyOf':
      case 'boolean':
        break;
      case 'required':
        for (const name of error.params.requiredProperties) {
          at(`${error.instancePath}/${escapePointer(name)}`).messages.add('is required');
        }
        break;
      case 'additionalProperties':
        for (const name of error.params.additionalProperties) {
          at(`${error.instancePath}/${escapePointer(name)}`).messages.add('is not a known field');
        }
        break;
      case 'const':
        at(error.instancePath).allowed.push(String(error.params.allowedValue));
        break;
      default:
        at(error.instancePath).messages.add(error.message);
    }
  }
  return [...places].map(([pointer, { allowed, messages }]) => ({
    pointer,
    message: [...(allowed.length > 0 ? [`must be one of ${allowed.join(', ')}`] : []), ...messages].join(
      ' or ',
    ),
  }));
}

const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1');
