import { CATALOGUE, isKnownType } from './catalogue.ts';
import { ArcticError } from './errors.ts';
import type { LogReader } from './log-contract.ts';
import { didYouMean } from './suggest.ts';

/**
 * Refuses to look for events of a type that does not exist: a slip would pass for a history in which nothing happened. What only
 * a newer peer knows is taken once the log holds such an event.
 */
export function expectTypes(types: readonly string[], log: Pick<LogReader, 'read'>): void {
  for (const type of types) {
    if (isKnownType(type) || log.read({ types: [type], limit: 1 }).length > 0) continue;
    throw new ArcticError(
      'INVALID_REQUEST',
      `there is no event type ${JSON.stringify(type)}.${didYouMean(type, Object.keys(CATALOGUE))} ` +
        'The catalogue of events (ops/docs/events.md) lists them all.',
      [{ pointer: 'querystring/type', message: 'is neither in the catalogue of events nor in this log' }],
    );
  }
}
