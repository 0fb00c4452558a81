/** Builds the native relay without N-API, and programs over it, with sanitizers. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const NATIVE = join(HERE, '..', '..', '..', 'src', 'native');

const ADDON_OBJECTS = join(NATIVE, 'build', 'Release', 'obj.target', 'arctic_relay');

const FLAGS = [
  '-std=c++17',
  '-g',
  '-O1',
  '-Wall',
  '-Wextra',
  '-D_GNU_SOURCE',
  '-fno-sanitize-recover=undefined',
  '-fno-omit-frame-pointer',
  // The OpenSSL headers of this node, as the add-on is built with.
  `-I${join(dirname(dirname(process.execPath)), 'include', 'node')}`,
];
const SANITIZERS = 'address,undefined';

const below = (folder: string, leave: readonly string[] = []): string[] =>
  readdirSync(join(NATIVE, folder))
    .filter((name) => name.endsWith('.cc') && !leave.includes(name))
    .map((name) => join(NATIVE, folder, name));

/** What the decoders alone need. */
export const DECODERS = [
  ...['commands', 'frames', 'link_keys'].map((name) => join(NATIVE, 'relay', `${name}.cc`)),
  join(NATIVE, 'tunnel', 'aegis128l.cc'),
];
/** Associations of KCP, without their sockets. */
export const ASSOCIATIONS = [
  ...below('kcp', ['endpoint.cc', 'endpoint_sockets.cc']),
  ...['frames', 'link_keys'].map((name) => join(NATIVE, 'relay', `${name}.cc`)),
  join(NATIVE, 'tunnel', 'aegis128l.cc'),
];
/** The whole relay. */
export const RELAY = [
  ...below('relay', ['binding.cc']),
  ...below('kcp'),
  join(NATIVE, 'tunnel', 'aegis128l.cc'),
];

export const hasClang = (): boolean => spawnSync('clang++', ['--version']).status === 0;

/** Inputs of a target that are kept: every one once found something, names a case of the format or reaches lines no other does (`found-`). */
export const corpusOf = (target: string): readonly string[] =>
  readdirSync(join(HERE, 'corpus', target)).map((name) => join(HERE, 'corpus', target, name));

export interface Builder {
  /** With `libfuzzer` by clang and its driver, else by g++ with driver.cc where `files` names it. */
  program(
    name: string,
    files: readonly string[],
    sources: readonly string[],
    options?: { readonly libfuzzer?: boolean },
  ): string;
  /** Without sanitizers, over the objects of the add-on as `npm run build` has left them: in two seconds instead of a minute. */
  overAddon(name: string, files: readonly string[]): string;
  remove(): void;
}

/** What the add-on consists of, without N-API. */
const addonObjects = (): string[] =>
  readdirSync(ADDON_OBJECTS, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.o') && !name.endsWith('binding.o'))
    .map((name) => join(ADDON_OBJECTS, name));

export function createBuilder(): Builder {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-fuzz-'));
  const objects = new Map<string, string>();
  const run = (compiler: string, argv: readonly string[]): void => {
    execFileSync(compiler, argv, { stdio: ['ignore', 'ignore', 'inherit'] });
  };
  return {
    program(name, files, sources, { libfuzzer = false } = {}) {
      const compiler = libfuzzer ? 'clang++' : 'g++';
      const flags = [...FLAGS, `-fsanitize=${SANITIZERS}${libfuzzer ? ',fuzzer-no-link' : ''}`];
      const made = [...sources, ...files.map((file) => join(HERE, file))].map((source) => {
        const key = `${compiler} ${source}`;
        const object = objects.get(key) ?? join(directory, `${objects.size}.o`);
        if (!objects.has(key)) run(compiler, [...flags, '-c', source, '-o', object]);
        objects.set(key, object);
        return object;
      });
      const program = join(directory, `${name}-${compiler}`);
      const link = `-fsanitize=${SANITIZERS}${libfuzzer ? ',fuzzer' : ''}`;
      run(compiler, [...made, link, '-l:libcrypto.so.3', '-pthread', '-o', program]);
      return program;
    },
    overAddon(name, files) {
      const program = join(directory, `${name}-over-addon`);
      const sources = [...files.map((file) => join(HERE, file)), ...addonObjects()];
      run('g++', [...FLAGS, ...sources, '-l:libcrypto.so.3', '-pthread', '-o', program]);
      return program;
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
