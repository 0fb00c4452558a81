// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the notation of the file
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { Compile } from 'typebox/compile';
import { parse } from 'yaml';
import { createSource, renderFault } from '../../../cli/compose/diagnostic.ts';
import { fileData, formatText, renderFile } from '../../../cli/compose/export.ts';
import { interpolate, literal, parseEnvFile } from '../../../cli/compose/interpolation.ts';
import { InvalidFile, readSpec } from '../../../cli/compose/load.ts';
import { ClusterFile, clusterSchema } from '../../../cli/compose/schema.ts';
import { template } from '../../../cli/compose/template.ts';
import { Failure } from '../../../cli/failure.ts';
import { EXIT } from '../../../events/errors.ts';
import { SCHEMA_FILE } from '../../../ops/schema/generate.ts';
import { anySpec } from './arbitrary.ts';

t.setTimeout(180_000);

const fixture = (name: string): string =>
  readFileSync(new URL(`../../../fixtures/compose/${name}`, import.meta.url), 'utf8');

const faultOf = (text: string, variables = {}): InvalidFile | undefined => {
  try {
    readSpec('cluster.yaml', text, variables);
    return undefined;
  } catch (error) {
    if (error instanceof InvalidFile) return error;
    throw error;
  }
};

t.test('every fault is named with file, line, column and a caret', async (t) => {
  const cases = parse(fixture('faults.yaml')) as { name: string; file: string; at: string; says: string }[];
  for (const { name, file, at, says } of cases) {
    const fault = faultOf(file);
    t.ok(fault, `${name}: is refused`);
    if (fault === undefined) continue;
    const [head = '', source = '', caret = ''] = fault.message.split('\n');
    t.ok(head.startsWith(`cluster.yaml:${at}: `), `${name}: at ${at}, not ${head}`);
    t.ok(head.includes(says), `${name}: says ${says}, not ${head}`);
    const column = Number(at.split(':')[1]);
    t.equal(caret.indexOf('^'), 8 + column - 1, `${name}: the caret stands under it\n${source}\n${caret}`);
    t.equal(fault.exit, EXIT.configuration);
  }
});

t.test('several faults are shown together', async (t) => {
  const text = `version: v1
peers:
  - name: london
    adress: 10.0.0.1:8080
  - name: paris
    address: 10.0.0.2
`;
  t.equal(
    faultOf(text)?.message,
    `cluster.yaml:4:5: peers[0] has no key 'adress'. Did you mean 'address'? It takes name, address, api_access.
    4 |     adress: 10.0.0.1:8080
      |     ^^^^^^
cluster.yaml:6:14: peers[1].address must be HOST:PORT, so write 10.0.0.2:8080.
    6 |     address: 10.0.0.2
      |              ^^^^^^^^`,
  );
});

t.test('the place of a fault is right beside tabs, wide characters and very long lines', async (t) => {
  const wide = createSource('f', '# x\nname: 日本 bad\n');
  t.equal(
    renderFault(wide, { at: { start: 13, end: 16 }, message: 'no' }),
    'f:2:10: no.\n    2 | name: 日本 bad\n      |            ^^^',
  );
  const long = createSource('f', `${'x'.repeat(5_000)}bad${'y'.repeat(5_000)}`);
  const [, line = '', caret = ''] = renderFault(long, {
    at: { start: 5_000, end: 5_003 },
    message: 'no',
  }).split('\n');
  t.ok(line.length <= 120);
  t.equal(line.slice(caret.indexOf('^'), caret.lastIndexOf('^') + 1), 'bad');
});

/** Text that is nearly a compose file: pieces of one, put together and damaged. */
const pieces = fc.constantFrom(
  'version: v1\n',
  'peers:\n',
  'services:\n',
  '  - name: a\n',
  '    address: 10.0.0.1:8080\n',
  '    source_peer: a\n',
  '    routes:\n',
  '      - priority: 1\n',
  '        dest_cidr: 10.0.0.0/8\n',
  '    interface: { enabled: true }\n',
  '- ',
  '&a ',
  '*a',
  '<<: *a\n',
  '!!binary ',
  '!x ',
  '? ',
  '| ',
  '> ',
  '"',
  "'",
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '\t',
  '\u0000',
  '\ufeff',
  '---\n',
  '...\n',
  '%YAML 1.1\n',
  '# c\n',
  '${',
  '${A}',
  '$$',
  '\r\n',
  '1e999',
  '0x1F',
  '~',
  '.nan',
  '\ud800',
);

t.test('no text makes it fall over: a clear first line and exit code 3, or a file', async () => {
  const text = fc.oneof(
    fc.array(pieces, { maxLength: 40 }).map((all) => all.join('')),
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.tuple(anySpec, fc.nat(), fc.string({ maxLength: 3 })).map(([spec, at, put]) => {
      const whole = renderFile(spec);
      const place = at % (whole.length + 1);
      return whole.slice(0, place) + put + whole.slice(place + 1);
    }),
  );
  fc.assert(
    fc.property(text, (input) => {
      formatText(input);
      const fault = faultOf(input, { A: '7' });
      if (fault === undefined) return true;
      const [first = ''] = fault.message.split('\n');
      return (
        fault.exit === EXIT.configuration && /^cluster\.yaml:\d+:\d+: \S/.test(first) && first.length < 2_000
      );
    }),
    { numRuns: 500 },
  );
});

