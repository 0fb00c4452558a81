import fc from 'fast-check';
import t from 'tap';
import { parseArguments } from '../../../cli/arguments.ts';
import { millisecondsText } from '../../../cli/commands/traffic.ts';
import { ago, parseDuration } from '../../../cli/duration.ts';
import { Failure } from '../../../cli/failure.ts';
import { manPage } from '../../../cli/man-page.ts';
import { maskBody, maskHeader, maskValue } from '../../../cli/masking.ts';
import { displayWidth, renderTable } from '../../../cli/output.ts';
import { readServerSentEvents } from '../../../cli/server-sent-events.ts';
import { createStyle } from '../../../cli/style.ts';
import { GROUPS } from '../../../cli/table.ts';
import { chooseTarget, normaliseUrl } from '../../../cli/target.ts';
import { EXIT } from '../../../events/errors.ts';
import { distance, nearest } from '../../../events/suggest.ts';

const commands = GROUPS.flatMap((group) => group.commands);

t.test('every command has an example that its own table accepts', async (t) => {
  for (const command of commands) {
    t.ok(command.examples.length > 0, command.name);
    for (const { line } of command.examples) {
      const words = line
        .replace(/^[A-Z_]+=\S+ ([A-Z_]+=\S+ )?/, '')
        .replace(/^source <\((.*)\)$/, '$1')
        .replace(/ > .*/, '')
        .split(' ');
      t.equal(words.shift(), 'arctic', line);
      const parsed = parseArguments(words, GROUPS);
      t.match(parsed, { kind: 'command', command: { name: command.name } }, line);
    }
  }
});

t.test('every arctic line of the troubleshooting page is a command', async (t) => {
  const lines = [
    'services list',
    'services get SERVICE_ID',
    'cluster sync',
    'version',
    'peers list',
    'license status',
    'license status --url http://REMOTE_IP:8080',
    'peers delete PEER_ID --yes',
    'peers add REMOTE_IP:8080 --debug',
    'peers add REMOTE_IP:8080 --trace',
    'bootstrap --url http://localhost:8080 --license-file license.json',
    'services list --json',
    'routes list --service SERVICE_ID --json',
  ];
  for (const line of lines) t.equal(parseArguments(line.split(' '), GROUPS).kind, 'command', line);
});

