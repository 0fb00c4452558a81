import { hash } from 'node:crypto';

/** SHA-256, hex. */
export const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/**
 * Digest of one row. A row is given as an array of its fields in a fixed order: JSON arrays of JSON scalars are their own
 * canonical form (RFC 8785), with nothing to sort.
 */
export const rowDigest = (fields: readonly unknown[]): string => sha256(JSON.stringify(fields));

/** Digest of a list of rows from theirs: rows that did not change are not hashed again. */
export const listDigest = (rows: Iterable<string>): string => sha256([...rows].join('\n'));
