import { createDecipheriv, hkdfSync } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import {
  decodeHeader,
  FRAME,
  FrameError,
  HEADER_LENGTH,
  TAG_LENGTH,
} from '../../../../src/engines/tproxy/frames.ts';
import {
  createOpener,
  createSealer,
  decodeHello,
  decodeWelcome,
  deriveSecrets,
  encodeHello,
  encodeWelcome,
  type Opener,
} from '../../../../src/engines/tproxy/link-keys.ts';

const session = { sessionId: '000102030405060708090a0b0c0d0e0f', key: Buffer.alloc(32, 0x11) };
const dialerNonce = Buffer.alloc(32, 0x22);
const acceptorNonce = Buffer.alloc(32, 0x33);
const secret = Buffer.alloc(32, 0x44);

t.test('fixed vectors, for every implementation', async (t) => {
  const secrets = deriveSecrets(session, true, dialerNonce, acceptorNonce);
  t.matchOnly(
    {
      toAcceptor: secrets.toAcceptor.toString('hex'),
      toDialer: secrets.toDialer.toString('hex'),
      transcript: secrets.transcript.toString('hex'),
    },
    {
      toAcceptor: '838ead6de144f9ae96ed6a921e2e49bfd384ca147bc97fd1947e0d6560ce0857',
      toDialer: 'cc6a6e20c65c93002f3fa929ce53f617fcff448f4e426cab070eae457bdd95ad',
      transcript: '7f3201319e90476043be6eaf575013cae0b221a887205e2875296e75fecbd121',
    },
  );
  t.equal(
    createSealer(secret).seal(FRAME.data, Buffer.from('hello')).toString('hex'),
    '010000050b39d8c66104c13cab89e2787e5192128d07f83685',
  );
});

t.test('the derivation is HKDF-SHA256 as written down', async (t) => {
  const info = Buffer.concat([
    Buffer.from('arctic v1 carrier link'),
    Buffer.of(1),
    Buffer.from(session.sessionId, 'hex'),
  ]);
  const salt = Buffer.concat([dialerNonce, acceptorNonce]);
  const expected = Buffer.from(hkdfSync('sha256', session.key, salt, info, 64));
  const secrets = deriveSecrets(session, true, dialerNonce, acceptorNonce);
  t.same(Buffer.concat([secrets.toAcceptor, secrets.toDialer]), expected);
});

t.test('a nonce, the session, the key or the role changed is another link', async (t) => {
  const base = deriveSecrets(session, true, dialerNonce, acceptorNonce);
  const others = [
    deriveSecrets(session, false, dialerNonce, acceptorNonce),
    deriveSecrets(session, true, acceptorNonce, dialerNonce),
    deriveSecrets(session, true, dialerNonce, Buffer.alloc(32, 0x34)),
    deriveSecrets({ ...session, sessionId: 'ff'.repeat(16) }, true, dialerNonce, acceptorNonce),
    deriveSecrets({ ...session, key: Buffer.alloc(32, 0x12) }, true, dialerNonce, acceptorNonce),
  ];
  const all = [base, ...others].flatMap((one) => [
    one.toAcceptor.toString('hex'),
    one.toDialer.toString('hex'),
  ]);
  t.equal(new Set(all).size, all.length);
});

/** Takes a frame apart and opens it. */
function openFrame(opener: Opener, frame: Buffer): Buffer {
  const { type, length } = decodeHeader(frame);
  if (frame.length !== HEADER_LENGTH + length + TAG_LENGTH) throw new Error('the frame has another length');
  return opener.open(type, frame.subarray(0, HEADER_LENGTH), frame.subarray(HEADER_LENGTH));
}

t.test('frames open in order, also over a change of key', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 20 }),
      fc.nat(20),
      (payloads, rekeyAt) => {
        const sealer = createSealer(secret);
        const opener = createOpener(secret);
        payloads.forEach((payload, index) => {
          if (index === rekeyAt) {
            openFrame(opener, sealer.seal(FRAME.rekey, Buffer.alloc(0)));
            t.equal(sealer.sealed(), 0);
          }
          t.ok(openFrame(opener, sealer.seal(FRAME.data, payload)).equals(payload));
        });
      },
    ),
  );
});

t.test('a frame that is repeated, left out or put before another does not open', async (t) => {
  const sealer = createSealer(secret);
  const [first, second] = [1, 2].map((byte) => sealer.seal(FRAME.data, Buffer.of(byte)));
  if (first === undefined || second === undefined) throw new Error('two frames');
  t.throws(() => openFrame(createOpener(secret), second), FrameError, 'left out');
  const opener = createOpener(secret);
  openFrame(opener, first);
  t.throws(() => openFrame(opener, first), FrameError, 'repeated');
});

t.test('a flipped bit anywhere in a frame is found', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), fc.nat(), fc.nat(7), (payload, at, bit) => {
      const frame = createSealer(secret).seal(FRAME.data, payload);
      const index = at % frame.length;
      frame[index] = (frame[index] ?? 0) ^ (1 << bit);
      try {
        createOpener(secret).open(
          FRAME.data,
          frame.subarray(0, HEADER_LENGTH),
          frame.subarray(HEADER_LENGTH),
        );
        return false;
      } catch (error) {
        return error instanceof FrameError;
      }
    }),
  );
});

t.test('no nonce occurs twice under a key', async (t) => {
  const sealer = createSealer(secret);
  const first = sealer.seal(FRAME.data, Buffer.alloc(16));
  const second = sealer.seal(FRAME.data, Buffer.alloc(16));
  t.notSame(first, second, 'the same bytes are sealed differently');
  const key = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), 'arctic v1 carrier key', 32));
  const iv = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), 'arctic v1 carrier iv', 12));
  for (const [counter, frame] of [first, second].entries()) {
    const nonce = Buffer.from(iv);
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ counter) >>> 0, 8);
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 });
    decipher.setAAD(frame.subarray(0, 4));
    decipher.setAuthTag(frame.subarray(-16));
    t.same(Buffer.concat([decipher.update(frame.subarray(4, -16)), decipher.final()]), Buffer.alloc(16));
  }
});

t.test('first bytes come back as they went, others are refused', async (t) => {
  const hello = encodeHello(session.sessionId, dialerNonce);
  t.same(decodeHello(hello), { sessionId: session.sessionId, nonce: dialerNonce, offersAegis: false });
  const offer = encodeHello(session.sessionId, dialerNonce, true);
  t.same(decodeHello(offer), { sessionId: session.sessionId, nonce: dialerNonce, offersAegis: true });
  t.notSame(
    deriveSecrets(session, true, dialerNonce, acceptorNonce, true).transcript,
    deriveSecrets(session, true, dialerNonce, acceptorNonce, false).transcript,
    'an offer that is taken out on the way is noticed',
  );
  t.same(decodeWelcome(encodeWelcome(acceptorNonce)), acceptorNonce);
  t.throws(() => decodeHello(Buffer.from('GET / HTTP/1.0'.padEnd(52))), FrameError);
  t.throws(() => decodeHello(hello.subarray(1)), FrameError);
  t.throws(() => decodeWelcome(Buffer.alloc(36)), FrameError);
});
