import fc from 'fast-check';
import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { createSigner } from '../../../events/ed25519.ts';
import {
  type HandshakeAnswer,
  type HandshakeHello,
  signTranscript,
  transcriptOf,
  verifyRaw,
  verifyTranscript,
} from '../../../src/identity/handshake-keys.ts';
import { createEphemeral, derivePairKeys } from '../../../src/identity/key-schedule.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const filled = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

const initiator = createEphemeral(filled(1));
const responder = createEphemeral(filled(2));

t.test('X25519 agrees with RFC 7748, section 6.1', async (t) => {
  const bob = createEphemeral(unhex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'));
  t.equal(hex(bob.publicKey), 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
  const alice = unhex('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
  t.equal(hex(bob.agree(alice)), '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');
});

t.test('a public key of low order is refused', async (t) => {
  for (const key of [
    '00'.repeat(32),
    `01${'00'.repeat(31)}`,
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  ])
    t.throws(() => initiator.agree(unhex(key)), key);
  t.throws(() => initiator.agree(new Uint8Array(31)), RangeError);
});

/** Checked against an implementation of RFC 5869 in another language. */
t.test('the fixed vectors of the key schedule', async (t) => {
  const shared = initiator.agree(responder.publicKey);
  t.equal(hex(shared), '2ed76ab549b1e73c031eb49c9448f0798aea81b698279a0c3dc3e49fbfc4b953');
  t.equal(hex(responder.agree(initiator.publicKey)), hex(shared));
  const keys = derivePairKeys(shared, filled(3));
  t.equal(keys.sessionId, 'ae3d23e270329154ae085a6a623bbef4');
  t.equal(hex(keys.handshake.initiator), '6c0ff62bc7dc9341ab5bd63486dc757a4e663e99aa99eb8704255f343a894473');
  t.equal(hex(keys.handshake.responder), '5dd185589f28822fe53fda41c5b93550adf6690dc96ae72ecba1b0e009da90cc');
  t.equal(hex(keys.gossip.initiator), 'b3f7b5486636707ed22f647e574e8ee048e8dd440a58f138620f56c423eea75a');
  t.equal(hex(keys.gossip.responder), '3646e07af6a066de6310302084e726fdc952626d4deebb5cba26466075985b16');
  t.equal(hex(keys.carrier), '2436528c7fc0ad6a13ab1e140884f63b1a511a31b228cf73726532c2a9296a48');
  t.equal(
    hex(keys.tunnel('initiator', 0)),
    '421a1ee8dba62bc72c7b5e0ed23970a4a268f4665cddc4dedd887fba95e7dde8',
  );
  t.equal(
    hex(keys.tunnel('responder', 0)),
    'e787436d741a4c48e6f1aa394a84b7b24b3c39e6cf5af3e24bc885a90b2a6ea8',
  );
  t.equal(
    hex(keys.tunnel('initiator', 1)),
    '2398e014696cc6d31272e263ef00012f6481ee08953b24c9d2bd9e92013bb3a6',
  );
});

t.test('another transcript gives other keys; an erased schedule gives none', async (t) => {
  const shared = initiator.agree(responder.publicKey);
  const one = derivePairKeys(shared, filled(3));
  const two = derivePairKeys(shared, filled(4));
  t.not(one.sessionId, two.sessionId);
  t.notSame(one.carrier, two.carrier);
  one.erase();
  t.throws(() => one.tunnel('initiator', 0), /retired/);
  t.equal(hex(one.gossip.initiator), '00'.repeat(32));
});

const party = (n: number) => ({
  peer_id: `peer_01JD000000000000000000000${n}`,
  public_key: base64(filled(n)),
  customer_id: 'cust_a',
  license_id: 'lic_a',
  cluster_id: `clu_01JD000000000000000000000${n}`,
  name: `host-${n}`,
  address: `10.0.0.${n}:8080`,
  endpoints: [`http://10.0.0.${n}:8080`],
  version: 'v1.4.0',
});
const hello: HandshakeHello = {
  protocols: [1],
  intent: 'join',
  to: null,
  challenge: base64(filled(4)),
  ephemeral: base64(initiator.publicKey),
  time: 1_767_225_600_000,
  from: party(1),
};
const answer: HandshakeAnswer = {
  protocol: 1,
  nonce: base64(filled(5)),
  ephemeral: base64(responder.publicKey),
  time: 1_767_225_600_010,
  from: party(2),
};

t.test('the transcript covers every field, and where one ends', async (t) => {
  const transcript = hex(transcriptOf(hello, answer));
  t.equal(transcript, '2734252f4f1cd80996d448cce6920d2dcec8ed84b593fbce9437685dd8c9d153');
  const changedParty = fc.constantFrom(
    ...([
      'peer_id',
      'public_key',
      'customer_id',
      'license_id',
      'cluster_id',
      'name',
      'address',
      'version',
    ] as const),
  );
  fc.assert(
    fc.property(changedParty, fc.string({ minLength: 1 }), fc.boolean(), (field, text, first) => {
      const change = <P extends { from: ReturnType<typeof party> | HandshakeHello['from'] }>(
        message: P,
      ): P => ({
        ...message,
        from: { ...message.from, [field]: `${message.from[field]}${text}` },
      });
      const other = first ? transcriptOf(change(hello), answer) : transcriptOf(hello, change(answer));
      return hex(other) !== transcript;
    }),
  );
  for (const other of [
    { ...hello, intent: 'member' as const },
    { ...hello, to: answer.from.peer_id },
    { ...hello, challenge: base64(filled(6)) },
    { ...hello, ephemeral: base64(filled(6)) },
    { ...hello, time: hello.time + 1 },
    { ...hello, protocols: [1, 2] },
    { ...hello, from: { ...hello.from, endpoints: [] } },
    { ...hello, from: { ...hello.from, name: `${hello.from.name}${hello.from.address}`, address: '' } },
  ])
    t.not(hex(transcriptOf(other, answer)), transcript);
});

t.test('a signature counts for its role, its key and its transcript only', async (t) => {
  const signer = createSigner(filled(7));
  const identity = {
    peerId: party(1).peer_id as PeerId,
    publicKey: signer.publicKey,
    sign: (message: Uint8Array) => signer.sign(message),
  };
  const transcript = transcriptOf(hello, answer);
  const signature = signTranscript(identity, 'initiator', transcript);
  const holds = (key: Uint8Array, role: 'initiator' | 'responder', over: Uint8Array) =>
    verifyTranscript(verifyRaw, key, role, over, signature);
  t.ok(holds(signer.publicKey, 'initiator', transcript));
  t.notOk(holds(signer.publicKey, 'responder', transcript), 'turned round');
  t.notOk(holds(createSigner(filled(8)).publicKey, 'initiator', transcript), 'another key');
  t.notOk(holds(signer.publicKey, 'initiator', filled(9)), 'another conversation');
  t.notOk(holds(filled(0), 'initiator', transcript), 'a key of small order');
  t.notOk(holds(new Uint8Array(3), 'initiator', transcript), 'no key at all');
});