t.test('the man page tells every command, flag and exit code', async (t) => {
  const page = manPage(GROUPS, 'v1.4.0', '2026-01-31');
  for (const command of commands) {
    t.ok(page.includes(`.SS arctic ${command.name.replaceAll('-', '\\-')}`), command.name);
    for (const flag of command.flags ?? []) t.ok(page.includes(flag.name.replaceAll('-', '\\-')), flag.name);
  }
  for (const code of Object.values(EXIT)) t.ok(page.includes(`.TP\n.B ${code}\n`), `exit code ${code}`);
  t.notMatch(page, /^[.'](?!(TH|SH|SS|TP|B|I|PP|RS|RE|nf|fi)\b)/m, 'no stray control line');
});

t.test('any command line is parsed, or refused in one line', async () => {
  const word = fc.oneof(
    fc.constantFrom(...commands.flatMap((command) => command.name.split(' '))),
    fc.constantFrom(...commands.flatMap((command) => (command.flags ?? []).map((flag) => `--${flag.name}`))),
    fc.constantFrom('--', '-', '-o', '-ojson', '--json=maybe', '--no-color', '__proto__', 'constructor'),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (argv) => {
      try {
        parseArguments(argv, GROUPS);
      } catch (error) {
        return error instanceof Failure && error.exit === 2;
      }
      return true;
    }),
  );
});

t.test('flags may stand anywhere and in any of their forms', async (t) => {
  const forms = [
    ['peers', 'add', 'h:1', '--name', 'x', '-o', 'json'],
    ['-ojson', '--name=x', 'peer', 'add', 'h:1'],
    ['peers', '--name', 'x', 'add', '-o=json', '--', 'h:1'],
  ];
  for (const argv of forms) {
    const parsed = parseArguments(argv, GROUPS);
    t.equal(parsed.kind, 'command');
    if (parsed.kind !== 'command') return;
    t.same(parsed.line.slice(0, 2), ['peers', 'add']);
    t.same(parsed.line.slice(-2), ['--', 'h:1']);
    t.same([...parsed.line.slice(2, -2)].sort(), ['--name=x', '--output=json']);
  }
});

t.test('a slip finds its word, nonsense finds nothing', async (t) => {
  t.equal(distance('lsit', 'list'), 1);
  t.equal(nearest('lsit', ['list', 'get']), 'list');
  t.equal(nearest('targt', ['target-peer', 'timeout']), 'target-peer');
  t.equal(nearest('xyzzy', ['list', 'get']), undefined);
});

t.test('no secret leaves through the trace', async (t) => {
  const secret = fc.string({ minLength: 8 }).map((text) => `S3CRET${text}`);
  const field = fc.constantFrom(
    'client_secret',
    'access_token',
    'token',
    'Authorization',
    'secret',
    'recovery_token',
  );
  fc.assert(
    fc.property(secret, field, (value, name) => {
      const nested = { a: [{ [name]: value }], [name]: value };
      return (
        !JSON.stringify(maskValue(nested)).includes('S3CRET') && !maskHeader(name, value).includes('S3CRET')
      );
    }),
  );
  t.notMatch(
    maskBody('grant_type=client_credentials&client_secret=abc', 'application/x-www-form-urlencoded'),
    'abc',
  );
  t.match(maskBody('{"token_type":"Bearer"}', 'application/json'), 'Bearer', 'what is no secret stays');
  t.equal(maskHeader('authorization', 'Bearer abc'), 'Bearer ********');
});

t.test('a table fits its width and never cuts an id', async () => {
  const columns = [
    { title: 'ID', value: (row: { id: string; name: string }) => row.id },
    { title: 'NAME', value: (row: { id: string; name: string }) => row.name, shrinkTo: 4 },
  ];
  fc.assert(
    fc.property(
      fc.array(fc.record({ id: fc.stringMatching(/^[a-z]{1,30}$/), name: fc.string({ unit: 'grapheme' }) })),
      (rows) => {
        const text = renderTable(rows, columns, 40, createStyle(false));
        const lines = text.trimEnd().split('\n');
        return (
          lines.length === rows.length + 1 &&
          lines.every((line) => displayWidth(line) <= 40) &&
          rows.every((row, at) => lines[at + 1]?.startsWith(row.id))
        );
      },
    ),
  );
});

t.test('a narrow table leaves out what can be spared, the most dispensable first', async (t) => {
  const columns = [
    { title: 'ID', value: (row: readonly string[]) => row[0] ?? '' },
    { title: 'STATE', value: (row: readonly string[]) => row[1] ?? '', dispensable: 1 },
    { title: 'NAME', value: (row: readonly string[]) => row[2] ?? '', shrinkTo: 4 },
    { title: 'WAITS', value: (row: readonly string[]) => row[3] ?? '', dispensable: 2 },
  ];
  const head = (width: number | undefined): string | undefined =>
    renderTable([['x'.repeat(10), 'open', 'y'.repeat(10), '12345']], columns, width, createStyle(false))
      .split('\n')[0]
      ?.replace(/ +/g, ' ');
  t.equal(head(undefined), 'ID STATE NAME WAITS');
  t.equal(head(36), 'ID STATE NAME WAITS', 'it just fits');
  t.equal(head(35), 'ID STATE NAME');
  t.equal(head(28), 'ID NAME');
  t.equal(head(5), 'ID NAME', 'what cannot be spared stays');
});

t.test('times', async (t) => {
  for (const [ms, text] of [
    [0.42, '0.4 ms'],
    [9.96, '10 ms'],
    [999.4, '999 ms'],
    [999.6, '1.0 s'],
    [4_092, '4.1 s'],
    [88_000, '88 s'],
    [720_000, '12 min'],
    [5 * 3_600_000, '5 h'],
    [72 * 3_600_000, '3 d'],
    [null, '-'],
  ] as const)
    t.equal(millisecondsText(ms), text);
  t.equal(parseDuration('500ms'), 500);
  t.equal(parseDuration('90d'), 90 * 86_400_000);
  t.equal(parseDuration('2'), 2_000);
  t.equal(parseDuration('2 weeks'), undefined);
  t.equal(ago('2026-01-01T00:00:00Z', Date.parse('2026-01-01T00:04:10Z')), '4m ago');
  t.equal(ago(null, 0), 'never');
});

t.test('addresses', async (t) => {
  t.equal(normaliseUrl('10.0.0.1:8080', '--url'), 'http://10.0.0.1:8080');
  t.equal(normaliseUrl('https://[2001:db8::1]:8080/', '--url'), 'https://[2001:db8::1]:8080');
  for (const bad of ['ftp://x', 'http://user:pw@x', 'http://x/v1', ':', ''])
    t.throws(() => normaliseUrl(bad, '--url'), Failure, bad);
  t.match(
    chooseTarget({ clusters: {}, preferences: {} }, undefined, () => undefined),
    {
      endpoints: [{ base: 'http://localhost:8080' }],
      cluster: undefined,
    },
  );
});

t.test('an event stream is read whatever its chunks', async () => {
  const text = ': hello\n\nid: 7\nevent: config\ndata: {"a":1}\n\ndata: x\r\ndata: y\r\n\r\ndata: cut off';
  const bytes = Buffer.from(text);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 10 }), async (cuts) => {
      const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      async function* chunks() {
        for (let at = 1; at < places.length; at++) yield bytes.subarray(places[at - 1], places[at]);
      }
      const events = [];
      for await (const event of readServerSentEvents(chunks())) events.push(event);
      return (
        JSON.stringify(events) ===
        JSON.stringify([
          { id: '7', type: 'config', data: '{"a":1}' },
          { id: '7', type: 'message', data: 'x\ny' },
        ])
      );
    }),
  );
});
