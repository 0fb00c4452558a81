import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { isPublicKey, PUBLIC_KEY_BYTES } from '../../events/ed25519.ts';
import { ArcticError } from '../../events/errors.ts';
import { fileRefusal } from './private-file.ts';

/** A public key that licenses may be signed with. */
export interface TrustRoot {
  /** File name without `.pub`. */
  readonly name: string;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/**
 * Every `*.pub` of the directory; none when there is no directory. A file holds one base64 key; lines that start with
 * `#` are comments. Who can write a root can issue licenses, so a file, or the directory, that anyone but root and
 * the agent's own user can write is refused.
 */
export function loadTrustRoots(directory: string): readonly TrustRoot[] {
  let names: readonly string[];
  try {
    refuseWritableByOthers(directory, statSync(directory));
    names = readdirSync(directory)
      .filter((name) => name.endsWith('.pub'))
      .sort();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw fileRefusal('read', directory, error);
  }
  return names.map((name) => {
    const path = join(directory, name);
    try {
      refuseWritableByOthers(path, statSync(path));
      return {
        name: name.slice(0, -'.pub'.length),
        publicKey: parsePublicRoot(readFileSync(path, 'utf8'), path),
      };
    } catch (error) {
      throw fileRefusal('read', path, error);
    }
  });
}

/** The key in the text of a `.pub` file. */
export function parsePublicRoot(text: string, path: string): Uint8Array {
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const [line] = lines;
  const key = Buffer.from(line ?? '', 'base64');
  if (
    lines.length !== 1 ||
    key.length !== PUBLIC_KEY_BYTES ||
    key.toString('base64') !== line ||
    !isPublicKey(key)
  ) {
    throw new ArcticError(
      'LICENSE_INVALID',
      `the trust root ${path} is not a license root: it must hold one Ed25519 public key in base64 (44 characters).`,
    );
  }
  return new Uint8Array(key);
}

export const formatPublicRoot = (key: Uint8Array): string =>
  `# Arctic license root (Ed25519 public key)\n${Buffer.from(key).toString('base64')}\n`;

function refuseWritableByOthers(path: string, stats: Stats): void {
  const mode = stats.mode & 0o777;
  if ((mode & 0o022) !== 0) {
    throw new ArcticError(
      'LICENSE_INVALID',
      `the trust root ${path} has mode 0${mode.toString(8)}, so others can write it; check its content, then run: chmod go-w ${path}`,
    );
  }
  if (stats.uid !== 0 && stats.uid !== process.getuid?.()) {
    throw new ArcticError(
      'LICENSE_INVALID',
      `the trust root ${path} belongs to user ${stats.uid}, who can write it; check its content, then run: chown root ${path}`,
    );
  }
}
