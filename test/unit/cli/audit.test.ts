/** Replay, drift, events and audit against the real API over a real log, and offline on a copy of its database. */
import { copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { createHarness } from '../api/harness.ts';
import { createHome } from './run-cli.ts';

t.setTimeout(180_000);

t.test('history is exported, verified, replayed and compared, live and offline', async (t) => {
  const agent = createHarness(t);
  const home = createHome();
  t.teardown(() => home.remove());
  const { port } = await agent.api.start();
  const url = `http://127.0.0.1:${port}`;
  const run = (...args: string[]) => home.run(args);
  const good = async (...args: string[]) => {
    const result = await run(...args);
    t.equal(result.code, 0, `arctic ${args.join(' ')}\n${result.stderr}${result.stdout}`);
    return result.stdout;
  };
  const at = (name: string): string => join(home.directory, name);
  writeFileSync(at('license.json'), JSON.stringify(agent.license()));
  await good('bootstrap', '--url', url, '--license-file', at('license.json'), '--name', 'london');
  await good('peers', 'add', 'paris.example:8080', '--name', 'paris');
  await good('services', 'create', '--target-peer', 'paris', '--name', 'web');
  const before = agent.log.head;
  await good('routes', 'add', '--service', 'web', '--priority', '100', '--dest-cidr', '192.168.7.0/24');
  await good('services', 'update', 'web', '--bandwidth-limit', '20');
  await good('services', 'update', 'web', '--bandwidth-limit', '50');
  const database = join(dirname(agent.recoveryFile), 'arctic.db');
  copyFileSync(database, at('copy.db'));
  copyFileSync(`${database}-wal`, at('copy.db-wal'));

  await t.test('replay', async (t) => {
    for (const source of [[], ['--db', at('copy.db')]]) {
      const shown = await good('replay', ...source, '--until', String(before), '--projection', 'services');
      t.match(shown, /bandwidth_limit_mbps: 0\n/);
      const text = await good('replay', ...source, '--diff-with', String(before));
      t.match(
        text,
        /\n {2}~ service web \(svc_\w+\)\n {6}bandwidth_limit_mbps: 0 -> 50\n {8}by position \d+, .* client cli_\w+ from .* \(service\.updated evt_/,
      );
      t.match(
        text,
        /\n {2}\+ route 1 of web \(rte_\w+\)\n.*dest_cidr=192\.168\.7\.0\/24.*\n {6}by position \d+, .*\(route\.added evt_/,
      );
      t.match(text, /\nfirewall:\n {2}\+ ipv4 rule of route 1 of web/);
      const back = JSON.parse(
        await good(
          'replay',
          ...source,
          '--json',
          '--until',
          String(before),
          '--diff-with',
          String(agent.log.head),
          '--projection',
          'services',
        ),
      );
      t.match(back.changes, [
        { kind: 'changed', fields: [{ field: 'bandwidth_limit_mbps', before: 50, after: 0 }] },
      ]);
      t.match(await good('replay', ...source, '--verify'), /folded from the first/);
    }
    const beyond = await run('replay', '--until', String(agent.log.head + 5), '--projection', 'cluster');
    t.match(beyond.stdout, new RegExp(`^position: ${agent.log.head}\\n`));
    t.match(
      beyond.stdout,
      /\nlast_change: position \d+, .*, client cli_\w+ from .* \(service\.updated evt_\w+\)\n/,
    );
    t.match(
      beyond.stderr,
      `Note: the log ends at position ${agent.log.head}; there is no ${agent.log.head + 5} yet.`,
    );
    t.match(await good('replay', '--rebuild'), /rebuilt: the digests match/);
    t.equal((await run('replay', '--verify', '--until', '3')).code, 2);
    t.equal((await run('replay', '--db', at('none.db'))).code, 3);
  });

  await t.test('audit', async (t) => {
    await good('audit', 'export', '--file', at('all.jsonl'));
    t.equal(statSync(at('all.jsonl')).mode & 0o777, 0o600);
    const key = Buffer.from(agent.identity.publicKey).toString('base64');
    const verified = await good('audit', 'verify', at('all.jsonl'), '--root-key', key);
    t.match(verified, /given as a root key[\s\S]*all\.jsonl verifies\.\n$/);
    t.notMatch(verified, /Not sealed|not proven/);
    const lines = readFileSync(at('all.jsonl'), 'utf8').trimEnd().split('\n');
    const changed = lines
      .map((line) => JSON.parse(line))
      .filter((line) => line.event?.type === 'service.updated');
    t.match(changed, [
      {
        before: { bandwidth_limit_mbps: 0 },
        after: { bandwidth_limit_mbps: 20 },
        event: { actor: { kind: 'client', address: '127.0.0.1' } },
      },
      { before: { bandwidth_limit_mbps: 20 }, after: { bandwidth_limit_mbps: 50 } },
    ]);
    await good(
      'audit',
      'export',
      '--format',
      'csv',
      '--type',
      'route.added,service.updated',
      '--file',
      at('some.csv'),
    );
    t.match(
      await good('audit', 'verify', at('some.csv')),
      /3 events, .* left out as hashes.*\nThe log ended at position \d+; asked for: only route\.added, service\.updated\.\n/,
    );
    t.match(verified, /\nThe log ended at position \d+; nothing was filtered out\.\n/);
    const offline = await home.run(['audit', 'export', '--db', at('copy.db'), '--since', String(before)]);
    t.match(offline.stderr, /not sealed/);
    t.match((await home.spawn(['audit', 'verify', '-'], { stdin: offline.stdout })).stdout, /Not sealed/);

    for (const source of [[], ['--db', at('copy.db')]]) {
      const slip = await run('audit', 'export', ...source, '--type', 'peer.unreached', '--file', at('slip'));
      t.match(slip, {
        code: 2,
        stderr: /no event type "peer\.unreached"\. Did you mean 'peer\.unreachable'/,
      });
      t.notOk(existsSync(at('slip')), 'no file passes for an export');
    }

    const forged = lines.with(5, (lines[5] ?? '').replace('"kind":"client"', '"kind":"system"'));
    writeFileSync(at('forged.jsonl'), `${forged.join('\n')}\n`);
    writeFileSync(at('short.jsonl'), `${lines.toSpliced(7, 1).join('\n')}\n`);
    const bad = await run('audit', 'verify', at('forged.jsonl'));
    t.equal(bad.code, 1);
    t.match(bad.stdout, /forged\.jsonl:6: event evt_/);
    t.match(
      (await run('audit', 'verify', at('short.jsonl'))).stdout,
      /short\.jsonl:8: line 8 is missing before it/,
    );
    t.match(
      (
        await run(
          'audit',
          'verify',
          at('all.jsonl'),
          '--root-key',
          key.replace(/^./, (c) => (c === 'A' ? 'B' : 'A')),
        )
      ).stdout,
      /nothing vouches/,
    );
    t.equal((await run('audit', 'verify', at('license.json'))).code, 1);
    t.equal((await run('audit', 'verify', at('absent'))).code, 1);
    t.equal((await run('audit', 'export', '--key', 'x')).code, 2);
    t.equal((await run('audit', 'export', '--since', 'yesterday')).code, 2);
  });

  await t.test('drift', async (t) => {
    const now = await run('drift');
    t.equal(now.code, 7);
    const then = await run('drift', '--at', String(agent.log.head));
    t.equal(then.code, 7);
    t.match(then.stdout, /firewall: unknown\n {2}no pass is recorded by then/);
    t.equal((await run('drift', '--at', 'then')).code, 2);
    t.equal((await run('drift', '--at', '3', '--watch')).code, 2);
  });

  await t.test('events: a write that lost says to which and why', async (t) => {
    const [first] = JSON.parse(await good('events', 'list', '--type', 'service.updated', '--json'));
    t.match(await good('events', 'get', first.id), /lost to[\s\S]*written later/);
  });
});
