#!/usr/bin/env node
import { main } from './program.ts';

// A reader that closes its end (`arctic events tail | head`) ends the command; it is no fault.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? (process.exitCode ?? 0) : 1);
  });

process.exitCode = await main(process.argv.slice(2), process.env);
