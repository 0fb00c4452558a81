/** What the relay is given. Structural, so that the engine imports nothing of the rest of Arctic. */

/** Satisfied by `events/clock.ts`. */
export interface EngineClock {
  now(): number;
  /** Milliseconds. */
  monotonic(): number;
  /** Runs once after `ms`; the returned function cancels. */
  after(ms: number, run: () => void): () => void;
}

export interface EngineRandom {
  /** Cryptographically secure. */
  bytes(count: number): Uint8Array;
}

/** Satisfied by pino. */
export interface EngineLogger {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}
