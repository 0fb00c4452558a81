import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';

export const completion: Run = async (context, input) => {
  const shell = input.arg(0);
  context.terminal.data(await context.completionScript(shell === 'zsh' || shell === 'fish' ? shell : 'bash'));
  return EXIT.success;
};
