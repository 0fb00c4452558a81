/** Builds programs over the tunnel's core without N-API. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const NATIVE = join(HERE, '..', '..', '..', 'src', 'native');
const ADDON_OBJECTS = join(NATIVE, 'build', 'Release', 'obj.target', 'arctic_native', 'tunnel');
const HEADERS = join(dirname(dirname(process.execPath)), 'include', 'node');
const FLAGS = [
  ...['-std=c++17', '-Wall', '-Wextra', '-D_GNU_SOURCE'],
  ...(existsSync(HEADERS) ? [`-I${HEADERS}`] : []),
];
const LIBRARIES = ['-l:libcrypto.so.3', '-lpthread'];

/** All but the two threads and their sockets. */
export const CORE = ['aead', 'aegis128l', 'datagram', 'packet', 'policy', 'table'];
export const WHOLE = [...CORE, 'loop', 'egress', 'ingress'];

export const CORPUS = join(HERE, 'corpus');
/** Inputs that are kept: each names a case of a format, or reaches code that no other does (`found-`). */
export const corpus = (): readonly string[] => readdirSync(CORPUS).map((name) => join(CORPUS, name));

export interface Builder {
  /** `sanitizers` as -fsanitize has them; with `fuzzer` among them by clang. */
  program(name: string, files: readonly string[], sanitizers: string, parts: readonly string[]): string;
  /** Without sanitizers, over the objects of the add-on as `npm run build` has left them. */
  overAddon(name: string, files: readonly string[], parts: readonly string[]): string;
  remove(): void;
}

export function createBuilder(): Builder {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-fuzz-'));
  const compile = (compiler: string, name: string, argv: readonly string[]): string => {
    const program = join(directory, name);
    execFileSync(compiler, [...FLAGS, ...argv, '-o', program, ...LIBRARIES]);
    return program;
  };
  const own = (files: readonly string[]): string[] => files.map((file) => join(HERE, file));
  return {
    program(name, files, sanitizers, parts) {
      const sources = [...own(files), ...parts.map((part) => join(NATIVE, 'tunnel', `${part}.cc`))];
      const options = ['-g', '-O1', `-fsanitize=${sanitizers}`, '-fno-sanitize-recover=all'];
      return compile(sanitizers.includes('fuzzer') ? 'clang++' : 'g++', name, [...options, ...sources]);
    },
    overAddon: (name, files, parts) =>
      compile('g++', name, [...own(files), ...parts.map((part) => join(ADDON_OBJECTS, `${part}.o`))]),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
