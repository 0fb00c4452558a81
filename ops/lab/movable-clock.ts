/** A clock that a test moves while the programs of a lab host run on it. */
import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { preloadTool } from './build-tools.ts';

export interface MovableClock {
  /** For every program that shall run on this clock. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets the wall clock to this many milliseconds after the machine's; what it shows may go back. */
  shiftWall(ms: number): void;
  /** Lets this many milliseconds pass at once, on the wall clock and on the monotonic one. */
  pass(ms: number): void;
}

/** The file that holds the shift is made in `directory`, which must outlive the programs. */
export async function createMovableClock(directory: string): Promise<MovableClock> {
  const shim = await preloadTool('clockshift', directory);
  const path = join(directory, 'clock-shift');
  const file = openSync(path, 'w', 0o644);
  let wall = 0;
  let monotonic = 0;
  const write = (): void => {
    const page = Buffer.alloc(16);
    page.writeBigInt64LE(BigInt(Math.trunc(wall)), 0);
    page.writeBigInt64LE(BigInt(Math.trunc(monotonic)), 8);
    writeSync(file, page, 0, page.length, 0);
  };
  write();
  return {
    env: { LD_PRELOAD: shim, CLOCK_SHIFT: path },
    shiftWall(ms) {
      wall = ms;
      write();
    },
    pass(ms) {
      wall += ms;
      monotonic += ms;
      write();
    },
  };
}