t.test('nesting without end and aliases without end are refused at once', async (t) => {
  t.match(faultOf('['.repeat(50_000))?.message, /^cluster\.yaml:\d+:\d+: not valid YAML/);
  t.match(faultOf(`${'a: '.repeat(3_000)}b`)?.message, /^cluster\.yaml:1:/);
  const laughs = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (let at = 1; at < 12; at++)
    laughs.push(
      `${'abcdefghijkl'[at]}: &${'abcdefghijkl'[at]} [${Array(9).fill(`*${'abcdefghijkl'[at - 1]}`)}]`,
    );
  t.match(faultOf(laughs.join('\n'))?.message, /the file has no key 'a'/);
  t.equal(formatText(laughs.join('\n')), undefined);
  t.match(faultOf('version: v1\npeers: &p [*p]\n')?.message, /^cluster\.yaml:2:/, 'a list in itself');
});

t.test('what every file can say has a JSON Schema, and the published one is up to date', async (t) => {
  t.same(JSON.parse(readFileSync(SCHEMA_FILE, 'utf8')), JSON.parse(JSON.stringify(clusterSchema())));
  const check = Compile(ClusterFile);
  fc.assert(fc.property(anySpec, (spec) => check.Check(fileData(spec))));
  for (const name of ['three-peers.yaml']) t.ok(check.Check(parse(fixture(name))), name);
  t.ok(check.Check(parse(template(undefined))));
  t.notOk(check.Check({ version: 'v1', peers: [{ name: 'a', adress: 'x' }] }));
});

t.test('the template is a valid file in the common layout', async (t) => {
  t.equal(readSpec('cluster.yaml', template('/x/schema.json'), {}).services.length, 1);
  t.equal(formatText(template('/x/schema.json')), template('/x/schema.json'));
});

t.test('fmt keeps comments and meaning, and done twice changes nothing', async (t) => {
  const comment = fc.stringMatching(/^[a-z]{3,10}$/).map((text) => `C_${text}`);
  fc.assert(
    fc.property(
      anySpec,
      fc.array(fc.tuple(fc.nat(), comment), { maxLength: 6 }),
      fc.boolean(),
      (spec, notes, own) => {
        const lines = renderFile(spec).split('\n');
        for (const [at, note] of notes) {
          const place = at % lines.length;
          const line = lines[place] ?? '';
          // Inside a block text a line with # is text.
          if (/[|>][+-]?$/.test(line) || line.includes('"')) continue;
          if (own || line === '') lines.splice(place, 0, `${/^ */.exec(line)?.[0]}# ${note}`);
          else lines[place] = `${line}   # ${note}`;
        }
        const text = lines.join('\n');
        const formatted = formatText(text);
        if (formatted === undefined) return false;
        const kept = [...text.matchAll(/# (C_[a-z]+)/g)].every(([, note]) => formatted.includes(`# ${note}`));
        return (
          kept &&
          formatText(formatted) === formatted &&
          JSON.stringify(parse(formatted)) === JSON.stringify(parse(text))
        );
      },
    ),
  );
  t.equal(
    formatText(
      'version:   v1\n\n\n# all peers\npeers:\n    -   name:  "a" # first\n        address: 10.0.0.1:8080\n',
    ),
    'version: v1\n\n# all peers\npeers:\n  - name: "a" # first\n    address: 10.0.0.1:8080\n',
  );
  t.equal(formatText('a: ['), undefined);
});

t.test('variables', async (t) => {
  const set = { A: 'x', EMPTY: '', toString: 'own' };
  t.same(interpolate('${A}-$$-$A-${NO:-d}-${EMPTY:-e}', set), { text: 'x-$-$A-d-e' });
  t.match(interpolate('${NO}', set), { fault: /the variable NO is not set/ });
  t.match(interpolate('${constructor}', {}), { fault: /not set/ });
  for (const bad of ['${', '${}', '${a b}', '${A', '${1}'])
    t.match(interpolate(bad, set), { fault: /is not a variable/ }, bad);
  fc.assert(
    fc.property(fc.string(), (text) => {
      const result = interpolate(literal(text), {});
      return 'text' in result && result.text === text;
    }),
  );
  const spec = readSpec(
    'cluster.yaml',
    'version: v1\npeers:\n  - { name: a, address: "${HOST}:8080" }\n  - { name: b, address: 10.0.0.2:8080 }\n' +
      'services:\n  - name: web\n    source_peer: a\n    target_peer: b\n    fully_transparent: ${OFF}\n    routes: [{ priority: "${PRIORITY}", dest_cidr: 10.0.0.0/8 }]\n',
    { HOST: '10.0.0.1', OFF: 'false', PRIORITY: '7' },
  );
  t.match(spec, { peers: [{ address: '10.0.0.1:8080' }, {}], services: [{ routes: [{ priority: 7 }] }] });
  t.match(
    faultOf('version: v1\npeers:\n  - { name: "${N}", address: "10.0.0.1:1" }\n', { N: 'a: b\n- c' })
      ?.message,
    /control characters/,
  );
});

t.test('files of variables', async (t) => {
  t.same(parseEnvFile('# c\n\nexport A=1\nB = "x\\n\\"y\\"" # note\nC=\'$A\'\r\nD=a b # c\nE=\n'), {
    variables: { A: '1', B: 'x\n"y"', C: '$A', D: 'a b', E: '' },
  });
  t.same(parseEnvFile('A=1\nnot this\n'), { line: 2, fault: 'is not NAME=value' });
  t.same(parseEnvFile('A="1\n'), { line: 1, fault: 'has a quote that is not closed' });
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => parseEnvFile(text) !== undefined));
});

t.test('an invalid file is a refusal like any other', async (t) => {
  t.ok(faultOf('') instanceof Failure);
});
