#!/usr/bin/env node
import { main } from './program.ts';

// A reader that closes its end (`arctic events list | head`) ends the command; it is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? (process.exitCode ?? 0) : 1);
});
// Notes and logs that nobody reads any more are no reason to stop, least of all for an agent.
process.stderr.on('error', () => {});

process.exitCode = await main(process.argv.slice(2), process.env);
