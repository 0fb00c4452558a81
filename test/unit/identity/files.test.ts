import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock as clock } from '../../../events/clock.ts';
import { publicKeyObject, verify } from '../../../events/ed25519.ts';
import { createIds } from '../../../events/ids.ts';
import { loadOrCreatePeerKey, readPeerKey, retirePeerKey } from '../../../src/identity/peer-key.ts';
import { createRecoveryToken } from '../../../src/identity/recovery-token.ts';
import { createSecret, hashSecret, secretMatches } from '../../../src/identity/secrets.ts';
import { random } from '../local-peer.ts';

const deps = { ids: createIds({ clock, random }), random };
const temporary = (t: Test): string => {
  const directory = mkdtempSync(join(tmpdir(), 'arctic-identity-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};
const modeOf = (path: string) => statSync(path).mode & 0o777;

t.test('the peer key is made once and kept', async (t) => {
  const directory = temporary(t);
  const path = join(directory, 'peer.key');
  const first = loadOrCreatePeerKey(path, deps);
  t.equal(first.created, true);
  t.equal(modeOf(path), 0o600);
  t.same(readdirSync(directory), ['peer.key'], 'no temporary file is left');
  const again = loadOrCreatePeerKey(path, deps);
  t.equal(again.created, false);
  t.equal(again.peerId, first.peerId);
  t.same(again.publicKey, first.publicKey);
  const message = Buffer.from('arctic v1 test');
  t.ok(verify(publicKeyObject(first.publicKey), message, again.sign(message)));
  t.same(
    Object.keys(again).toSorted(),
    ['created', 'peerId', 'publicKey', 'sign'],
    'the private key is not in it',
  );

  const aside = retirePeerKey(path, clock);
  t.notOk(existsSync(path));
  t.equal(modeOf(aside), 0o600);
  t.not(loadOrCreatePeerKey(path, deps).peerId, first.peerId);
});

t.test('a peer key that cannot be used stops with a sentence that names it', async (t) => {
  const directory = temporary(t);
  const path = join(directory, 'peer.key');
  loadOrCreatePeerKey(path, deps);
  chmodSync(path, 0o640);
  t.throws(() => readPeerKey(path), { code: 'FORBIDDEN', message: /peer\.key has mode 0640.*chmod 600/ });
  chmodSync(path, 0o600);
  const text = readFileSync(path, 'utf8');
  for (const damaged of [
    '',
    'x',
    text.slice(0, 40),
    `${text}more`,
    text.replace('arctic', 'arctoc'),
    text.replace('peer_', 'svc_'),
  ]) {
    writeFileSync(path, damaged);
    t.throws(() => readPeerKey(path), { message: /peer\.key is damaged/ });
  }
  t.throws(() => loadOrCreatePeerKey(join(directory, 'none', 'peer.key'), deps), {
    code: 'UNAVAILABLE',
    message: /cannot write .*none\/peer\.key: no such file or directory/,
  });
  mkdirSync(join(directory, 'folder'), { mode: 0o700 });
  t.throws(() => readPeerKey(join(directory, 'folder')), {
    message: /cannot read .*folder: it is a directory/,
  });
});

t.test('the recovery token is new at every start and only in its file', async (t) => {
  const path = join(temporary(t), 'recovery.token');
  const first = createRecoveryToken(path, random);
  const text = readFileSync(path, 'utf8').trim();
  t.equal(Buffer.from(text, 'base64url').length, 32);
  t.equal(modeOf(path), 0o600);
  t.ok(first.matches(text));
  t.ok(first.matches(`${text}\n`), 'as a shell reads it from the file');
  t.notOk(first.matches(''));
  t.notOk(first.matches(text.slice(1)));
  chmodSync(path, 0o644);
  const second = createRecoveryToken(path, random);
  t.equal(modeOf(path), 0o600, 'the mode is put right');
  t.notOk(second.matches(text));
  t.notOk(JSON.stringify(first).includes(text));
});

t.test('secrets are compared by hash, and the one before a rotation while its grace lasts', async (t) => {
  const secret = createSecret(random);
  const before = createSecret(random);
  t.match(secret, /^sec_[A-Za-z0-9_-]{43}$/);
  t.match(hashSecret(secret), /^sha256:[A-Za-z0-9_-]{43}$/);
  const stored = {
    secret_hash: hashSecret(secret),
    previous: { secret_hash: hashSecret(before), valid_until_ms: 1_000 },
  };
  t.ok(secretMatches(secret, stored, 5_000));
  t.ok(secretMatches(before, stored, 999));
  t.notOk(secretMatches(before, stored, 1_000));
  t.notOk(secretMatches(stored.secret_hash, stored, 0), 'the hash is not the secret');
  t.notOk(secretMatches(secret, undefined, 0));
  t.notOk(secretMatches('', { secret_hash: hashSecret(secret), previous: undefined }, 0));
});
