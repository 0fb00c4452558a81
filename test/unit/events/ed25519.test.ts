import { randomBytes } from 'node:crypto';
import t from 'tap';
import {
  createSigner,
  isPublicKey,
  privateKeyOfSeed,
  publicKeyObject,
  publicKeyOfSeed,
  rawPublicKey,
  seedOfPrivateKey,
  signPortable,
  verify,
  verifyPortable,
} from '../../../events/ed25519.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** RFC 8032 section 7.1, tests 1 to 3. */
const VECTORS = [
  {
    seed: '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    publicKey: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    message: '',
    signature:
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  },
  {
    seed: '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    message: '72',
    signature:
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  },
  {
    seed: 'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    publicKey: 'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    message: 'af82',
    signature:
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  },
];

for (const [index, vector] of VECTORS.entries()) {
  t.test(`RFC 8032 test ${index + 1}, both implementations`, async (t) => {
    const seed = hex(vector.seed);
    const message = hex(vector.message);
    const signer = createSigner(seed);
    const key = publicKeyObject(signer.publicKey);
    t.equal(toHex(publicKeyOfSeed(seed)), vector.publicKey);
    t.equal(toHex(rawPublicKey(privateKeyOfSeed(seed))), vector.publicKey);
    t.equal(toHex(rawPublicKey(key)), vector.publicKey);
    t.equal(toHex(seedOfPrivateKey(privateKeyOfSeed(seed))), vector.seed);
    t.equal(toHex(signer.sign(message)), vector.signature);
    t.equal(toHex(signPortable(seed, message)), vector.signature);
    t.ok(verify(key, message, hex(vector.signature)));
    t.ok(verifyPortable(signer.publicKey, message, hex(vector.signature)));
    const other = new Uint8Array([...message, 1]);
    t.notOk(verify(key, other, hex(vector.signature)));
    t.notOk(verifyPortable(signer.publicKey, other, hex(vector.signature)));
  });
}

t.test('the two implementations agree on keys and messages of any kind', async (t) => {
  for (let i = 0; i < 20; i += 1) {
    const seed = new Uint8Array(randomBytes(32));
    const message = new Uint8Array(randomBytes(i * 13));
    const signer = createSigner(seed);
    t.same(signer.sign(message), signPortable(seed, message));
    t.ok(verifyPortable(signer.publicKey, message, signer.sign(message)));
    t.ok(verify(publicKeyObject(signer.publicKey), message, signPortable(seed, message)));
  }
});

t.test('a signature whose scalar was raised by L is refused by both', async (t) => {
  const L = 2n ** 252n + 27742317777372353535851937790883648493n;
  const seed = new Uint8Array(32).fill(3);
  const signer = createSigner(seed);
  const message = hex('00ff');
  const signature = Buffer.from(signer.sign(message));
  let s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`) + L;
  for (let i = 32; i < 64; i += 1) {
    signature[i] = Number(s & 0xffn);
    s >>= 8n;
  }
  t.notOk(verify(publicKeyObject(signer.publicKey), message, signature));
  t.notOk(verifyPortable(signer.publicKey, message, signature));
});

t.test('keys that prove nothing are refused', async (t) => {
  const zeros = (first: string, last = '00') => `${first}${'00'.repeat(30)}${last}`;
  for (const [what, key] of [
    ['zero', zeros('00')],
    ['the neutral element', zeros('01')],
    ['the neutral element with a sign', zeros('01', '80')],
    ['minus one', `ec${'ff'.repeat(30)}7f`],
    ['order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
    ['order 8, other', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa'],
    ['p, a second name of zero', `ed${'ff'.repeat(30)}7f`],
    ['not on the curve', zeros('02')],
    ['too short', '00'.repeat(31)],
  ] as const) {
    t.notOk(isPublicKey(hex(key)), what);
    t.throws(() => publicKeyObject(hex(key)), what);
    t.notOk(verifyPortable(hex(key), new Uint8Array(1), new Uint8Array(64)), what);
  }
  t.ok(isPublicKey(publicKeyOfSeed(new Uint8Array(32))));
  t.throws(() => publicKeyOfSeed(new Uint8Array(31)));
  t.notOk(
    verify(publicKeyObject(publicKeyOfSeed(new Uint8Array(32))), new Uint8Array(1), new Uint8Array(63)),
  );
});
