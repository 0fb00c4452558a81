#!/usr/bin/env -S node --
// The -- keeps Node 20 from taking our own --env-file for its own.
import { systemReason } from './failure.ts';
import { main } from './program.ts';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that closes its end (`arctic events list | head`) ends the command; it is no fault.
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  process.stderr.write(`Error: cannot write the output: ${systemReason(error)}.\n`);
  process.exit(1);
});
// Notes and logs that nobody reads any more are no reason to stop, least of all for an agent.
process.stderr.on('error', () => {});

process.exitCode = await main(process.argv.slice(2), process.env);
