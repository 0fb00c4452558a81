/** The command line on a terminal and away from one: width, colours, progress, questions, Ctrl-C; and what its traces hide. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { arcticCommand } from '../../ops/lab/agent.ts';
import { ROOT } from '../../ops/lab/lab.ts';
import { COLUMNS, type Person, sit } from './terminal.ts';

t.setTimeout(400_000);

const ULID = '01JD0000000000000000000000';
const LONG = 'a-host-whose-name-is-as-long-as-names-may-be-in-this-product-yes';
const SECRET = `sec_${'s'.repeat(43)}`;
const TOKEN = 'eyJhbGciOiJFZERTQSJ9.secret-access-token.signature';
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is looked for
const COLOUR = /\u001b\[(1|2|3[0-7])m/;

const peer = {
  id: `peer_${ULID}`,
  name: LONG,
  public_key: `${'A'.repeat(43)}=`,
  is_local: true,
  address: `${LONG}.example.net:8080`,
  endpoints: [],
  state: 'active',
  reason: null,
  api_access: 'open',
  last_seen_at: null,
  created_at: '2026-01-01T00:00:00.000Z',
  version: 1,
};

/** An agent that takes its time. */
async function slowAgent(t: Test, delayMs: () => number): Promise<{ url: string; server: Server }> {
  const server = createServer((request, answer) => {
    request.resume();
    const body = request.url?.startsWith('/v1/oauth')
      ? { access_token: TOKEN, token_type: 'Bearer', expires_in: 3600 }
      : request.method === 'GET'
        ? { peers: [peer], next_cursor: null }
        : {};
    setTimeout(() => {
      answer.setHeader('content-type', 'application/json');
      answer.end(JSON.stringify(body));
    }, delayMs());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

interface Place {
  readonly env: Readonly<Record<string, string>>;
  person(argv: readonly string[], env?: Readonly<Record<string, string>>): Person;
  /** Into pipes. */
  run(argv: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }>;
}

function place(t: Test, endpoints: readonly string[]): Place {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-terminal-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, 'arctic'));
  writeFileSync(
    join(directory, 'arctic', 'config.yaml'),
    `current_cluster: clu_${ULID}
clusters:
  clu_${ULID}:
    cluster_id: clu_${ULID}
    customer_id: cust_lab
    client_id: cli_${ULID}
    client_secret: ${SECRET}
    peers: [{ peer_id: peer_${ULID}, name: a, endpoints: [${endpoints.map((one) => `'${one}'`).join(', ')}] }]
    default_peer: peer_${ULID}
`,
    { mode: 0o600 },
  );
  const env = { PATH: process.env['PATH'] ?? '', HOME: directory, XDG_CONFIG_HOME: directory };
  return {
    env,
    person(argv, more = {}) {
      const person = sit('/proc/self/ns/net', [...arcticCommand(), ...argv], { ...env, ...more }, ROOT);
      t.teardown(() => person.end());
      return person;
    },
    run: (argv) =>
      new Promise((resolve, reject) => {
        const [program = '', ...rest] = [...arcticCommand(), ...argv];
        const child = spawn(program, rest, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
        let stdout = '';
        let stderr = '';
        child.stdout.on('data', (chunk: Buffer) => {
          stdout += chunk.toString();
        });
        child.stderr.on('data', (chunk: Buffer) => {
          stderr += chunk.toString();
        });
        child.once('error', reject);
        child.once('close', (code) => resolve({ code, stdout, stderr }));
      }),
  };
}

t.test('a table fits 80 columns, grows with the terminal, and is whole in a pipe', async (t) => {
  const { url } = await slowAgent(t, () => 0);
  const at = place(t, [url]);
  const narrow = at.person(['peers', 'list']);
  t.equal(await narrow.leaves(), 0, narrow.screen());
  const lines = narrow.screen().split('\n');
  t.ok(lines.every((line) => line.length <= COLUMNS));
  t.equal(lines.length, 2, 'nothing wraps');
  t.match(lines[1], /^peer_01JD0+ +a-host-\S*… +a-host-\S*… +active +local$/, 'the id is never cut');
  t.match(narrow.raw(), COLOUR, 'on a terminal there are colours');
  const wide = at.person(['peers', 'list'], { COLUMNS: '260', NO_COLOR: '1' });
  await wide.leaves();
  t.match(wide.raw(), `${LONG}.example.net:8080`);
  t.notMatch(wide.raw(), COLOUR, 'NO_COLOR');
  const plain = at.person(['peers', 'list', '--no-color']);
  await plain.leaves();
  t.notMatch(plain.raw(), COLOUR);
  const piped = await at.run(['peers', 'list']);
  t.match(piped.stdout, `${LONG}.example.net:8080`);
  t.notOk((piped.stdout + piped.stderr).includes('\u001b'), 'nothing but text in a pipe');
});

t.test('what takes over a second says what it waits for, on stderr, and takes it back', async (t) => {
  let delay = 2_500;
  const { url } = await slowAgent(t, () => delay);
  const at = place(t, [url]);
  const person = at.person(['peers', 'list', '--token', 'x']);
  await person.sees(/waiting for http:\/\/127\.0\.0\.1:\d+ \.\.\. [12] s/);
  t.equal(await person.leaves(), 0);
  t.notMatch(person.screen(), 'waiting', 'the line is gone at the end');
  const piped = await at.run(['peers', 'list', '--token', 'x']);
  t.equal(piped.stderr, '', 'and is not in a pipe');
  delay = 60_000;
  const late = await at.run(['peers', 'list', '--token', 'x', '--timeout', '300ms']);
  t.equal(late.code, 4);
  t.match(late.stderr, /^Error: .*no answer within 300 ms/);

  const stopped = at.person(['peers', 'list', '--token', 'x']);
  await stopped.sees(/waiting for/);
  stopped.press('interrupt');
  t.not(await stopped.leaves(), 0);
  t.notMatch(stopped.raw(), /\n\s+at /, 'Ctrl-C shows no stack');
});

t.test('a question is asked before something is destroyed, and anything but yes is no', async (t) => {
  const { url } = await slowAgent(t, () => 0);
  const at = place(t, [url]);
  for (const [answer, code, says] of [
    ['n', 1, /Error: cancelled; nothing was changed\./],
    ['', 1, /Error: cancelled/],
    ['yes', 0, /removed/],
  ] as const) {
    const person = at.person(['peers', 'delete', `peer_${ULID}`]);
    await person.sees(/\[y\/N\]/);
    person.type(answer);
    person.press('enter');
    t.equal(await person.leaves(), code, person.screen());
    t.match(person.screen(), says);
  }
  const gone = at.person(['peers', 'delete', `peer_${ULID}`]);
  await gone.sees(/\[y\/N\]/);
  gone.press('interrupt');
  t.not(await gone.leaves(), 0);
  t.notMatch(gone.raw(), /\n\s+at /);
});

t.test('--debug and --trace say what is sent, without secrets; the next endpoint is tried', async (t) => {
  const { url } = await slowAgent(t, () => 0);
  const at = place(t, ['http://127.0.0.1:9', url]);
  const traced = await at.run(['peers', 'list', '--trace', '--debug']);
  t.equal(traced.code, 0, traced.stderr);
  t.match(traced.stderr, /^> POST http:\/\/127\.0\.0\.1:\d+\/v1\/oauth\/token$/m);
  t.match(traced.stderr, /client_secret=\*{8}|client_secret=%2A{8}/);
  t.match(traced.stderr, /^> authorization: Bearer \*{8}$/m);
  t.match(traced.stderr, /^debug: GET http:\S+ 200 \d+ ms$/m);
  t.match(traced.stderr, /failed \(connection refused\)/);
  for (const secret of [SECRET, TOKEN]) t.notMatch(traced.stdout + traced.stderr, secret);
  const again = await at.run(['peers', 'list', '--debug']);
  t.notMatch(again.stderr, /:9\/|refused/, 'the endpoint that answered is asked first from then on');
});
