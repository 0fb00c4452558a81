/**
 * The bytes of a text in base64, where the text is the one way to write them (RFC 4648, 3.5 and 4): alphabet, padding and no
 * spare bits; undefined otherwise. Other ways would let what was signed or counted be altered without anybody noticing.
 */
export function decodeBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}
