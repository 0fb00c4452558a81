import { createHmac, generateKeyPairSync, sign as nodeSign } from 'node:crypto';
import t from 'tap';
import { Compile } from 'typebox/compile';
import type { ClientId } from '../../../events/brand.ts';
import { createIds } from '../../../events/ids.ts';
import { Credential, NewCredential } from '../../../src/api/schemas/credentials.ts';
import { listOf } from '../../../src/api/schemas/fields.ts';
import { createTokens } from '../../../src/identity/tokens.ts';
import { newIdentity, random } from '../local-peer.ts';
import { createHarness } from './harness.ts';

const HOUR = 3_600_000;

t.test(
  'credentials: created within the caller, listed without secrets, revoked with their tokens',
  async (t) => {
    const harness = createHarness(t);
    const { send } = harness;
    const admin = await harness.admin();
    const created = await send('POST', '/v1/credentials', {
      token: admin,
      body: { scopes: ['urn:tillered:arctic:credentials.write', 'services.read'] },
    });
    t.equal(created.status, 201);
    t.ok(Compile(NewCredential).Check(created.body));
    t.same(created.body.scopes, ['services.read', 'credentials.write']);
    const { client_id, client_secret } = created.body;
    const token = await harness.token(client_id, client_secret);

    const inherited = await send('POST', '/v1/credentials', { token, body: {} });
    t.same(
      inherited.body.scopes,
      ['services.read', 'credentials.write'],
      'without scopes it has the caller’s',
    );
    const wider = await send('POST', '/v1/credentials', { token, body: { scopes: ['admin'] } });
    t.match(wider, { status: 403, body: { code: 'FORBIDDEN' } });
    t.match(await send('POST', '/v1/credentials', { token, body: { scopes: ['root'] } }), { status: 400 });
    t.match(await send('POST', '/v1/credentials', { token, body: { scopes: [] } }), { status: 400 });

    const listed = await send('GET', '/v1/credentials', { token: admin });
    t.ok(Compile(listOf('credentials', Credential)).Check(listed.body));
    t.equal(listed.body.credentials.length, 3);
    t.notMatch(listed.text, /sec_|sha256/);
    t.type(listed.body.credentials[1].last_used_at, 'string');
    t.equal(listed.body.credentials[2].last_used_at, null);

    t.match(await send('DELETE', `/v1/credentials/${client_id}`, { token }), {
      status: 422,
      body: { code: 'CANNOT_REVOKE_CURRENT' },
    });
    t.equal((await send('GET', '/v1/services', { token })).status, 200);
    t.equal((await send('DELETE', `/v1/credentials/${client_id}`, { token: admin })).status, 204);
    t.match(await send('GET', '/v1/services', { token }), { status: 401, body: { code: 'UNAUTHORIZED' } });
    t.match(await send('DELETE', `/v1/credentials/${client_id}`, { token: admin }), { status: 404 });
    t.equal((await send('GET', '/v1/credentials', { token: admin })).body.credentials.length, 2);
    await t.rejects(harness.token(client_id, client_secret));

    const key = { 'idempotency-key': 'k' };
    t.equal((await send('POST', '/v1/credentials', { token: admin, body: {}, headers: key })).status, 201);
    const repeated = await send('POST', '/v1/credentials', { token: admin, body: {}, headers: key });
    t.match(repeated, { status: 409, body: { code: 'ALREADY_EXISTS' } }, 'a secret is shown once');
  },
);

