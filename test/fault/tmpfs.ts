/** A file system of a few megabytes that a test can fill; needs root, and is unmounted with the test. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface SmallDisk {
  readonly path: string;
  /** Takes what space is left, but for about `left` bytes. */
  fill(left?: number): void;
  free(): void;
  /** Read-only from now on, or writable again. Refused by the kernel while a file on it is open for writing. */
  remount(how: 'ro' | 'rw'): void;
}

export function mountSmallDisk(
  t: { teardown(run: () => void): void },
  path: string,
  megabytes: number,
): SmallDisk {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'tmpfs', path]);
  // Lazily: what still holds a file of it when a test has failed is ended by somebody else.
  t.teardown(() => execFileSync('umount', ['-l', path]));
  const ballast = join(path, 'ballast');
  return {
    path,
    fill(left = 0) {
      const block = Buffer.alloc(4_096, 1);
      try {
        for (;;) writeFileSync(ballast, block, { flag: 'a' });
      } catch (error) {
        if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOSPC') throw error;
      }
      if (left > 0) execFileSync('truncate', ['-s', `-${left}`, ballast]);
    },
    free: () => rmSync(ballast, { force: true }),
    remount: (how) => void execFileSync('mount', ['-o', `remount,${how}`, path]),
  };
}

/** Why such a disk cannot be had here; undefined when it can. */
export const noSmallDisk = (): string | undefined =>
  process.getuid?.() === 0 ? undefined : 'mounting a tmpfs needs root';
