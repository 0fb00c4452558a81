import type { Test } from 'tap';
import {
  type Kernel,
  KernelError,
  type KernelNotice,
  type NftElement,
} from '../../../src/kernel/contract.ts';

export interface Subject {
  readonly kernel: Kernel;
  /** Index of a device a MACVLAN can stand on. */
  readonly parentIndex: number;
  /** Adds an empty table as another process; answers its pid and program. */
  addForeignTable(name: string): Promise<{ readonly pid: number | undefined; readonly program: string }>;
  /** Adds one element to a set of `inet arctic` as another process. */
  addForeignElement(set: string, element: NftElement): Promise<void>;
  /** `nft -j list table inet arctic` and `ip -j ...`, where there is such a reader. */
  readonly reader?: {
    readonly nft: (...args: readonly string[]) => Promise<string>;
    readonly ip: (...args: readonly string[]) => Promise<string>;
  };
}

/** Gives a started kernel in a state nobody else uses; the caller's teardown stops it. */
export type MakeSubject = (t: Test) => Promise<Subject>;

export const codeOf = (error: unknown) => (error instanceof KernelError ? error.code : String(error));

export async function refused(t: Test, work: Promise<unknown>, code: string, subject: RegExp): Promise<void> {
  try {
    await work;
    t.fail(`expected ${code}`);
  } catch (error) {
    t.equal(codeOf(error), code, String(error));
    t.match(error instanceof KernelError ? error.subject : '', subject, 'the error names our object');
  }
}

/** The next notice about a subsystem, for events that do come; the test's own time limit ends a wait in vain. */
export function nextNotice(kernel: Kernel, wanted: (notice: KernelNotice) => boolean): Promise<KernelNotice> {
  return new Promise((resolve) => {
    const stop = kernel.watch((notice) => {
      if (!wanted(notice)) return;
      stop();
      resolve(notice);
    });
  });
}
