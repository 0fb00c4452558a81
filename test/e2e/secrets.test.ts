/**
 * Every secret of a cluster's life, and every place it must not be: exports, logs at the finest level, the database as bytes,
 * what --trace shows. A secret is looked for as it is given out, and as the bytes it stands for.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { createLab } from '../../ops/lab/lab.ts';
import { createIssuer, eventually } from './cluster.ts';

/** All forms in which a secret could come to light. */
function forms(secret: string): readonly Buffer[] {
  const body = secret.replace(/^sec_/, '');
  const shapes = [Buffer.from(secret)];
  const bytes = Buffer.from(body, 'base64url');
  if (/^[A-Za-z0-9_+/=-]+$/.test(body) && bytes.length >= 16) {
    shapes.push(
      bytes,
      Buffer.from(bytes.toString('hex')),
      Buffer.from(bytes.toString('base64').replace(/=+$/, '')),
    );
    shapes.push(Buffer.from(bytes.toString('base64url')));
  }
  return shapes;
}

t.setTimeout(300_000);

t.test('no secret of a run is in anything an operator hands on', { timeout: 240_000 }, async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.destroy());
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  const secrets = new Map<string, string>();
  const shown: { readonly what: string; readonly bytes: Buffer }[] = [];
  const show = (what: string, content: string | Buffer): void =>
    void shown.push({ what, bytes: Buffer.isBuffer(content) ? content : Buffer.from(content) });

  /** Runs a command with --trace. What it prints as its result may hold the secret it was asked for; stderr never may. */
  const run = async (
    host: string,
    argv: readonly string[],
    options: { readonly givesSecret?: boolean } = {},
  ) => {
    const result = await lab.cli(host, [...argv, '--trace', '--yes'], { check: false });
    t.equal(result.code, 0, `arctic ${argv.join(' ')}\n${result.stderr}`);
    show(`--trace of ${argv.slice(0, 2).join(' ')} on ${host}`, result.stderr);
    if (options.givesSecret !== true)
      show(`output of ${argv.slice(0, 2).join(' ')} on ${host}`, result.stdout);
    return result.stdout;
  };

  /** What the command line keeps for the operator. */
  const credentialsOf = (host: string): { readonly client: string; readonly secret: string } => {
    const config = parse(
      readFileSync(join(lab.host(host).directory, 'home/.config/arctic/config.yaml'), 'utf8'),
    );
    const { client_id, client_secret } = config.clusters[config.current_cluster];
    return { client: client_id, secret: client_secret };
  };

  for (const name of ['entry', 'exit']) {
    issuer.trustOn(join(lab.host(name).directory, 'config'));
    const agent = await lab.startAgent(name, { env: { LOG_LEVEL: 'trace', HEARTBEAT_SECONDS: '1' } });
    const license = join(lab.host(name).directory, 'license.json');
    writeFileSync(license, JSON.stringify(issuer.issue()));
    await run(name, ['bootstrap', '--url', agent.url, '--license-file', license, '--name', name], {
      givesSecret: true,
    });
    const { client, secret } = credentialsOf(name);
    t.match(secret, /^sec_/);
    secrets.set(`client secret of ${name}`, secret);
    const answer = await agent.request('POST', '/v1/oauth/token', {
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        client_id: client,
        client_secret: secret,
      }),
    });
    secrets.set(`access token of ${name}`, answer.json<{ access_token: string }>().access_token);
    secrets.set(
      `recovery token of ${name}`,
      readFileSync(join(agent.configDir, 'recovery.token'), 'utf8').trim(),
    );
    const seed = readFileSync(join(agent.dataDir, 'peer.key'), 'utf8').split('\n')[2] ?? '';
    t.equal(Buffer.from(seed, 'base64').length, 32);
    secrets.set(`private key of ${name}`, seed);
  }
  const [entry, exit] = lab.agents;
  if (entry === undefined || exit === undefined) throw new Error('two agents were started');

  await run('entry', ['peers', 'add', exit.address]);
  await eventually('the join', async () =>
    (await lab.cli('entry', ['peers', 'list', '--json'])).stdout.includes('"active"'),
  );
  const created = await run('entry', ['credentials', 'create', '--json'], { givesSecret: true });
  secrets.set('created client secret', /"(sec_[^"]+)"/.exec(created)?.[1] ?? '');
  await run('entry', ['credentials', 'rotate', '--update-config', '--json'], {
    givesSecret: true,
  });
  t.not(credentialsOf('entry').secret, secrets.get('client secret of entry'));
  secrets.set('rotated client secret', credentialsOf('entry').secret);
  await run('entry', ['peers', 'list']);
  await run('entry', ['cluster', 'status', '--recovery-token-file', join(entry.configDir, 'recovery.token')]);
  await run('entry', ['cluster', 'sync']);
  // Refused requests are logged with their reason; the wrong secret in them may be the right one mistyped.
  const wrong = `${secrets.get('client secret of exit')}x`;
  await entry.request('POST', '/v1/oauth/token', {
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: 'cli_01JD0000000000000000000000',
      client_secret: wrong,
    }),
  });
  await entry.request('GET', '/v1/peers', {
    headers: { 'x-arctic-recovery': `${secrets.get('recovery token of exit')}` },
  });
  await entry.request('GET', `/v1/peers?token=x`, { token: `${secrets.get('access token of exit')}` });

  for (const format of ['jsonl', 'csv'])
    show(`audit export (${format})`, await run('entry', ['audit', 'export', '--format', format]));
  await run('entry', ['events', 'list', '--json']);
  await run('entry', ['replay', '--json']);
  await run('entry', ['drift', '--json']);
  for (const agent of [entry, exit]) {
    const metrics = await agent.request('GET', '/metrics');
    show('metrics', metrics.text);
    const database = join(agent.dataDir, 'arctic.db');
    for (const file of [database, `${database}-wal`, `${database}-shm`])
      if (existsSync(file)) show(file, readFileSync(file));
    await agent.stop();
    show(`${database} after the stop`, readFileSync(database));
    show('log of the agent', readFileSync(agent.process.log));
  }

  const { client } = credentialsOf('exit');
  t.ok(
    shown.filter(({ bytes }) => bytes.includes(client)).length >= 3,
    'what is no secret is found in database, log and export: the search works',
  );
  t.equal(secrets.size, 10);
  for (const [name, secret] of secrets) {
    t.ok(secret?.length >= 40, `${name} was used in this run`);
    if (!secret) continue;
    for (const { what, bytes } of shown)
      for (const form of forms(secret)) if (bytes.includes(form)) t.fail(`${name} stands in ${what}`);
  }
  t.ok(
    shown.some(
      ({ what, bytes }) =>
        (what === 'log of the agent' && bytes.includes('level=trace')) || bytes.includes('level=debug'),
    ),
    'the logs were at their finest',
  );
  t.ok(shown.length > 20, `${shown.length} texts were looked through`);
});