t.test('the shared credential is rotated; the old secret lives another day', async (t) => {
  const harness = createHarness(t);
  const { send, clock } = harness;
  const first = await harness.bootstrap();
  const token = await harness.token(first.client_id, first.client_secret);
  t.match((await send('GET', '/v1/cluster/credentials', { token })).body, {
    client_id: first.client_id,
    previous_secret_valid_until: null,
  });
  const rotated = await send('POST', '/v1/cluster/credentials/rotate', { token });
  t.match(rotated, { status: 200, body: { client_id: first.client_id } });
  t.not(rotated.body.client_secret, first.client_secret);
  await harness.token(first.client_id, rotated.body.client_secret);
  await harness.token(first.client_id, first.client_secret);

  const narrow = await send('POST', '/v1/credentials', { token, body: { scopes: ['credentials.write'] } });
  const weak = await harness.token(narrow.body.client_id, narrow.body.client_secret);
  t.match(
    await send('POST', '/v1/cluster/credentials/rotate', { token: weak }),
    { status: 403, body: { code: 'FORBIDDEN', error: /admin/ } },
    'a secret of wider scopes is not given to a narrower caller',
  );
  t.type(
    (await send('GET', '/v1/cluster/credentials', { token })).body.previous_secret_valid_until,
    'string',
  );
  clock.advance(24 * HOUR);
  await harness.token(first.client_id, rotated.body.client_secret);
  await t.rejects(harness.token(first.client_id, first.client_secret), 'the grace is over');
});

t.test('the token endpoint', async (t) => {
  const harness = createHarness(t);
  const { send, clock, log } = harness;
  const { client_id, client_secret } = await harness.bootstrap();
  const good = { grant_type: 'client_credentials', client_id, client_secret };
  const answer = await send('POST', '/v1/oauth/token', { form: good });
  t.match(answer, { status: 200, body: { token_type: 'Bearer', expires_in: 3_600, scope: 'admin' } });
  t.equal(answer.headers['cache-control'], 'no-store');
  const basic = Buffer.from(`${client_id}:${client_secret}`).toString('base64');
  const byBasic = await send('POST', '/v1/oauth/token', {
    form: { grant_type: 'client_credentials', scope: 'admin' },
    headers: { authorization: `Basic ${basic}` },
  });
  t.equal(byBasic.status, 200);
  t.equal(log.read({ types: ['credential.used'] }).length, 1, 'one event an hour, not one a token');

  const cases: readonly [string, Record<string, string>, number, string][] = [
    ['a wrong secret', { ...good, client_secret: `sec_${'A'.repeat(43)}` }, 401, 'UNAUTHORIZED'],
    ['an unknown client', { ...good, client_id: 'cli_01JD0000000000000000000000' }, 401, 'UNAUTHORIZED'],
    ['no client id', { ...good, client_id: 'x' }, 401, 'UNAUTHORIZED'],
    ['another grant', { ...good, grant_type: 'password' }, 400, 'INVALID_REQUEST'],
    ['no secret', { grant_type: 'client_credentials', client_id }, 400, 'INVALID_REQUEST'],
    ['an unknown scope', { ...good, scope: 'everything' }, 400, 'INVALID_REQUEST'],
  ];
  for (const [name, form, status, code] of cases) {
    t.match(await send('POST', '/v1/oauth/token', { form }), { status, body: { code } }, name);
  }
  t.match(await send('POST', '/v1/oauth/token', { body: good }), { status: 400 }, 'JSON is not a form');
  const narrow = await harness.token(client_id, client_secret, 'services.read');
  t.equal((await send('GET', '/v1/services', { token: narrow })).status, 200);
  t.match(await send('GET', '/v1/peers', { token: narrow }), { status: 403, body: { code: 'FORBIDDEN' } });

  let limited = await send('POST', '/v1/oauth/token', { form: good });
  for (let i = 0; i < 200 && limited.status === 200; i += 1) {
    limited = await send('POST', '/v1/oauth/token', { form: good });
  }
  t.match(limited, { status: 429, body: { code: 'RATE_LIMITED' } });
  t.match(limited.headers['retry-after'], /^[1-9]\d*$/);
  t.equal(
    (await send('POST', '/v1/oauth/token', { form: good, remoteAddress: '203.0.113.9' })).status,
    200,
    'others go on',
  );
  clock.advance(60_000);
  t.equal((await send('POST', '/v1/oauth/token', { form: good })).status, 200);
});

