import type { Logger } from 'pino';

/** Undoes what was started, newest first; one failure does not keep the rest from being undone. */
export class Unwinding {
  readonly #steps: { readonly what: string; readonly undo: () => void | Promise<void> }[] = [];
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(what: string, undo: () => void | Promise<void>): void {
    this.#steps.push({ what, undo });
  }

  async run(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        this.#logger.error({ err: error, part: step.what }, 'could not stop in order');
      }
    }
  }
}
