/** What keeps an agent from starting is said in one line, with the right exit code. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { arcticCommand } from '../../ops/lab/agent.ts';
import type { AgentOptions, LabAgent } from '../../ops/lab/lab.ts';
import { createLab } from '../../ops/lab/lab.ts';
import { bootstrap, createIssuer } from './cluster.ts';

const Database = createRequire(import.meta.url)('better-sqlite3') as typeof import('better-sqlite3');

t.test('refusals at start', { timeout: 180_000 }, async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.destroy());
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  const home = lab.host('entry').directory;
  issuer.trustOn(join(home, 'config'));

  const refused = async (t: Test, options: AgentOptions, code: number, says: RegExp): Promise<void> => {
    const agent = await lab.startAgent('entry', { ...options, wait: false });
    const end = await agent.process.ended;
    t.equal(end.code, code, agent.process.output());
    const lines = agent.process
      .output()
      .split('\n')
      .filter((line) => line.startsWith('Error: '));
    t.equal(lines.length, 1, `one line: ${agent.process.output()}`);
    t.match(lines[0], says);
    t.notMatch(agent.process.output(), /^\s+at /m, 'no stack trace');
  };

  await t.test('a setting that is not usable', (t) =>
    refused(t, { env: { RESYNC_SECONDS: 'often' } }, 3, /RESYNC_SECONDS="often"/),
  );
  await t.test('a busy port', async (t) => {
    const holder = lab.spawn('entry', [
      process.execPath,
      '-e',
      'require("node:net").createServer().listen(8080, "::", () => console.log("ready"))',
    ]);
    while (!holder.output().includes('ready')) await new Promise((resolve) => setTimeout(resolve, 10));
    await refused(t, {}, 3, /8080.*API_PORT/);
    await holder.stop();
  });
  await t.test('a data directory that cannot be written', async (t) => {
    const file = join(home, 'not-a-directory');
    writeFileSync(file, '');
    await refused(t, { dataDir: file, env: {} }, 3, /DATA_DIR/).catch(async () => {
      // mkdir of the lab itself refuses a file in the way; /proc is a directory that root cannot write either.
      await refused(t, { env: { DATA_DIR: '/proc/self' } }, 3, /DATA_DIR.*\/proc\/self/);
    });
  });
  await t.test('no privileges', (t) =>
    (async () => {
      const data = join(home, 'unprivileged');
      mkdirSync(data);
      chmodSync(data, 0o777);
      const agent = lab.spawn(
        'entry',
        [
          'setpriv',
          '--reuid=65534',
          '--regid=65534',
          '--clear-groups',
          '--bounding-set=-all',
          ...arcticCommand(),
          'agent',
        ],
        { DATA_DIR: join(data, 'data'), CONFIG_DIR: join(data, 'config'), HOME: data, TMPDIR: data },
      );
      const end = await agent.ended;
      t.equal(end.code, 3, agent.output());
      t.match(agent.output(), /Error: .*CAP_NET_ADMIN/);
    })(),
  );

  let agent: LabAgent = await lab.startAgent('entry');
  await bootstrap(agent, issuer.issue(), 'entry');
  await agent.stop();

  await t.test('a second agent on the same database', async (t) => {
    agent = await lab.startAgent('entry');
    await refused(t, { apiPort: 8081 }, 3, /another agent.*arctic\.db/);
    await agent.stop();
  });
  await t.test('a root that others can write', async (t) => {
    const root = join(home, 'config', 'trust-roots', 'root.pub');
    chmodSync(root, 0o666);
    await refused(t, {}, 3, /root\.pub.*write/s);
    chmodSync(root, 0o644);
  });
  await t.test('a stored license that no trust root signed', async (t) => {
    const root = join(home, 'config', 'trust-roots', 'root.pub');
    const held = readFileSync(root);
    createIssuer(join(lab.directory, 'stranger')).trustOn(join(home, 'config'));
    await refused(t, {}, 3, /license .*(trust|verify)/s);
    writeFileSync(root, held);
  });
  await t.test('a database of a newer version', async (t) => {
    const path = join(home, 'data', 'arctic.db');
    const db = new Database(path);
    const version = db.pragma('user_version', { simple: true });
    db.pragma('user_version = 9999');
    db.close();
    await refused(t, {}, 3, /arctic\.db.*newer/s);
    const again = new Database(path);
    again.pragma(`user_version = ${Number(version)}`);
    again.close();
  });
  await t.test('a tampered log', async (t) => {
    const path = join(home, 'data', 'arctic.db');
    const db = new Database(path);
    const triggers = db.prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all() as {
      name: string;
      sql: string;
    }[];
    for (const { name } of triggers) db.exec(`DROP TRIGGER ${name}`);
    db.exec(
      `UPDATE events SET body = replace(body, 'entry', 'other') WHERE body LIKE '%"type":"peer.registered"%'`,
    );
    for (const { sql } of triggers) db.exec(sql);
    db.close();
    await refused(t, {}, 3, /position \d+/);
  });
});
