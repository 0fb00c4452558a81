import { connectionFailure } from './failure.ts';

/** Reading answers of the API: what is there is shown, what a newer or older agent leaves out is a dash. */
export type Row = Readonly<Record<string, unknown>>;

export const isRow = (value: unknown): value is Row =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** An answer that must be an object. @throws Failure (connection) */
export function asRow(value: unknown, what: string): Row {
  if (isRow(value)) return value;
  throw connectionFailure(
    `the agent's answer to ${what} is not what this CLI understands. Compare 'arctic version' on both.`,
  );
}

/** Text of a field; a dash for nothing. */
export function show(row: Row, field: string): string {
  const value = row[field];
  if (value === undefined || value === null || value === '') return '-';
  if (Array.isArray(value)) return value.length === 0 ? '-' : value.map(String).join(', ');
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

export const textOf = (row: Row, field: string): string | undefined => {
  const value = row[field];
  return typeof value === 'string' ? value : undefined;
};

export const yesNo = (row: Row, field: string): string => (row[field] === true ? 'yes' : 'no');

/** Time for people, to the second, in UTC as the logs have it. */
export function showTime(row: Row, field: string): string {
  const value = row[field];
  if (typeof value !== 'string' || value === '') return '-';
  const time = Date.parse(value);
  return Number.isNaN(time) ? value : `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
