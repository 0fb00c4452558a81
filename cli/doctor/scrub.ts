/** Takes secrets out of text: those this host has, wherever they stand, and whatever looks like one. */

const MASK = '[removed]';
/** Shorter than this a value would blank out ordinary words. */
const SHORTEST = 8;

/** What a secret looks like: ours, tokens, credentials in headers and settings, and private keys. */
const SHAPES: readonly (readonly [RegExp, string])[] = [
  [/\bsec_[A-Za-z0-9_-]{20,}/g, MASK],
  [/\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g, MASK],
  [/\b(Bearer|Basic) [A-Za-z0-9+/=._~-]{8,}/gi, `$1 ${MASK}`],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g, MASK],
  [
    /((?:client_secret|secret(?:_hash)?|password|passwd|access_token|recovery_token|private_key|seed|x-arctic-recovery)["']?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,}]+)/gi,
    `$1"${MASK}"`,
  ],
  // A user and password inside a URL.
  [/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]+:[^\s/@]+@/gi, `$1${MASK}@`],
];

export type Scrub = (text: string) => string;

/** @param secrets values that must not get out, however they are called where they stand */
export function createScrub(secrets: readonly string[]): Scrub {
  const values = [...new Set(secrets.map((one) => one.trim()).filter((one) => one.length >= SHORTEST))].sort(
    (a, b) => b.length - a.length,
  );
  return (text) => {
    let clean = text;
    for (const value of values) clean = clean.replaceAll(value, MASK);
    for (const [shape, by] of SHAPES) clean = clean.replace(shape, by);
    return clean;
  };
}
