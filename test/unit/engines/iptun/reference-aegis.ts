/**
 * AEGIS-128L with a tag of 128 bits, written down from draft-irtf-cfrg-aegis-aead alone and byte by byte: the oracle for the native
 * code. Slow and plain.
 */

/** Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, section 4.2). */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 8; bit += 1) {
    if ((b >> bit) & 1) product ^= a << bit;
  }
  for (let bit = 14; bit >= 8; bit -= 1) if ((product >> bit) & 1) product ^= 0x11b << (bit - 8);
  return product;
}

/** FIPS 197, section 5.1.1: the multiplicative inverse, then the affine transformation. */
const SUBSTITUTE = Uint8Array.from({ length: 256 }, (_, value) => {
  let inverse = 0;
  for (let other = 1; other < 256; other += 1) if (multiply(value, other) === 1) inverse = other;
  let result = 0;
  for (let bit = 0; bit < 8; bit += 1) {
    const sum = [0, 4, 5, 6, 7].reduce((all, step) => all ^ (inverse >> ((bit + step) % 8)), 0x63 >> bit);
    result |= (sum & 1) << bit;
  }
  return result;
});
const DOUBLE = Uint8Array.from({ length: 256 }, (_, value) => multiply(value, 2));

const at = (bytes: Uint8Array, index: number): number => bytes[index] ?? 0;
const xor = (a: Uint8Array, b: Uint8Array): Uint8Array => a.map((byte, index) => byte ^ at(b, index));
const and = (a: Uint8Array, b: Uint8Array): Uint8Array => a.map((byte, index) => byte & at(b, index));

/** SubBytes, ShiftRows, MixColumns, AddRoundKey. */
function aesRound(input: Uint8Array, key: Uint8Array): Uint8Array {
  const out = new Uint8Array(16);
  for (let column = 0; column < 4; column += 1) {
    const shifted = [0, 1, 2, 3].map((row) => at(SUBSTITUTE, at(input, ((column + row) % 4) * 4 + row)));
    const all = shifted.reduce((sum, byte) => sum ^ byte, 0);
    for (let row = 0; row < 4; row += 1) {
      const own = shifted[row] ?? 0;
      const next = shifted[(row + 1) % 4] ?? 0;
      out[column * 4 + row] = own ^ all ^ at(DOUBLE, own ^ next) ^ at(key, column * 4 + row);
    }
  }
  return out;
}

const C0 = Uint8Array.from(Buffer.from('000101020305080d1522375990e97962', 'hex'));
const C1 = Uint8Array.from(Buffer.from('db3d18556dc22ff12011314273b528dd', 'hex'));
const BLOCK = 32;

class State {
  #s: readonly Uint8Array[];

  constructor(key: Uint8Array, nonce: Uint8Array) {
    const both = xor(key, nonce);
    this.#s = [both, C1, C0, C1, both, xor(key, C0), xor(key, C1), xor(key, C0)];
    for (let i = 0; i < 10; i += 1) this.update(nonce, key);
  }

  of(index: number): Uint8Array {
    return this.#s[index] ?? new Uint8Array(16);
  }

  update(m0: Uint8Array, m1: Uint8Array): void {
    const mixed = [m0, undefined, undefined, undefined, m1, undefined, undefined, undefined];
    this.#s = mixed.map((message, index) => {
      const own = this.of(index);
      return aesRound(this.of((index + 7) % 8), message === undefined ? own : xor(own, message));
    });
  }

  /** Takes a block in that is at most 32 bytes long; `after` makes of it and the key stream what the state goes on with. */
  crypt(block: Uint8Array, decrypts: boolean): Uint8Array {
    const z0 = xor(xor(this.of(6), this.of(1)), and(this.of(2), this.of(3)));
    const z1 = xor(xor(this.of(2), this.of(5)), and(this.of(6), this.of(7)));
    const out = xor(block, Uint8Array.of(...z0, ...z1));
    const text = new Uint8Array(BLOCK);
    text.set(decrypts ? out : block);
    this.update(text.slice(0, 16), text.slice(16));
    return out;
  }

  tag(aadLength: number, length: number): Uint8Array {
    const lengths = Buffer.alloc(16);
    lengths.writeBigUInt64LE(BigInt(aadLength) * 8n, 0);
    lengths.writeBigUInt64LE(BigInt(length) * 8n, 8);
    const mixed = xor(this.of(2), Uint8Array.from(lengths));
    for (let i = 0; i < 7; i += 1) this.update(mixed, mixed);
    return [1, 2, 3, 4, 5, 6].reduce((sum, index) => xor(sum, this.of(index)), this.of(0));
  }
}

function crypt(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  input: Uint8Array,
  decrypts: boolean,
): { readonly body: Buffer; readonly tag: Buffer } {
  const state = new State(Uint8Array.from(key.subarray(0, 16)), Uint8Array.from(nonce));
  for (let from = 0; from < aad.length; from += BLOCK) {
    const block = new Uint8Array(BLOCK);
    block.set(aad.subarray(from, from + BLOCK));
    state.update(block.slice(0, 16), block.slice(16));
  }
  const parts: Uint8Array[] = [];
  for (let from = 0; from < input.length; from += BLOCK)
    parts.push(state.crypt(Uint8Array.from(input.subarray(from, from + BLOCK)), decrypts));
  return { body: Buffer.concat(parts), tag: Buffer.from(state.tag(aad.length, input.length)) };
}

export const aegisSeal = (
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  text: Uint8Array,
): { readonly body: Buffer; readonly tag: Buffer } => crypt(key, nonce, aad, text, false);

/** Undefined when the tag does not fit. */
export function aegisOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  body: Uint8Array,
  tag: Uint8Array,
): Buffer | undefined {
  const opened = crypt(key, nonce, aad, body, true);
  return opened.tag.equals(tag) ? opened.body : undefined;
}
