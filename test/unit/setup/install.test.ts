import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseEnvironmentFile } from '../../../cli/agent-settings.ts';
import { mergeEnvironment, parseSettings } from '../../../cli/setup/install.ts';
import { renderUnit } from '../../../cli/setup/unit.ts';
import { createHome } from '../cli/run-cli.ts';

const UNIT = 'etc/systemd/system/arctic.service';
const ENV = 'etc/arctic/arctic.env';
const MAN = 'usr/local/share/man/man1/arctic.1';

t.test('install below a root writes everything once, and says what it left to do', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const root = join(home.directory, 'image');
  const install = async (...more: string[]) => {
    const answer = await home.run(['agent', 'install', '--root', root, '--json', ...more]);
    t.equal(answer.code, 0, answer.stderr);
    return JSON.parse(answer.stdout) as { steps: { what: string; done: string }[]; not_done: string[] };
  };
  const first = await install('--set', 'API_PORT=8090', '--set', 'DATA_DIR=/srv/arctic data');
  t.same([...new Set(first.steps.map(({ done }) => done))], ['created']);
  t.ok(first.not_done.some((line) => line.startsWith('systemctl enable --now')));
  t.equal(statSync(join(root, 'srv/arctic data')).mode & 0o777, 0o700);
  t.equal(statSync(join(root, 'etc/arctic/trust-roots')).mode & 0o777, 0o755);
  t.equal(statSync(join(root, ENV)).mode & 0o777, 0o600);
  const unit = readFileSync(join(root, UNIT), 'utf8');
  t.match(unit, /^ExecStart=\S+ .*main\.[jt]s"? agent$/m);
  t.match(unit, /^ReadWritePaths="\/srv\/arctic data" \/etc\/arctic$/m);
  t.match(unit, /^AmbientCapabilities=CAP_NET_ADMIN /m, 'the rest is the packaged unit');
  t.match(readFileSync(join(root, MAN), 'utf8'), /^\.TH ARCTIC 1 /);
  t.same(parseEnvironmentFile(readFileSync(join(root, ENV), 'utf8')), {
    API_PORT: '8090',
    DATA_DIR: '/srv/arctic data',
  });

  const second = await install();
  t.same([...new Set(second.steps.map(({ done }) => done))], ['unchanged']);

  writeFileSync(join(root, 'srv/arctic data/arctic.db'), 'history');
  const removed = await home.run(['agent', 'uninstall', '--root', root, '--yes']);
  t.equal(removed.code, 0, removed.stderr);
  t.notOk(existsSync(join(root, UNIT)) || existsSync(join(root, MAN)));
  t.ok(existsSync(join(root, 'srv/arctic data/arctic.db')), 'the history stays');
  t.equal((await home.run(['agent', 'uninstall', '--root', root, '--purge', '--yes'])).code, 0);
  t.notOk(existsSync(join(root, 'srv/arctic data')) || existsSync(join(root, 'etc/arctic')));
});

t.test('systemd takes the unit without a complaint', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const root = join(home.directory, 'image');
  const made = await home.run(['agent', 'install', '--root', root]);
  t.equal(made.code, 0, made.stderr);
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(root, UNIT)], {
    encoding: 'utf8',
  });
  if (status === null) return t.comment('systemd-analyze is not installed here');
  t.equal(status, 0, stderr);
  t.notMatch(stderr, /arctic\.service/, 'nothing is said of it');
});

t.test('wrong settings are refused', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const answer = await home.run(['agent', 'install', '--root', home.directory, '--set', 'NOPE=1']);
  t.equal(answer.code, 2);
  t.match(answer.stderr, /--set takes NAME=VALUE with one of API_PORT/);
  t.throws(() => parseSettings(['API_PORT']), /NAME=VALUE/);
  t.notOk(existsSync(join(home.directory, UNIT)));
  const asked = await home.run(['agent', 'uninstall', '--root', home.directory]);
  t.equal(asked.code, 2, 'uninstalling asks, and nobody is there');
});

t.test('the settings file keeps what a person wrote in it', async (t) => {
  const text = '# mine\nAPI_PORT=1\n\nOTHER=x\n';
  t.equal(
    mergeEnvironment(text, { API_PORT: '2', LOG_LEVEL: 'debug' }),
    '# mine\nAPI_PORT=2\n\nOTHER=x\nLOG_LEVEL=debug\n',
  );
  for (const value of ['plain', 'with space', 'quo"te', 'back\\slash', "it's", '', 'a=b', '[::1]:8080'])
    t.equal(parseEnvironmentFile(mergeEnvironment('', { X: value }))['X'], value, JSON.stringify(value));
});

t.test('the unit escapes what systemd would read otherwise', async (t) => {
  const unit = renderUnit({
    program: ['/opt/no de/bin/node', '/root/a%b$c/main.js', 'agent'],
    environmentFile: '/etc/arctic/arctic.env',
    dataDir: '/opt/tillered',
    configDir: '/etc/arctic',
  });
  t.match(unit, 'ExecStart="/opt/no de/bin/node" /root/a%%b$$c/main.js agent\n');
  t.match(unit, /^ProtectHome=read-only$/m, 'a program under /root can be read');
  const directory = mkdtempSync(join(tmpdir(), 'arctic-unit-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  if (!existsSync('/usr/bin/systemd-analyze')) return;
  const path = join(directory, 'arctic.service');
  writeFileSync(path, unit.replace(/^ExecStart=.*$/m, 'ExecStart=/bin/true'));
  t.doesNotThrow(() => execFileSync('systemd-analyze', ['verify', '--man=no', path], { stdio: 'pipe' }));
});
