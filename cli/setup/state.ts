import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { writePrivateFile } from '../../src/identity/private-file.ts';
import { configurationFailure, errorCode, systemReason } from '../failure.ts';
import { isRow } from '../fields.ts';
import type { Answers } from './answers.ts';

/** What an interrupted setup leaves, so that the next one goes on. Holds no secret; 0600 all the same. */
export interface SetupState {
  readonly startedAt: string;
  readonly answers: Answers;
}

const FORMAT = 1;

/** Undefined when there is none; one that cannot be understood is none either, and setup asks anew. */
export function readState(path: string): SetupState | undefined {
  try {
    const found: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (!isRow(found) || found['format'] !== FORMAT || !isRow(found['answers'])) return undefined;
    return { startedAt: String(found['started_at']), answers: found['answers'] };
  } catch (error) {
    if (error instanceof SyntaxError || errorCode(error) === 'ENOENT') return undefined;
    throw configurationFailure(`cannot read ${path}: ${systemReason(error)}. Run setup as root.`);
  }
}

export function writeState(path: string, state: SetupState): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const text = JSON.stringify(
      { format: FORMAT, started_at: state.startedAt, answers: state.answers },
      null,
      2,
    );
    writePrivateFile(path, `${text}\n`, { replace: true });
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw configurationFailure(`cannot write ${path}: ${systemReason(cause)}. Run setup as root.`);
  }
}

export const forgetState = (path: string): void => rmSync(path, { force: true });
