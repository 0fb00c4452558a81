import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import type { Config } from '../../../cli/config.ts';
import { configPath, readConfig, updateConfig } from '../../../cli/config-file.ts';
import { parseConfig, renderConfig } from '../../../cli/config-schema.ts';
import { Failure } from '../../../cli/failure.ts';
import { createHome } from './run-cli.ts';

const text = fc.stringMatching(/^[ -~]{1,20}$/).filter((one) => one.trim() === one);
const endpoint = fc.webUrl({ withFragments: false, withQueryParameters: false });
const cluster = fc.record({
  cluster_id: text,
  customer_id: text,
  client_id: text,
  client_secret: text,
  peers: fc.array(fc.record({ peer_id: text, name: text, endpoints: fc.array(endpoint, { maxLength: 3 }) }), {
    maxLength: 3,
  }),
  default_peer: text,
  name: text,
});

t.test('what is written is what is read, and writing it again changes nothing', async () => {
  fc.assert(
    fc.property(fc.dictionary(text, cluster, { maxKeys: 3 }), (clusters) => {
      const first = Object.keys(clusters)[0];
      const config: Config = {
        ...(first === undefined ? {} : { current_cluster: first }),
        clusters,
        preferences: {},
      };
      const rendered = renderConfig('', config);
      const read = parseConfig(rendered, 'f');
      return (
        JSON.stringify(read) === JSON.stringify(config) &&
        renderConfig(rendered, parseConfig(rendered, 'f')) === rendered
      );
    }),
  );
});

t.test('any text is a configuration, or refused in one line with file and line', async () => {
  const pieces = fc.constantFrom(
    'clusters:',
    '\n',
    '  ',
    'a: ',
    '[',
    ']',
    '{',
    '}',
    '&a',
    '*a',
    '- ',
    '"',
    '!!x ',
    '# ',
    'current_cluster: constructor',
    '<<: ',
    '\t',
    ': ',
  );
  const source = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(pieces, { maxLength: 30 }).map((all) => all.join('')),
  );
  fc.assert(
    fc.property(source, (one) => {
      try {
        parseConfig(one, '/c.yaml');
      } catch (error) {
        return (
          error instanceof Failure && error.exit === 3 && /^\/c\.yaml:\d+: [^\n]+\.$/.test(error.message)
        );
      }
      return true;
    }),
    { numRuns: 2_000 },
  );
});

t.test('where the file is', async (t) => {
  t.equal(configPath({ HOME: '/h' }, undefined), '/h/.config/arctic/config.yaml');
  t.equal(
    configPath({ HOME: '/h', XDG_CONFIG_HOME: 'relative' }, undefined),
    '/h/.config/arctic/config.yaml',
  );
  t.equal(configPath({ XDG_CONFIG_HOME: '/x', ARCTIC_CONFIG: '/c' }, undefined), '/c');
  t.equal(configPath({ ARCTIC_CONFIG: '/c' }, '/flag'), '/flag');
});

t.test('a symbolic link stays one, and old versions are kept as private as the file', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const real = join(home.directory, 'dotfiles.yaml');
  mkdirSync(dirname(home.configPath), { recursive: true });
  writeFileSync(real, '# mine\npreferences: {backup_retention: 2}\n', { mode: 0o600 });
  symlinkSync(real, home.configPath);
  const one = {
    cluster_id: 'c',
    customer_id: 'u',
    client_id: 'i',
    client_secret: 's',
    peers: [],
    default_peer: '',
    name: 'n',
  };
  for (const name of ['1', '2', '3', '4'])
    await updateConfig(home.configPath, (config) => ({ ...config, clusters: { c: { ...one, name } } }));
  t.match(readFileSync(real, 'utf8'), /^# mine\n[\s\S]*name: "4"/);
  t.match(readFileSync(`${home.configPath}.1`, 'utf8'), 'name: "3"');
  t.match(readFileSync(`${home.configPath}.2`, 'utf8'), 'name: "2"');
  t.throws(() => statSync(`${home.configPath}.3`));
  t.equal(statSync(`${home.configPath}.1`).mode & 0o777, 0o600);
  const warnings: string[] = [];
  t.match(await readConfig(home.configPath, (line) => warnings.push(line)), {
    clusters: { c: { name: '4' } },
  });
  t.same(warnings, []);
});
