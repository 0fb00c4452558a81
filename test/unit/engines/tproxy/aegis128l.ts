/** AEGIS-128L after draft-irtf-cfrg-aegis-aead, from its definition and slow: what the native code is compared with. */

const FIRST = Buffer.from('000101020305080d1522375990e97962', 'hex');
const SECOND = Buffer.from('db3d18556dc22ff12011314273b528dd', 'hex');

const double = (value: number): number => ((value << 1) ^ (value & 0x80 ? 0x1b : 0)) & 0xff;

/** FIPS 197 5.1.1: the inverse in GF(2^8), then the affine map. */
const SBOX: readonly number[] = (() => {
  const box = new Array<number>(256).fill(0x63);
  let power = 1;
  let inverse = 1;
  do {
    power ^= double(power);
    inverse ^= inverse << 1;
    inverse ^= inverse << 2;
    inverse ^= inverse << 4;
    inverse &= 0xff;
    if (inverse & 0x80) inverse ^= 0x09;
    let mapped = inverse;
    for (let turn = 1; turn < 5; turn += 1) mapped ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xff;
    box[power] = mapped ^ 0x63;
  } while (power !== 1);
  return box;
})();

const xor = (one: Buffer, other: Buffer): Buffer =>
  Buffer.from(one.map((byte, index) => byte ^ (other[index] ?? 0)));
const and = (one: Buffer, other: Buffer): Buffer =>
  Buffer.from(one.map((byte, index) => byte & (other[index] ?? 0)));

/** SubBytes, ShiftRows, MixColumns, AddRoundKey. */
function aesRound(state: Buffer, key: Buffer): Buffer {
  const out = Buffer.alloc(16);
  for (let column = 0; column < 4; column += 1) {
    const from = [0, 1, 2, 3].map((row) => SBOX[state[((column + row) % 4) * 4 + row] ?? 0] ?? 0);
    for (let row = 0; row < 4; row += 1) {
      const [a = 0, b = 0, c = 0, d = 0] = [0, 1, 2, 3].map((turn) => from[(row + turn) % 4] ?? 0);
      out[column * 4 + row] = double(a) ^ double(b) ^ b ^ c ^ d;
    }
  }
  return xor(out, key);
}

type Eight = [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer, Buffer, Buffer];

function update([a, b, c, d, e, f, g, h]: Eight, first: Buffer, second: Buffer): Eight {
  return [
    aesRound(h, xor(a, first)),
    aesRound(a, b),
    aesRound(b, c),
    aesRound(c, d),
    aesRound(d, xor(e, second)),
    aesRound(e, f),
    aesRound(f, g),
    aesRound(g, h),
  ];
}

function run(key: Buffer, nonce: Buffer, aad: Buffer, input: Buffer, decrypt: boolean): [Buffer, Buffer] {
  const mixed = xor(key, nonce);
  let state: Eight = [
    mixed,
    SECOND,
    FIRST,
    SECOND,
    mixed,
    xor(key, FIRST),
    xor(key, SECOND),
    xor(key, FIRST),
  ];
  for (let round = 0; round < 10; round += 1) state = update(state, nonce, key);
  const padded = (bytes: Buffer, at: number): [Buffer, Buffer] => {
    const block = Buffer.alloc(32);
    bytes.copy(block, 0, at, Math.min(at + 32, bytes.length));
    return [block.subarray(0, 16), block.subarray(16)];
  };
  for (let at = 0; at < aad.length; at += 32) state = update(state, ...padded(aad, at));
  const out = Buffer.alloc(input.length);
  for (let at = 0; at < input.length; at += 32) {
    const [, b, c, d, , f, g, h] = state;
    const stream = Buffer.concat([xor(xor(g, b), and(c, d)), xor(xor(c, f), and(g, h))]);
    for (let index = at; index < Math.min(at + 32, input.length); index += 1) {
      out[index] = (input[index] ?? 0) ^ (stream[index - at] ?? 0);
    }
    state = update(state, ...padded(decrypt ? out : input, at));
  }
  const lengths = Buffer.alloc(16);
  lengths.writeBigUInt64LE(BigInt(aad.length * 8), 0);
  lengths.writeBigUInt64LE(BigInt(input.length * 8), 8);
  const last = xor(state[2], lengths);
  for (let round = 0; round < 7; round += 1) state = update(state, last, last);
  return [out, state.slice(0, 7).reduce((tag, one) => xor(tag, one))];
}

/** Ciphertext and a tag of 128 bits. */
export const aegisSeal = (key: Buffer, nonce: Buffer, aad: Buffer, text: Buffer): Buffer =>
  Buffer.concat(run(key, nonce, aad, text, false));

/** Undefined when the tag does not fit. */
export function aegisOpen(key: Buffer, nonce: Buffer, aad: Buffer, sealed: Buffer): Buffer | undefined {
  const end = sealed.length - 16;
  const [text, tag] = run(key, nonce, aad, sealed.subarray(0, end), true);
  return tag.equals(sealed.subarray(end)) ? text : undefined;
}
