import {
  type AuditLine,
  EVENT_FIELD,
  EVENT_OFFSET,
  type EventBody,
  type EventPrefix,
  type LeftOutLine,
  prefixText,
  type SignatureLine,
} from './audit-format.ts';

/** A line taken apart. */
export type Parsed =
  /** `text` is the event as it was hashed. */
  | { readonly head: EventPrefix; readonly body: EventBody; readonly text: string }
  | { readonly head: AuditLine; readonly body: undefined };

const KINDS: ReadonlySet<string> = new Set(['header', 'left_out', 'signature', 'trailer', 'seal']);

/** Reads a line without its link; undefined when it is not written exactly as an export writes it. */
export function parseLine(core: string): Parsed | undefined {
  try {
    const at = core.startsWith('{"line":') ? core.indexOf(EVENT_FIELD) : -1;
    return at < 0 ? parsePlain(`${core}}`) : parseEvent(core, at);
  } catch {
    return undefined;
  }
}

function parsePlain(text: string): Parsed | undefined {
  const head = JSON.parse(text) as AuditLine;
  // No second reading: no key twice, no other spelling of a value.
  const exact = JSON.stringify(head) === text && Number.isSafeInteger(head.line);
  return exact && KINDS.has(head.kind) && isWhole(head) ? { head, body: undefined } : undefined;
}

function parseEvent(core: string, at: number): Parsed | undefined {
  const prefix = core.slice(0, at);
  const said = JSON.parse(`${prefix}}`);
  if (!isChange(said.before) || !isChange(said.after)) return undefined;
  const head: EventPrefix = {
    line: said.line,
    kind: said.kind,
    position: said.position,
    time: said.time,
    recorded_at: said.recorded_at,
    before: JSON.stringify(said.before),
    after: JSON.stringify(said.after),
    hash: said.hash,
  };
  if (!Number.isSafeInteger(head.line) || (head.kind !== 'event' && head.kind !== 'context'))
    return undefined;
  // No second reading: no key twice, no other spelling of a value.
  if (prefixText(head) !== prefix) return undefined;
  const text = core.slice(at + EVENT_OFFSET);
  const body = JSON.parse(text) as EventBody;
  return isEvent(head, body) ? { head, body, text } : undefined;
}

const isChange = (value: unknown): boolean => typeof value === 'object' && !Array.isArray(value);

const isEvent = (prefix: EventPrefix, body: EventBody): boolean =>
  typeof prefix.position === 'number' &&
  typeof prefix.hash === 'string' &&
  typeof body.origin === 'string' &&
  (body.stream === 'config' || body.stream === 'local') &&
  Number.isSafeInteger(body.seq) &&
  typeof body.hlc === 'string' &&
  /^[0-9a-f]{12}\.[0-9a-f]{4}$/.test(body.hlc) &&
  typeof body.prev_hash === 'string' &&
  typeof body.entity === 'string' &&
  typeof body.type === 'string' &&
  typeof body.data === 'object' &&
  body.data !== null;

function isWhole(line: AuditLine): boolean {
  switch (line.kind) {
    case 'header':
      return isObject(line.keys) && isFilter(line.filter) && typeof line.exporter === 'string';
    case 'left_out':
      return Number.isSafeInteger(line.first_seq) && Array.isArray(line.hashes) && isChain(line);
    case 'signature':
      return (
        Number.isSafeInteger(line.seq) &&
        isHash(line.hash) &&
        typeof line.signature === 'string' &&
        isChain(line)
      );
    case 'trailer':
      return Array.isArray(line.chains) && line.chains.every(isObject);
    case 'seal':
      return typeof line.signature === 'string';
  }
}

function isFilter(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { since, until, types, actor } = value as Readonly<Record<string, unknown>>;
  const listed = types === null || (Array.isArray(types) && types.every((one) => typeof one === 'string'));
  return listed && [since, until, actor].every((one) => one === null || typeof one === 'string');
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;
const isHash = (value: unknown): boolean => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
const isChain = (line: LeftOutLine | SignatureLine): boolean =>
  typeof line.origin === 'string' && (line.stream === 'config' || line.stream === 'local');

/** What a fault of a line begins with. */
export function nameOf(parsed: Parsed): string {
  if (parsed.body === undefined)
    return parsed.head.kind === 'signature' || parsed.head.kind === 'left_out'
      ? `${parsed.head.kind} (${parsed.head.stream} chain of ${parsed.head.origin}): `
      : `${parsed.head.kind}: `;
  const { id, stream, seq, origin } = parsed.body;
  return `event ${String(id)} (${stream} ${seq} of ${origin}): `;
}
