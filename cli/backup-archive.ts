import { createHash } from 'node:crypto';
import {
  chmodSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { EXIT } from '../events/errors.ts';
import { Failure, systemReason } from './failure.ts';
import { isRow } from './fields.ts';
import { readTar, type TarEntry, writeTar } from './tar.ts';

const FORMAT = 'arctic-backup-1';
const DATABASE = 'arctic.db';
const KEY = 'peer.key';
const MANIFEST = 'manifest.json';
/** What a backup may hold; a name of an archive is a path on this host, so nothing else is taken from one. */
const NAMES = /^(manifest\.json|arctic\.db|peer\.key|arctic\.env|trust-roots\/[A-Za-z0-9._-]+\.pub)$/;
const MAX_MANIFEST_BYTES = 1024 * 1024;

export interface Manifest {
  readonly format: typeof FORMAT;
  readonly created_at: string;
  readonly version: string;
  readonly peer_id: string;
  /** Position of the newest event. */
  readonly head: number;
  readonly files: readonly { readonly name: string; readonly sha256: string }[];
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Writes through a private temporary file, so that FILE is whole or not there. */
export async function writeArchive(file: string, entries: readonly TarEntry[]): Promise<void> {
  const temporary = join(dirname(file), `.${basename(file)}.${process.pid}`);
  try {
    await pipeline(
      writeTar(entries),
      createGzip(),
      createWriteStream(temporary, { mode: 0o600, flags: 'wx' }),
    );
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new Failure(EXIT.general, `cannot write ${file}: ${systemReason(error)}.`, [], { cause: error });
  }
}

export interface Source {
  readonly dataDir: string;
  readonly configDir: string;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** A verified copy of the log of one moment, the key it is written with, and what else the host cannot do without. */
export async function makeBackup(file: string, source: Source): Promise<Manifest> {
  const { dataDir, configDir, now } = source;
  const [{ backUpLog }, { openLogReader }] = await Promise.all([
    import('../events/log-backup.ts'),
    import('../events/log.ts'),
  ]);
  const work = mkdtempSync(join(dataDir, '.backup-'));
  try {
    const copy = join(work, DATABASE);
    await backUpLog(join(dataDir, DATABASE), copy);
    const log = openLogReader({ path: copy, verify: 'tail' });
    const { origin, head } = log;
    log.close();
    const roots = join(configDir, 'trust-roots');
    const files = [
      { name: DATABASE, path: copy, mode: 0o600 },
      { name: KEY, path: join(dataDir, KEY), mode: 0o600 },
      { name: 'arctic.env', path: join(configDir, 'arctic.env'), mode: 0o600 },
      ...(existsSync(roots) ? readdirSync(roots) : []).map((name) => ({
        name: `trust-roots/${name}`,
        path: join(roots, name),
        mode: 0o644,
      })),
    ].filter(({ name, path }) => NAMES.test(name) && existsSync(path));
    const manifest: Manifest = {
      format: FORMAT,
      created_at: new Date(now).toISOString(),
      version: source.version,
      peer_id: origin,
      head,
      files: await Promise.all(files.map(async ({ name, path }) => ({ name, sha256: await sha256Of(path) }))),
    };
    const mtime = Math.floor(now / 1000);
    await writeArchive(file, [
      { name: MANIFEST, mode: 0o600, mtime, content: Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`) },
      ...files.map(({ name, path, mode }) => ({
        name,
        mode,
        mtime,
        content: { path, size: statSync(path).size },
      })),
    ]);
    return manifest;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const refuse = (file: string, why: string, cause?: unknown): never => {
  throw new Failure(EXIT.general, `${file} is not a backup that can be restored: ${why}.`, [], { cause });
};

function parseManifest(file: string, text: string): Manifest {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (error) {
    return refuse(file, 'its manifest is not JSON', error);
  }
  if (!isRow(found) || found['format'] !== FORMAT || !Array.isArray(found['files']))
    return refuse(file, `its manifest is not one of ${FORMAT}`);
  return found as unknown as Manifest;
}

/** Unpacks a backup into a private directory and checks every byte of it. The caller removes the directory. */
export async function openBackup(file: string, into: string): Promise<Manifest> {
  let manifest: Manifest | undefined;
  try {
    const unpacked = createReadStream(file).on('error', (error) => gunzip.destroy(error));
    const gunzip = createGunzip();
    unpacked.pipe(gunzip);
    for await (const { name, size, content } of readTar(gunzip)) {
      if (!NAMES.test(name)) return refuse(file, `it holds '${name}'`);
      const path = join(into, name);
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      if (name === MANIFEST && size > MAX_MANIFEST_BYTES) return refuse(file, 'its manifest is too large');
      await pipeline(content, createWriteStream(path, { mode: 0o600, flags: 'wx' }));
      if (name === MANIFEST) manifest = parseManifest(file, readFileSync(path, 'utf8'));
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    const why = error instanceof RangeError ? error.message : systemReason(error);
    return refuse(file, why, error);
  }
  if (manifest === undefined) return refuse(file, 'it has no manifest');
  for (const name of [DATABASE, KEY])
    if (!manifest.files.some((one) => one.name === name)) return refuse(file, `it has no ${name}`);
  for (const { name, sha256 } of manifest.files) {
    const path = join(into, name);
    if (!NAMES.test(name) || !existsSync(path) || (await sha256Of(path)) !== sha256)
      return refuse(file, `${name} was altered or is missing`);
  }
  return manifest;
}

/** Puts the log and key aside that are there, and those of the backup in their place. The log must not be open. */
export function putInPlace(
  from: string,
  target: { dataDir: string; configDir: string },
  aside: string,
): string[] {
  const { dataDir, configDir } = target;
  const moved: string[] = [];
  for (const name of [DATABASE, `${DATABASE}-wal`, `${DATABASE}-shm`, KEY]) {
    const path = join(dataDir, name);
    if (!existsSync(path)) continue;
    mkdirSync(aside, { recursive: true, mode: 0o700 });
    renameSync(path, join(aside, name));
    moved.push(name);
  }
  for (const name of [KEY, DATABASE]) {
    chmodSync(join(from, name), 0o600);
    renameSync(join(from, name), join(dataDir, name));
  }
  // Roots and settings of this host stand; what is missing is brought back.
  const roots = join(from, 'trust-roots');
  mkdirSync(join(configDir, 'trust-roots'), { recursive: true, mode: 0o755 });
  const extras = [
    'arctic.env',
    ...(existsSync(roots) ? readdirSync(roots).map((name) => `trust-roots/${name}`) : []),
  ];
  for (const name of extras) {
    const to = join(configDir, name);
    if (!existsSync(join(from, name)) || existsSync(to)) continue;
    chmodSync(join(from, name), name === 'arctic.env' ? 0o600 : 0o644);
    renameSync(join(from, name), to);
    moved.push(name);
  }
  return moved;
}
