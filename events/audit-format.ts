import { hash as digest } from 'node:crypto';
import type { EventId, Hlc, PeerId } from './brand.ts';
import { GENESIS_HASH } from './chain.ts';
import type { Actor } from './envelope.ts';
import type { Stream } from './stream.ts';

/**
 * An audit export is a text of lines, each a JSON object that ends with `link`: SHA-256 over the link of the line before and
 * the line itself up to there. So one line cannot be changed, taken out, put in or moved without being noticed, and named.
 * What a forger could compute anew, he is held to by what he cannot: events carry the hash they were chained with on their
 * origin, `signature` lines the origin's signature over such a hash, and the `seal` the exporter's over the last link.
 */
export const AUDIT_FORMAT = 'arctic-audit/1';

export type LineKind = 'header' | 'event' | 'context' | 'left_out' | 'signature' | 'trailer' | 'seal';

export interface AuditFilter {
  /** Position or RFC 3339 time, both inclusive; null: from the first event, to the last. */
  readonly since: string | null;
  readonly until: string | null;
  readonly types: readonly string[] | null;
  /** Client or peer id, or the kind of an actor without one (`system`, `recovery`). */
  readonly actor: string | null;
}

export interface HeaderLine {
  readonly line: number;
  readonly kind: 'header';
  readonly format: string;
  readonly exported_at: string;
  /** Whose log this is; its local events are this host's own. */
  readonly exporter: PeerId;
  /** Position of the newest event of the log at the export. */
  readonly head: number;
  readonly filter: AuditFilter;
  /** Nothing was filtered out: who has the file can fold it and compare `before` and `after`. */
  readonly complete: boolean;
  /** What `before` and `after` were folded with. */
  readonly fold_version: number;
  /** The exporter signs the last link; null: nobody does. */
  readonly sealed_by: PeerId | null;
  /** The public key (base64) of each origin, as pinned in the log. */
  readonly keys: Readonly<Record<PeerId, string>>;
}

/** What stands in an event's line before the event itself. `context`: not asked for, but the proof of another needs it. */
export interface EventPrefix {
  readonly line: number;
  readonly kind: 'event' | 'context';
  readonly position: number;
  readonly time: string;
  readonly recorded_at: string;
  /** What it changed, as JSON: the fields that are not the same before and after; null for nothing there, or a local fact. */
  readonly before: JsonText;
  readonly after: JsonText;
  readonly hash: string;
}

/** What `JSON.stringify` gives for an object or null. */
export type JsonText = string;

/** The hashed content, as the origin wrote it. */
export interface EventBody {
  readonly id: EventId;
  readonly origin: PeerId;
  readonly stream: Stream;
  readonly seq: number;
  readonly hlc: Hlc;
  readonly type: string;
  readonly version: number;
  readonly entity: string;
  readonly actor: Actor;
  readonly correlation_id: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly prev_hash: string;
}

/** Events of one chain, in order, that the filter left out. */
export interface LeftOutLine {
  readonly line: number;
  readonly kind: 'left_out';
  readonly origin: PeerId;
  readonly stream: Stream;
  readonly first_seq: number;
  readonly hashes: readonly string[];
}

/** The origin's signature over the hash of the event its chain has come to; by the links it covers all before. */
export interface SignatureLine {
  readonly line: number;
  readonly kind: 'signature';
  readonly origin: PeerId;
  readonly stream: Stream;
  readonly seq: number;
  readonly hash: string;
  readonly signature: string;
}

export interface ChainSpan {
  readonly origin: PeerId;
  readonly stream: Stream;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly last_hash: string;
}

export interface TrailerLine {
  readonly line: number;
  readonly kind: 'trailer';
  readonly events: number;
  readonly context: number;
  readonly left_out: number;
  readonly signatures: number;
  readonly chains: readonly ChainSpan[];
}

export interface SealLine {
  readonly line: number;
  readonly kind: 'seal';
  readonly peer_id: PeerId;
  /** Ed25519, base64, over `sealMessage` of the trailer's link. */
  readonly signature: string;
}

export type AuditLine = HeaderLine | LeftOutLine | SignatureLine | TrailerLine | SealLine;

/** The link the first line follows. */
export const FIRST_LINK = GENESIS_HASH;
const LINK_FIELD = ',"link":"';
/** `,"link":"` + 64 hex digits + `"}`. */
export const LINK_LENGTH = LINK_FIELD.length + 64 + 2;
/** Where the hashed bytes begin in an event's line. Inside a JSON string its quotes would be escaped. */
export const EVENT_FIELD = ',"event":{"actor":{"address":';
const EVENT_FIELD_NAME = ',"event":';
export const EVENT_OFFSET = EVENT_FIELD_NAME.length;

export const linkOf = (before: string, core: string): string => digest('sha256', before + core, 'hex');

export const closeLine = (core: string, link: string): string => `${core}${LINK_FIELD}${link}"}`;

/** A line as JSON without its closing brace and link. */
export const coreOf = (line: AuditLine): string => JSON.stringify(line).slice(0, -1);

/** What stands before an event, without a closing brace. Times and hashes have no character that JSON would escape. */
export const prefixText = (prefix: EventPrefix): string =>
  `{"line":${prefix.line},"kind":"${prefix.kind}","position":${prefix.position},"time":"${prefix.time}",` +
  `"recorded_at":"${prefix.recorded_at}","before":${prefix.before},"after":${prefix.after},"hash":"${prefix.hash}"`;

export const eventCore = (prefix: EventPrefix, body: string): string =>
  `${prefixText(prefix)}${EVENT_FIELD_NAME}${body}`;

/** A line taken apart; undefined when it does not end in a link. */
export function splitLink(text: string): { readonly core: string; readonly link: string } | undefined {
  const at = text.length - LINK_LENGTH;
  if (at < 1 || !text.startsWith(LINK_FIELD, at) || !text.endsWith('"}')) return undefined;
  return { core: text.slice(0, at), link: text.slice(at + LINK_FIELD.length, -2) };
}

const SEAL_DOMAIN = Buffer.from('arctic/audit-export/v1\0', 'latin1');

/** The bytes a seal signs. */
export const sealMessage = (link: string): Uint8Array =>
  Buffer.concat([SEAL_DOMAIN, Buffer.from(link, 'hex')]);

/** Events whose content says whose key is whose; they stand in every export, whatever its filter. */
export const KEY_TYPES: ReadonlySet<string> = new Set(['peer.registered', 'peer.admitted']);

/** Gives the change an event made; both null for a local fact. Events are given in the order of the log. */
export interface ChangeReader {
  readonly version: number;
  take(event: EventBody): { readonly before: object | null; readonly after: object | null };
}