t.test('tokens: every member’s are accepted, nobody else’s', async (t) => {
  const harness = createHarness(t);
  const { send, clock } = harness;
  const { client_id, client_secret } = await harness.bootstrap();
  const own = await harness.token(client_id, client_secret);
  const ids = createIds({ clock, random });
  const member = newIdentity(clock);
  const stranger = newIdentity(clock);
  const peer = harness.admit('exit', { identity: member });
  const issue = (identity: typeof member, client = client_id) =>
    createTokens({ identity, clock, ids, issuers: () => [] }).issue(client as ClientId, ['admin']);
  const status = async (token: string) => (await send('GET', '/v1/peers', { token })).status;
  t.equal(await status(issue(member)), 200);
  t.equal(await status(issue(stranger)), 401);
  t.equal(
    await status(issue({ ...stranger, peerId: member.peerId })),
    401,
    'a member’s name with another key',
  );
  t.equal(await status(issue(member, 'cli_01JD0000000000000000000000')), 401, 'an unknown client');

  const parts = own.split('.').map((part) => Buffer.from(part, 'base64url').toString());
  const header = JSON.parse(parts[0] ?? '');
  const payload = JSON.parse(parts[1] ?? '');
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = (head: object, body: object, sign: (input: string) => Buffer) => {
    const input = `${encode(head)}.${encode(body)}`;
    return `${input}.${sign(input).toString('base64url')}`;
  };
  const byPeer = (input: string) => Buffer.from(harness.identity.sign(Buffer.from(input)));
  const { privateKey } = generateKeyPairSync('ed25519');
  const { d: _d, ...jwk } = privateKey.export({ format: 'jwk' });
  const publicKey = Buffer.from(harness.identity.publicKey);
  t.equal(await status(signed(header, payload, byPeer)), 200, 'the forge works when it has the key');
  const forged: readonly [string, string][] = [
    ['alg none', signed({ ...header, alg: 'none' }, payload, () => Buffer.alloc(0))],
    [
      'HMAC with the public key',
      signed({ ...header, alg: 'HS256' }, payload, (i) => createHmac('sha256', publicKey).update(i).digest()),
    ],
    [
      'a key of its own',
      signed({ ...header, jwk }, payload, (i) => nodeSign(null, Buffer.from(i), privateKey)),
    ],
    [
      'no key id',
      signed({ alg: 'EdDSA', typ: 'at+jwt' }, payload, (i) => nodeSign(null, Buffer.from(i), privateKey)),
    ],
    ['another type', signed({ ...header, typ: 'JWT' }, payload, byPeer)],
    ['another audience', signed(header, { ...payload, aud: 'x' }, byPeer)],
    ['another issuer', signed(header, { ...payload, iss: peer }, byPeer)],
    ['no expiry', signed(header, { ...payload, exp: undefined }, byPeer)],
    [
      'a changed payload',
      [own.split('.')[0], encode({ ...payload, sub: 'cli_x' }), own.split('.')[2]].join('.'),
    ],
    ['no signature', own.split('.').slice(0, 2).join('.')],
    ['garbage', 'abc'],
    ['far too long', `${own}${'A'.repeat(10_000)}`],
  ];
  for (const [name, token] of forged) t.equal(await status(token), 401, name);
  const basic = await send('GET', '/v1/peers', { headers: { authorization: `Basic ${own}` } });
  t.equal(basic.status, 401);
  t.match(basic.headers['www-authenticate'], /Bearer/);

  const fromMember = issue(member);
  await send('DELETE', `/v1/peers/${peer}`, { token: own });
  t.equal(await status(fromMember), 401, 'a removed peer’s tokens go with it');
  clock.advance(HOUR + 61_000);
  t.equal(await status(own), 401, 'expired');
});

t.test('the keys and the endpoints are published', async (t) => {
  const harness = createHarness(t);
  await harness.bootstrap();
  const peer = harness.admit('exit');
  const keys = (await harness.send('GET', '/.well-known/jwks.json')).body;
  t.match(keys.keys, [
    { kty: 'OKP', crv: 'Ed25519', kid: harness.identity.peerId, x: /^[\w-]{43}$/ },
    { kid: peer },
  ]);
  const found = await harness.send('GET', '/.well-known/openid-configuration', {
    headers: { host: 'a.example:8080' },
  });
  t.match(found.body, {
    issuer: harness.identity.peerId,
    token_endpoint: 'http://a.example:8080/v1/oauth/token',
    jwks_uri: 'http://a.example:8080/.well-known/jwks.json',
  });
});
