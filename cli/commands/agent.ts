import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { configurationFailure } from '../failure.ts';

/** Runs the agent in this process. The only place of the CLI that brings in the agent, and with it the add-on. */
export const agent: Run = async (context) => {
  if (process.platform !== 'linux')
    throw configurationFailure(
      `the agent runs on Linux only, and this is ${process.platform}. The other commands work here with --url.`,
    );
  const { runAgent } = await import('../../src/agent.ts');
  const code: unknown = await runAgent(context.env);
  return typeof code === 'number' ? code : EXIT.success;
};
