/** Keeps secrets out of `--trace` and of anything else that is shown. Names are matched, as values have no mark. */
const SECRET_NAME = /secret|token$|^token|password|authorization|private|x-arctic-recovery|cookie/i;
/** Names that match above but hold nothing secret. */
const HARMLESS = /^(token_type|token_endpoint.*)$/i;

const MASK = '********';

const isSecret = (name: string): boolean => SECRET_NAME.test(name) && !HARMLESS.test(name);

/** A copy in which the values of secret fields are masked, at any depth. */
export function maskValue(value: unknown, name = ''): unknown {
  if (isSecret(name) && (typeof value === 'string' || typeof value === 'number')) return MASK;
  if (Array.isArray(value)) return value.map((item) => maskValue(item, name));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, maskValue(inner, key)]));
  return value;
}

export function maskHeader(name: string, value: string): string {
  if (!isSecret(name)) return value;
  const scheme = /^(Bearer|Basic) /i.exec(value)?.[0] ?? '';
  return scheme + MASK;
}

/** A body as `--trace` shows it: JSON and forms with masked fields, other text as it is. */
export function maskBody(text: string, contentType: string): string {
  if (text === '') return '';
  if (contentType.includes('application/x-www-form-urlencoded')) {
    const form = new URLSearchParams(text);
    for (const name of [...form.keys()]) if (isSecret(name)) form.set(name, MASK);
    return form.toString();
  }
  try {
    return JSON.stringify(maskValue(JSON.parse(text)), null, 2);
  } catch {
    return text.slice(0, 4_096);
  }
}
