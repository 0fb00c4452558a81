/** A JSON Schema in the notation people read: the type that TypeScript would call it. */
import type { Schema } from './cli-schema.ts';

const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const schemasOf = (value: unknown): readonly Schema[] =>
  (Array.isArray(value) ? value : isSchema(value) ? Object.values(value) : []).filter(isSchema);

/** Longest line before an object is laid out a field a line. */
const WIDTH = 96;

/** `{ id: string, name: string | null }`, over several lines where it does not fit one. */
export function shapeOf(schema: Schema, indent = ''): string {
  if (typeof schema['$ref'] === 'string') return schema['$ref'].replace(/^.*\//, '');
  if ('const' in schema) return JSON.stringify(schema['const']);
  if (Array.isArray(schema['enum'])) return schema['enum'].map((one) => JSON.stringify(one)).join(' | ');
  const union = schemasOf(schema['anyOf']);
  if (union.length > 0) return union.map((one) => shapeOf(one, indent)).join(' | ');
  const parts = schemasOf(schema['allOf']);
  if (parts.length > 0) return parts.map((one) => shapeOf(one, indent)).join(' & ');
  if (schema['type'] === 'array') return arrayShape(schema, indent);
  if (schema['type'] === 'object') return objectShape(schema, indent);
  if (schema['type'] === 'string') return schema['format'] === 'date-time' ? 'time' : 'string';
  if (typeof schema['type'] === 'string') return schema['type'];
  return 'not' in schema ? 'never' : 'any';
}

function arrayShape(schema: Schema, indent: string): string {
  const { items } = schema;
  if (!isSchema(items)) return 'any[]';
  if ('not' in items) return '[]';
  const shape = shapeOf(items, indent);
  return / [|&] /.test(shape) && !shape.startsWith('{') ? `(${shape})[]` : `${shape}[]`;
}

function objectShape(schema: Schema, indent: string): string {
  const { properties, patternProperties } = schema;
  if (!isSchema(properties)) {
    const [values] = schemasOf(patternProperties);
    return `{ [name]: ${values === undefined ? 'any' : shapeOf(values, indent)} }`;
  }
  const required = new Set(Array.isArray(schema['required']) ? schema['required'] : []);
  const fields = (inner: string) =>
    Object.entries(properties).map(
      ([name, value]) =>
        `${name}${required.has(name) ? '' : '?'}: ${isSchema(value) ? shapeOf(value, inner) : 'any'}`,
    );
  const short = `{ ${fields(indent).join(', ')} }`;
  if (short.length + indent.length <= WIDTH && !short.includes('\n')) return short;
  const inner = `${indent}  `;
  return `{\n${fields(inner)
    .map((field) => `${inner}${field}\n`)
    .join('')}${indent}}`;
}
