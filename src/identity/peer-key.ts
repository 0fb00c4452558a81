import { closeSync, fstatSync, openSync, readFileSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import type { PeerId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { createSigner, SEED_BYTES } from '../../events/ed25519.ts';
import { ArcticError } from '../../events/errors.ts';
import { type Ids, newPeerId, parsePeerId } from '../../events/ids.ts';
import type { Identity } from './contract.ts';
import { fileRefusal, syncDirectory, writePrivateFile } from './private-file.ts';

const HEADER = 'arctic-peer-key-v1';

/**
 * The local peer's identity from its key file, which is made on the first start. The file is three lines: a header, the
 * peer id, and the Ed25519 seed in base64. Throws an ArcticError that names the file when it cannot be read or written,
 * is damaged, or can be read by anyone but its owner.
 */
export function loadOrCreatePeerKey(
  path: string,
  deps: { readonly ids: Ids; readonly random: Random },
): Identity & { readonly created: boolean } {
  const found = readPeerKey(path);
  if (found !== undefined) return { ...found, created: false };
  const seed = deps.random.bytes(SEED_BYTES);
  const text = `${HEADER}\n${newPeerId(deps.ids)}\n${Buffer.from(seed).toString('base64')}\n`;
  writePrivateFile(path, text, { replace: false });
  return { ...parse(path, text), created: true };
}

/** The identity in an existing key file; undefined when there is no file. */
export function readPeerKey(path: string): Identity | undefined {
  const text = readGuarded(path);
  return text === undefined ? undefined : parse(path, text);
}

/**
 * Puts the key file aside under a dated name and returns that name. A host whose database is gone must come back under
 * a new identity: its old one has signed events that it no longer remembers, and a second event under one sequence
 * number is equivocation to every other peer.
 */
export function retirePeerKey(path: string, clock: Clock): string {
  const aside = `${path}.retired-${new Date(clock.now()).toISOString().replaceAll(/[:.]/g, '-')}`;
  try {
    renameSync(path, aside);
    syncDirectory(dirname(path));
  } catch (error) {
    throw fileRefusal('write', aside, error);
  }
  return aside;
}

function readGuarded(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw fileRefusal('read', path, error);
  }
  try {
    // Checked on the open file, so that it cannot be exchanged between the check and the read.
    const mode = fstatSync(file).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new ArcticError(
        'FORBIDDEN',
        `the peer key ${path} has mode 0${mode.toString(8)}, so others on this host can use it; ` +
          `if nobody has, run: chmod 600 ${path}. Otherwise delete it and bootstrap this agent again.`,
      );
    }
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw fileRefusal('read', path, error);
  } finally {
    closeSync(file);
  }
}

function parse(path: string, text: string): Identity {
  const [header, id, encoded, ...rest] = text.split('\n');
  const peerId: PeerId | undefined = parsePeerId(id);
  const seed = /^[A-Za-z0-9+/]{43}=$/.test(encoded ?? '') ? Buffer.from(encoded ?? '', 'base64') : undefined;
  if (header !== HEADER || peerId === undefined || seed === undefined || rest.join('') !== '') {
    throw new ArcticError(
      'INVALID_REQUEST',
      `the peer key ${path} is damaged; restore it from a backup, or delete it and the database and bootstrap this agent again.`,
    );
  }
  const signer = createSigner(seed);
  seed.fill(0);
  return { peerId, publicKey: signer.publicKey, sign: signer.sign };
}
