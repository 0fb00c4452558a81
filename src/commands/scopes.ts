import { ArcticError } from '../../events/errors.ts';

export const SCOPES = [
  'admin',
  'peers.read',
  'peers.write',
  'services.read',
  'services.write',
  'credentials.read',
  'credentials.write',
] as const;
export type Scope = (typeof SCOPES)[number];

const LONG_FORM = 'urn:tillered:arctic:';

/** Scopes in short form, each once, in the order of the catalogue. Throws INVALID_REQUEST at `pointer` for an unknown one. */
export function parseScopes(texts: readonly string[], pointer: string): readonly Scope[] {
  const wanted = new Set(texts.map((text) => parseScope(text, pointer)));
  return SCOPES.filter((scope) => wanted.has(scope));
}

function parseScope(text: string, pointer: string): Scope {
  const short = text.startsWith(LONG_FORM) ? text.slice(LONG_FORM.length) : text;
  const scope = SCOPES.find((one) => one === short);
  if (scope === undefined) {
    const message = `there is no scope ${JSON.stringify(text)}; the scopes are ${SCOPES.join(', ')}`;
    throw new ArcticError('INVALID_REQUEST', `${message}.`, [{ pointer, message }]);
  }
  return scope;
}

/** `admin` covers every scope; nothing else covers more than itself. */
export const covers = (held: readonly string[], wanted: Scope): boolean =>
  held.includes('admin') || held.includes(wanted);
