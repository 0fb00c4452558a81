import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually } from './cluster.ts';
import { operator } from './operator.ts';

t.test('a backup taken while the agent runs brings the host back, and others fill in the rest', async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const entry = cluster.member(0);
  const exit = cluster.member(1);
  const run = operator(cluster, 0);
  const file = join(lab.directory, 'backup.tar.gz');

  const taken = await run('backup', file, '--json');
  t.equal(taken.code, 0, taken.stderr);
  t.equal(statSync(file).mode & 0o777, 0o600);
  const { head, files } = JSON.parse(taken.stdout) as { head: number; files: string[] };
  t.ok(files.includes('arctic.db') && files.includes('peer.key'));
  const again = await run('backup', file);
  t.equal(again.code, 2, 'a file that is there is not replaced without --yes');

  const create = async (name: string) =>
    entry.agent.request('POST', '/v1/services', {
      body: { name, target_peer_id: exit.identity.peer_id },
      token: entry.token,
    });
  t.equal((await create('after-the-backup')).status, 201);
  const services = async (member: typeof entry) =>
    (await member.agent.request('GET', '/v1/services', { token: member.token }))
      .json<{ services: { name: string }[] }>()
      .services.map(({ name }) => name);
  await eventually('the exit knows it', async () => (await services(exit)).includes('after-the-backup'));

  const refused = await run('restore', file, '--yes');
  t.equal(refused.code, 3, 'not under a running agent');
  t.match(refused.stderr, /another agent is running.*stop it first/);

  await entry.agent.stop();
  const restored = await run('restore', file, '--yes', '--json');
  t.equal(restored.code, 0, restored.stderr);
  t.match(JSON.parse(restored.stdout), { peer_id: entry.identity.peer_id, head });
  const left = readdirSync(entry.agent.dataDir);
  t.notOk(
    left.some((name) => name.startsWith('.restore-')),
    'no working files are left',
  );
  t.ok(
    left.some((name) => name.startsWith('before-restore-')),
    'what was there is put aside',
  );

  const back = await lab.startAgent('entry');
  await eventually('what the host forgot comes back', async () => {
    const answer = await back.request('GET', '/v1/services', { token: entry.token });
    return answer.text.includes('after-the-backup');
  });
  const more = await eventually('it writes again', async () => {
    const answer = await back.request('POST', '/v1/services', {
      body: { name: 'after-the-restore', target_peer_id: exit.identity.peer_id },
      token: entry.token,
    });
    return answer.status === 201 ? answer : undefined;
  });
  t.equal(more.status, 201);
  await eventually('and the exit takes it', async () => (await services(exit)).includes('after-the-restore'));
});

t.test('a backup that is damaged, cut short or foreign restores nothing', async (t) => {
  const cluster = await createCluster({ join: false });
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const { agent } = cluster.member(0);
  const run = operator(cluster, 0);
  const file = join(lab.directory, 'backup.tar.gz');
  t.equal((await run('backup', file)).code, 0);
  await agent.stop();
  const before = readFileSync(join(agent.dataDir, 'peer.key'), 'utf8');

  const bytes = readFileSync(file);
  const cases: Record<string, Buffer> = {
    'cut short': bytes.subarray(0, bytes.length - 2_000),
    'not gzip': Buffer.from('hello'),
    empty: Buffer.alloc(0),
  };
  // One altered byte of the database inside a sound archive.
  const unpacked = join(lab.directory, 'unpacked');
  mkdirSync(unpacked);
  execFileSync('tar', ['xzf', file, '-C', unpacked]);
  const database = readFileSync(join(unpacked, 'arctic.db'));
  database[database.length - 100] = (database[database.length - 100] ?? 0) ^ 1;
  writeFileSync(join(unpacked, 'arctic.db'), database);
  const names = readdirSync(unpacked).sort((a) => (a === 'manifest.json' ? -1 : 1));
  execFileSync('tar', [
    '--format=ustar',
    '-czf',
    join(lab.directory, 'altered.gz'),
    '-C',
    unpacked,
    ...names,
  ]);
  cases['altered'] = readFileSync(join(lab.directory, 'altered.gz'));
  // A name that leads out of the directory.
  writeFileSync(join(unpacked, 'evil'), 'x');
  execFileSync('tar', [
    '--format=ustar',
    '-czPf',
    join(lab.directory, 'evil.gz'),
    '-C',
    unpacked,
    '--transform=s,^evil,../../evil,',
    'evil',
  ]);
  cases['leading out'] = readFileSync(join(lab.directory, 'evil.gz'));

  for (const [what, content] of Object.entries(cases)) {
    const bad = join(lab.directory, 'bad.gz');
    writeFileSync(bad, content);
    const refused = await run('restore', bad, '--yes');
    t.equal(refused.code, 1, `${what}: ${refused.stderr}`);
    t.match(refused.stderr, /^Error: .*is not a backup that can be restored/);
  }
  t.equal((await run('restore', join(lab.directory, 'none.gz'), '--yes')).code, 1);
  t.equal(readFileSync(join(agent.dataDir, 'peer.key'), 'utf8'), before, 'nothing was touched');
  t.notOk(readdirSync(agent.dataDir).some((name) => name.startsWith('before-restore-')));
});
