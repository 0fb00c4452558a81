import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { completionScript } from '../completion-script.ts';
import { GROUPS } from '../table.ts';

export const completion: Run = async (context, input) => {
  const shell = input.arg(0);
  context.terminal.data(completionScript(shell === 'zsh' || shell === 'fish' ? shell : 'bash', GROUPS));
  return EXIT.success;
};
