/** How the command line reaches an agent: endpoints, time limits, tokens, another cluster. */
import { statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { createHome } from './run-cli.ts';
import { LOCAL, OTHER, scene, writeConfig } from './scene.ts';

t.setTimeout(180_000);

t.test('an agent that does not answer is exit code 4 with a remedy', async (t) => {
  const home = createHome();
  t.teardown(() => home.remove());
  const result = await home.run(['health', '--url', 'http://127.0.0.1:9', '--debug']);
  t.equal(result.code, 4);
  t.match(result.stderr, /^debug: GET http:\/\/127\.0\.0\.1:9\/livez failed \(connection refused\) \d+ ms\n/);
  t.match(
    result.stderr,
    /Error: cannot reach the agent .*connection refused\. Check .*systemctl status arctic/,
  );
});

t.test('a silent server and a foreign one are exit code 4', async (t) => {
  const [home, api] = await scene(t, { 'GET /livez': { text: '<html>', type: 'text/html' } });
  const silent = createServer((socket) => socket.resume());
  await new Promise<void>((resolve) => {
    silent.listen(0, '127.0.0.1', resolve);
  });
  const { port } = silent.address() as AddressInfo;
  t.teardown(() => silent.close());
  const waited = await home.run(['health', '--url', `http://127.0.0.1:${port}`, '--timeout', '200ms']);
  t.equal(waited.code, 4);
  t.match(waited.stderr, 'no answer within 200 ms');
  const foreign = await home.run(['health', '--url', api.url, '--debug']);
  t.equal(foreign.code, 4);
  t.match(
    foreign.stderr,
    /\nError: .* does not answer as an Arctic agent \(HTTP 200, text\/html\)\. Check the address\.\n$/,
  );
});

t.test('endpoints are tried in order, and the last good one is remembered', async (t) => {
  const [home, api] = await scene(t, { 'GET /v1/cluster/identity': { body: { peer_id: LOCAL } } });
  writeConfig(home, ['http://127.0.0.1:9', api.url]);
  const first = await home.run(['cluster', 'identity', '--debug']);
  t.equal(first.code, 0);
  t.match(first.stderr, '127.0.0.1:9');
  const second = await home.run(['cluster', 'identity', '--debug']);
  t.notMatch(second.stderr, '127.0.0.1:9');
  t.equal(statSync(join(home.directory, 'arctic', 'cache.json')).mode & 0o777, 0o600);
});

t.test('a remembered token that is refused is replaced once', async (t) => {
  let taken = 'old';
  const [home, api] = await scene(t, {
    'POST /v1/oauth/token': () => ({ body: { access_token: taken, expires_in: 3600 } }),
    'POST /v1/cluster/sync': ({ headers }) =>
      headers.authorization === `Bearer ${taken}`
        ? { body: { triggered: true } }
        : { status: 401, body: { error: 'the token is not valid.', code: 'UNAUTHORIZED' } },
  });
  writeConfig(home, [api.url]);
  t.equal((await home.run(['cluster', 'sync'])).code, 0);
  taken = 'new';
  const again = await home.run(['cluster', 'sync', '--peer', OTHER]);
  t.equal(again.code, 0, again.stderr);
  t.equal(api.asked.at(-1)?.headers['x-arctic-peer'], OTHER);
});

t.test('the recovery token is sent as it is and masked in the trace', async (t) => {
  const [home, api] = await scene(t, {
    'GET /v1/cluster/lock': { body: { locked: false, lock: null } },
  });
  const file = join(home.directory, 'recovery.token');
  writeFileSync(file, 'recovery-secret\n', { mode: 0o600 });
  const result = await home.run([
    'cluster',
    'lock',
    '--url',
    api.url,
    '--recovery-token-file',
    file,
    '--trace',
  ]);
  t.equal(result.stdout, 'The cluster is not locked.\n');
  t.equal(api.asked[0]?.headers['x-arctic-recovery'], 'recovery-secret');
  t.notMatch(result.stderr, 'recovery-secret');
});

t.test('another cluster shows its public identity and gets no credentials of ours', async (t) => {
  const [home, api] = await scene(t, {
    'GET /v1/license': { status: 401, body: { error: 'no token.', code: 'UNAUTHORIZED' } },
    'GET /v1/cluster/identity': {
      body: { peer_id: OTHER, license_id: 'lic_other', cluster_id: 'clu_other' },
    },
  });
  writeConfig(home, ['http://127.0.0.1:9']);
  const result = await home.run(['license', 'status', '--url', api.url]);
  t.equal(result.code, 0, result.stderr);
  t.match(result.stdout, /License ID: +lic_other/);
  t.notOk(api.asked.some((one) => one.path === '/v1/oauth/token'));
});
