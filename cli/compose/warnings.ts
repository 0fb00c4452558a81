import { EXIT } from '../../events/errors.ts';
import type { Context } from '../context.ts';
import { Failure } from '../failure.ts';
import type { Input } from '../input.ts';

/** Notes them on stderr; with --strict they are an error. @throws Failure (general) */
export function showWarnings(context: Context, input: Input, warnings: readonly string[]): void {
  for (const warning of warnings) context.terminal.note(`Warning: ${warning}.`);
  if (!input.flag('strict') || warnings.length === 0) return;
  const count = warnings.length === 1 ? '1 warning' : `${warnings.length} warnings`;
  throw new Failure(EXIT.general, `${count}, and --strict allows none; nothing was changed.`);
}
