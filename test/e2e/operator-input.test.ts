/** Wrong input to the real program, whatever it is: one clear line, the right exit code, nothing half-done, never a stack. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { GROUPS } from '../../cli/table.ts';
import { EXIT } from '../../events/errors.ts';
import { arcticCommand } from '../../ops/lab/agent.ts';

t.setTimeout(600_000);

const directory = mkdtempSync(join(tmpdir(), 'arctic-input-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const runs = process.env['ARCTIC_LONG'] === '1' ? 300 : 12;

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
const ARCTIC = arcticCommand().map(quoted).join(' ');

/** Runs a line of shell in which `arctic` is the program. */
function shell(line: string, env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', `set -o pipefail; arctic() { ${ARCTIC} "$@"; }; ${line}`], {
      cwd: directory,
      env: { PATH: process.env['PATH'] ?? '', HOME: directory, XDG_CONFIG_HOME: directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

const STACK = /^\s+at .+:\d+:\d+\)?$|node:internal|UnhandledPromise|\[object /m;

/** Refused in one line that begins with `Error: `, with a code of the table. */
function refused(t: Test, what: string, outcome: Outcome, code: number | readonly number[]): void {
  const { stderr, stdout } = outcome;
  t.ok([code].flat().includes(outcome.code ?? -1), `${what}: ${outcome.code}\n${stderr}`);
  // A file has a line for each of its faults, with the place under it.
  const line = /^(Warning: [^\n]+\n)?Error: [^\n]+\n(( {2,}|[^\n ]+:\d+:\d+: |\.\.\. and )[^\n]*\n)*$/;
  t.match(stderr, line, `${what} is told in one line, with its place where it has one`);
  t.notMatch(stderr + stdout, STACK, what);
  t.notMatch(stderr, /^Error: \w+Error|undefined|ENOENT|EACCES/m, `${what} is told in words`);
}

t.test('a configuration that is damaged', async (t) => {
  const whole = `current_cluster: clu_01JD0000000000000000000000
clusters:
  clu_01JD0000000000000000000000:
    cluster_id: clu_01JD0000000000000000000000
    customer_id: cust_lab
    client_id: cli_01JD0000000000000000000000
    client_secret: sec_secret
    peers: [{ peer_id: peer_01JD0000000000000000000000, name: a, endpoints: ['http://127.0.0.1:9'] }]
    default_peer: peer_01JD0000000000000000000000
preferences: { output_format: table, timeout: 2s }
`;
  const damaged = fc.oneof(
    fc.nat(whole.length).map((end) => whole.slice(0, end)),
    fc
      .tuple(fc.nat(whole.length), fc.string({ unit: 'binary', minLength: 1, maxLength: 5 }))
      .map(([at, text]) => whole.slice(0, at) + text + whole.slice(at)),
  );
  const path = join(directory, 'config.yaml');
  for (const text of fc.sample(damaged, { numRuns: runs, seed: 7 })) {
    writeFileSync(path, text, { mode: 0o600 });
    const outcome = await shell(`arctic peers list --config ${path}`);
    refused(t, JSON.stringify(text), outcome, [EXIT.configuration, EXIT.connection]);
    t.equal(readFileSync(path, 'utf8'), text, 'the file is left as it is');
  }
  writeFileSync(path, Buffer.from([0xff, 0xfe, 0, 1, 2]));
  refused(t, 'bytes', await shell(`arctic config view --config ${path}`), EXIT.configuration);
  mkdirSync(join(directory, 'folder'), { recursive: true });
  refused(t, 'a directory', await shell('arctic config view --config folder'), EXIT.configuration);
});

t.test('any words behind arctic', async (t) => {
  const commands = GROUPS.flatMap((group) => group.commands).filter(({ name }) => name !== 'agent');
  const word = fc.oneof(
    fc.constantFrom(...commands.flatMap(({ name }) => name.split(' '))),
    fc.constantFrom(...commands.flatMap(({ flags }) => (flags ?? []).map((flag) => `--${flag.name}`))),
    fc.string({ maxLength: 12 }).filter((text) => !text.includes('\0')),
    fc.constantFrom('--', '-', '-ojson', '--json=maybe', '--timeout=-1', '--url=ftp://x', '__proto__'),
  );
  // What would do something to this host, or asks a terminal, is not typed at random.
  const harmless = (words: readonly string[]): boolean =>
    !words.some((one) => /^(agent|setup|restore|backup|debug|doctor|install|log)$/.test(one));
  const lines = fc.sample(fc.array(word, { maxLength: 6 }).filter(harmless), { numRuns: runs, seed: 11 });
  for (const words of lines) {
    const line = `arctic ${words.map(quoted).join(' ')}`;
    const outcome = await shell(line, { ARCTIC_URL: 'http://127.0.0.1:9' });
    t.notMatch(outcome.stdout + outcome.stderr, STACK, line);
    if (outcome.code === 0) continue;
    t.ok(Object.values(EXIT).includes(outcome.code as never), `${line}: ${outcome.code}\n${outcome.stderr}`);
    t.equal(outcome.stderr.match(/^Error: /gm)?.length, 1, `${line}\n${outcome.stderr}`);
  }
});

t.test('files that are not what they should be', async (t) => {
  writeFileSync(join(directory, 'half.json'), '{"license_id": "lic_1", "custom');
  writeFileSync(join(directory, 'empty'), '');
  writeFileSync(join(directory, 'zeros'), Buffer.alloc(5_000));
  writeFileSync(join(directory, 'deep.yaml'), `${'['.repeat(20_000)}`);
  writeFileSync(
    join(directory, 'laughs.yaml'),
    `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefgh'].map((name, at) => `${name}: &${name} [${`*${'abcdefg'[at]},`.repeat(9)}]\n`).join('')}`,
  );
  for (const [line, code] of [
    ['arctic bootstrap --license-file half.json --url http://127.0.0.1:9', [2, 3]],
    ['arctic bootstrap --license-file empty --url http://127.0.0.1:9', [2, 3]],
    ['arctic bootstrap --license-file folder --url http://127.0.0.1:9', [2, 3]],
    ['arctic compose validate deep.yaml', 3],
    ['arctic compose validate laughs.yaml', 3],
    ['arctic compose validate zeros', 3],
    ['arctic compose diff nowhere.yaml', 3],
    ['arctic log verify --db zeros', [1, 3, 4]],
    ['arctic replay --db empty', [1, 3, 4]],
    ['arctic audit verify nowhere', [1, 2]],
    ['arctic restore zeros --yes', [1, 3]],
    ['arctic license issue --root half.json --customer acme', [1, 2, 3]],
    ['arctic peers list --recovery-token-file nowhere', 2],
  ] as const)
    refused(t, line, await shell(line, { DATA_DIR: join(directory, 'data'), CONFIG_DIR: directory }), code);
  t.equal((await shell('arctic audit verify zeros')).code, 1);
});

t.test('a reader that goes away, and a writer that cannot write', async (t) => {
  for (const line of [
    'arctic help | head -0',
    'arctic completion bash | head -1 >/dev/null',
    'arctic help compose apply | true',
    'arctic version >&-',
    'arctic peers list 2>&- --url http://127.0.0.1:9',
  ]) {
    const { code, stderr } = await shell(`${line}; echo "\${PIPESTATUS[0]}"`);
    t.equal(code, 0, line);
    t.notMatch(stderr, /Error|EPIPE|at /, `${line} ends quietly`);
  }
  const full = await shell('arctic help >/dev/full');
  refused(t, 'a full device', full, EXIT.general);
  t.match(full.stderr, /^Error: cannot write the output: no space left on the device\.\n$/);
});

t.test('a disk that is full', async (t) => {
  const disk = join(directory, 'disk');
  mkdirSync(disk);
  // A mount of this shell's own, which ends with it.
  const onFullDisk = (line: string) =>
    shell(
      `unshare -m bash -c ${quoted(
        `arctic() { ${ARCTIC} "$@"; }; mount -t tmpfs -o size=4k none ${disk} && head -c 4096 /dev/zero >${disk}/filler 2>/dev/null; ${line}; code=$?; ls -A ${disk} >left; exit $code`,
      )}`,
    );
  for (const line of [
    `arctic compose init ${disk}/cluster.yaml`,
    `arctic license root create --out ${disk}/root`,
    `arctic debug bundle --file ${disk}/ticket.tar.gz --url http://127.0.0.1:9`,
  ]) {
    const outcome = await onFullDisk(line);
    t.not(outcome.code, 0, line);
    t.match(
      outcome.stderr,
      /^Error: .*(no space left on the device\.|the disk is full; free some space\.)$/m,
      line,
    );
    t.notMatch(outcome.stderr, STACK, line);
    const left = readFileSync(join(directory, 'left'), 'utf8').trim().split('\n');
    t.same(
      left.filter((name) => name !== 'filler' && name !== 'root'),
      [],
      `${line} leaves nothing half-written`,
    );
  }
  t.same(readdirSync(disk), []);
});

t.test('nobody to ask', async (t) => {
  for (const line of [
    'arctic setup',
    'arctic agent uninstall --root nowhere',
    'arctic config delete-peer x',
    'arctic peers remove-self --url http://127.0.0.1:9',
  ])
    refused(t, line, await shell(line), [EXIT.usage, EXIT.configuration, EXIT.connection]);
});
