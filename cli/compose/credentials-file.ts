import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { writePrivateFile } from '../../src/identity/private-file.ts';
import { exposure } from '../config-file.ts';
import { configurationFailure, errorCode, systemReason } from '../failure.ts';
import { isRow, textOf } from '../fields.ts';

/** An OAuth2 client in a file of its own, for pipelines that keep no configuration. */
export interface Credentials {
  readonly client_id: string;
  readonly client_secret: string;
}

/** The credentials in a JSON file; undefined where there is no such file. @throws Failure (configuration) */
export function readCredentials(path: string, warn: (text: string) => void): Credentials | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
    const exposed = exposure(path);
    if (exposed !== undefined) warn(`Warning: ${exposed}`);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw configurationFailure(`cannot read the credentials file ${path}: ${systemReason(error)}.`);
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    content = undefined;
  }
  const id = isRow(content) ? textOf(content, 'client_id') : undefined;
  const secret = isRow(content) ? textOf(content, 'client_secret') : undefined;
  if (id === undefined || secret === undefined)
    throw configurationFailure(
      `${path} holds no credentials: it must be a JSON object with client_id and client_secret.`,
    );
  return { client_id: id, client_secret: secret };
}

/** Writes the credentials of a new cluster, readable by their owner only. @throws ArcticError naming the file */
export function writeCredentials(
  path: string,
  credentials: Credentials & { readonly cluster_id: string },
): void {
  const target = resolve(path);
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
  writePrivateFile(target, `${JSON.stringify(credentials, null, 2)}\n`, { replace: true });
}
