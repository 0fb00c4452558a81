import { createShownChains, type ShownChain, unprovenText } from './audit-chains.ts';
import { csvEventCells, csvPlainCells } from './audit-csv.ts';
import {
  AUDIT_FORMAT,
  type ChainSpan,
  type ChangeReader,
  type EventBody,
  type EventPrefix,
  FIRST_LINK,
  type HeaderLine,
  type LeftOutLine,
  linkOf,
  type SealLine,
  type SignatureLine,
  sealMessage,
  splitLink,
  type TrailerLine,
} from './audit-format.ts';
import { type AuditKeys, createAuditKeys, type KeyReport } from './audit-keys.ts';
import { nameOf, type Parsed, parseLine } from './audit-line.ts';
import { type AuditRow, createAuditRows, type LineFlaw } from './audit-rows.ts';
import type { PeerId } from './brand.ts';
import { GENESIS_HASH, hashPreimage, linkFault, transactionMessage } from './chain.ts';
import { signatureBytes } from './ed25519.ts';
import { timeText } from './hlc.ts';
import type { Stream } from './stream.ts';

export interface AuditFault {
  /** Line of the file, from 1. The rows of a CSV begin at 2. */
  readonly line: number;
  readonly what: string;
}

export interface AuditReport {
  /** Nothing at all is wrong. */
  readonly sound: boolean;
  readonly faults: readonly AuditFault[];
  /** Faults in all; at most a hundred are listed. */
  readonly faultCount: number;
  /** Lines of the export: without the head of a CSV. */
  readonly lines: number;
  readonly events: number;
  readonly context: number;
  readonly leftOut: number;
  readonly signatures: number;
  readonly chains: readonly ChainSpan[];
  readonly header: HeaderLine | undefined;
  /** The exporter signed the whole: nothing is missing at its end, and what is not in an event's hash is its statement. */
  readonly sealed: boolean;
  /** `before` and `after` of every event were folded anew and are the same. */
  readonly changesRecomputed: boolean;
  readonly keys: readonly KeyReport[];
}

export interface AuditVerifier {
  /** Takes the next line, without its line feed. */
  push(text: string, flaw?: LineFlaw): void;
  finish(): AuditReport;
}

export interface AuditVerifierOptions {
  /** Keys (base64) that are known from elsewhere; every other has to follow from them. Empty: trust on first use. */
  readonly rootKeys?: readonly string[];
  /** Folds the events of a complete export anew. */
  readonly changes?: ChangeReader | undefined;
}

const MOST_FAULTS = 100;
/** Entities whose state is folded for comparison; past it only the seal speaks for `before` and `after`. */
const MOST_ENTITIES = 200_000;

/**
 * Verifies an export line by line, with neither agent nor database, in memory that does not grow with it. After a fault it
 * goes on with what the line itself says, so that one altered line is one fault, and every fault is named by its line.
 */
export function createAuditVerifier(options: AuditVerifierOptions = {}): AuditVerifier {
  return new Verifier(options);
}

class Verifier implements AuditVerifier {
  readonly #rootKeys: readonly string[];
  #changes: ChangeReader | undefined;
  #keys: AuditKeys = createAuditKeys({}, []);
  /** The number the next line must have. */
  #due = 1;
  /** Numbers that were passed over, as far as they have not come since. */
  readonly #missing: { readonly from: number; readonly to: number }[] = [];
  /** The link it must follow; undefined after a line that could not be read. */
  #link: string | undefined = FIRST_LINK;
  #header: HeaderLine | undefined;
  #trailer: { readonly link: string } | undefined;
  #sealed = false;
  /** The kind of line that has ended the export; only a seal may follow a trailer. */
  #ended: 'trailer' | 'seal' | undefined;
  #position = 0;
  readonly #chains = createShownChains();
  readonly #rows = createAuditRows();
  readonly #entities = new Set<string>();
  readonly #faults: AuditFault[] = [];
  #faultCount = 0;
  readonly #counts = { events: 0, context: 0, left_out: 0, signatures: 0 };

  constructor(options: AuditVerifierOptions) {
    this.#rootKeys = options.rootKeys ?? [];
    this.#changes = options.changes;
  }

  push(text: string, flaw?: LineFlaw): void {
    const { faults, row, lost } = this.#rows.take(text, flaw);
    for (const what of faults) this.#fault(what);
    if (row !== undefined) this.#take(row);
    else if (lost) this.#unreadable();
  }

  finish(): AuditReport {
    const ends = this.#rows.ends();
    if (ends !== undefined) this.#fault(ends.what, ends.line);
    if (this.#rows.physical === 0) this.#fault('the file is empty');
    else if (this.#trailer === undefined)
      this.#fault('the export ends here without its trailer: lines are missing at the end');
    else if (this.#ended !== 'seal' && (this.#header?.sealed_by ?? null) !== null)
      this.#fault('the export ends here without the seal its header announces');
    const keys = this.#keys.report(this.#sealed ? this.#header?.exporter : undefined);
    for (const { origin, trust, contradictedBy } of keys) {
      if (this.#rootKeys.length > 0 && trust === 'unvouched')
        this.#fault(
          `nothing vouches for the key of ${origin}: it is not a root key given, and no trusted member of this export admitted it`,
        );
      // Others may lie about a key; nobody but the exporter could have it contradict itself.
      if (origin === this.#header?.exporter && contradictedBy.includes(origin))
        this.#fault(
          `the exporter ${origin} states another key for itself than its events are signed with here: they are not its own`,
        );
    }
    return {
      sound: this.#faultCount === 0,
      faults: this.#faults,
      faultCount: this.#faultCount,
      lines: this.#rows.lines,
      events: this.#counts.events,
      context: this.#counts.context,
      leftOut: this.#counts.left_out,
      signatures: this.#counts.signatures,
      chains: this.#chains.spans(),
      header: this.#header,
      sealed: this.#sealed,
      changesRecomputed: this.#changes !== undefined && this.#header?.complete === true,
      keys,
    };
  }

  #fault(what: string, line = this.#rows.physical): void {
    this.#faultCount += 1;
    if (this.#faults.length < MOST_FAULTS) this.#faults.push({ line, what });
  }

  #unreadable(): void {
    this.#due += 1;
    this.#link = undefined;
    this.#lostLines();
  }

  /** Something of the history was not seen: chains go on where they say, and nothing is folded any more. */
  #lostLines(): void {
    this.#chains.lost();
    this.#changes = undefined;
  }

  #take({ record, cells }: AuditRow): void {
    const split = splitLink(record);
    const parsed = split === undefined ? undefined : parseLine(split.core);
    if (split === undefined || parsed === undefined) {
      this.#fault('it is not a line of an audit export');
      this.#unreadable();
      return;
    }
    const { line } = parsed.head;
    if (line < this.#due && this.#rows.lines > 1) {
      this.#fault(
        this.#found(line)
          ? `it is line ${line}, which is missing from its place: it was moved here`
          : `it is numbered ${line}, but stands where ${this.#due} is due: it was put in or repeated`,
      );
      return;
    }
    if (line > this.#due) {
      if (this.#missing.length < MOST_FAULTS) this.#missing.push({ from: this.#due, to: line - 1 });
      const missing = line - 1 > this.#due ? `lines ${this.#due} to ${line - 1} are` : `line ${this.#due} is`;
      this.#fault(`${missing} missing before it`);
      this.#lostLines();
      this.#link = undefined;
    }
    this.#due = line + 1;
    const before = this.#link;
    this.#link = split.link;
    const faults: string[] = [];
    if (before !== undefined && linkOf(before, split.core) !== split.link)
      faults.push('it was altered, or the line before it was: its link does not follow');
    if (this.#ended !== undefined && !(this.#ended === 'trailer' && parsed.head.kind === 'seal'))
      faults.push('it stands after the end of the export');
    if (this.#rows.lines === 1 && parsed.head.kind !== 'header')
      faults.push('the header is missing before it');
    try {
      if (cells !== undefined && cells !== cellsOf(parsed))
        faults.push('its columns do not say what its record says');
      faults.push(...this.#check(parsed, split.link));
    } catch (error) {
      // Content that no agent would have taken, and that therefore no origin signed.
      faults.push(`it cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (faults.length > 0) this.#fault(`${nameOf(parsed)}${faults.join('; ')}`);
  }

  /** Whether a line was missed before, once. */
  #found(line: number): boolean {
    const at = this.#missing.findIndex(({ from, to }) => from <= line && line <= to);
    const gap = this.#missing[at];
    if (gap === undefined) return false;
    this.#missing.splice(
      at,
      1,
      ...[
        { from: gap.from, to: line - 1 },
        { from: line + 1, to: gap.to },
      ].filter(({ from, to }) => from <= to),
    );
    return true;
  }

  #check(parsed: Parsed, link: string): readonly string[] {
    if (parsed.body !== undefined) return this.#event(parsed.head, parsed.body, parsed.text);
    const { head } = parsed;
    switch (head.kind) {
      case 'header':
        return this.#takeHeader(head);
      case 'left_out':
        return this.#takeLeftOut(head);
      case 'signature':
        return this.#takeSignature(head);
      case 'trailer':
        return this.#takeTrailer(head, link);
      case 'seal':
        return this.#takeSeal(head);
    }
  }

  #takeHeader(header: HeaderLine): readonly string[] {
    if (this.#header !== undefined) return ['it is a second header'];
    this.#header = header;
    this.#keys = createAuditKeys(
      header.keys,
      this.#rootKeys.length > 0 ? this.#rootKeys : [header.keys[header.exporter] ?? ''],
    );
    if (!header.complete || header.fold_version !== this.#changes?.version) this.#changes = undefined;
    return header.format === AUDIT_FORMAT
      ? []
      : [`its format is ${JSON.stringify(header.format)}; this program knows ${AUDIT_FORMAT}`];
  }

  #event(prefix: EventPrefix, body: EventBody, text: string): readonly string[] {
    const faults: string[] = [];
    if (prefix.kind === 'event') this.#counts.events += 1;
    else this.#counts.context += 1;
    if (prefix.position <= this.#position)
      faults.push('its position is not after that of the event before it');
    this.#position = Math.max(this.#position, prefix.position);
    if (prefix.time !== timeText(body.hlc)) faults.push('its time is not that of its clock reading');
    if (hashPreimage(text) !== prefix.hash) faults.push('its content does not match its hash');
    const chain = this.#chain(body.origin, body.stream, body.seq, body.prev_hash);
    const link = chain.certain ? linkFault(chain.head, body) : undefined;
    if (link !== undefined) faults.push(link);
    chain.certain = true;
    chain.head = {
      origin: body.origin,
      stream: body.stream,
      seq: body.seq,
      hash: prefix.hash,
      hlc: body.hlc,
    };
    if (chain.unproven === 0) chain.unproven = this.#rows.physical;
    this.#keys.note(body);
    faults.push(...this.#changeFaults(prefix, body));
    return faults;
  }

  #changeFaults(prefix: EventPrefix, body: EventBody): readonly string[] {
    if (this.#changes === undefined || prefix.kind !== 'event') return [];
    if (body.stream === 'config') this.#entities.add(body.entity);
    if (this.#entities.size > MOST_ENTITIES) {
      this.#changes = undefined;
      this.#entities.clear();
      return [];
    }
    const { before, after } = this.#changes.take(body);
    return JSON.stringify(before) === prefix.before && JSON.stringify(after) === prefix.after
      ? []
      : ['what it says changed (before, after) is not what the events up to it give'];
  }

  #takeLeftOut(line: LeftOutLine): readonly string[] {
    const faults: string[] = [];
    this.#counts.left_out += line.hashes.length;
    const chain = this.#chain(line.origin, line.stream, line.first_seq, GENESIS_HASH);
    if (chain.certain && line.first_seq !== chain.head.seq + 1)
      faults.push(`it goes on with event ${line.first_seq} where ${chain.head.seq + 1} is due`);
    if (chain.unproven > 0) faults.push(unprovenText(chain, 'no signature stands before it'));
    const hash = line.hashes.at(-1);
    if (hash === undefined) return [...faults, 'it leaves nothing out'];
    const seq = line.first_seq + line.hashes.length - 1;
    chain.head = { ...chain.head, seq, hash };
    chain.unproven = 0;
    chain.certain = true;
    return faults;
  }

  #takeSignature(line: SignatureLine): readonly string[] {
    this.#counts.signatures += 1;
    const chain = this.#chain(line.origin, line.stream, line.seq + 1, line.hash);
    const certain = chain.certain;
    const first = chain.unproven;
    chain.unproven = 0;
    if (certain && (line.seq !== chain.head.seq || line.hash !== chain.head.hash))
      return [`it signs event ${line.seq}, but its chain has come to another: ${chain.head.seq}`];
    // Without the header there are no keys, and that has been said.
    if (this.#header === undefined) return [];
    const message = transactionMessage(line.hash);
    const outcome = this.#keys.verify(line.origin, message, signatureBytes(line.signature));
    if (outcome === true) return [];
    const covered =
      first > 0 ? `; so something in lines ${first} to ${this.#rows.physical} of this chain is forged` : '';
    return [
      `${outcome === 'no-key' ? 'the header has no usable key for its origin' : "it is not the origin's signature"}${covered}`,
    ];
  }

  #takeTrailer(trailer: TrailerLine, link: string): readonly string[] {
    const faults: string[] = [];
    this.#trailer = { link };
    this.#ended = 'trailer';
    for (const chain of this.#chains.all())
      if (chain.unproven > 0) faults.push(unprovenText(chain, 'no signature covers its end'));
    for (const name of ['events', 'context', 'left_out', 'signatures'] as const)
      if (trailer[name] !== this.#counts[name])
        faults.push(
          `it counts ${trailer[name]} ${name.replace('_', ' ')} where the file has ${this.#counts[name]}`,
        );
    const listed = new Map(trailer.chains.map((chain) => [`${chain.origin}/${chain.stream}`, chain]));
    for (const own of this.#chains.spans()) {
      const key = `${own.origin}/${own.stream}`;
      const said = listed.get(key);
      listed.delete(key);
      const same =
        said !== undefined &&
        said.first_seq === own.first_seq &&
        said.last_seq === own.last_seq &&
        said.last_hash === own.last_hash;
      if (!same)
        faults.push(
          `it does not end the ${own.stream} chain of ${own.origin} as the file does (event ${own.last_seq})`,
        );
    }
    for (const { origin, stream } of listed.values())
      faults.push(`the file has nothing of the ${stream} chain of ${origin} it speaks of`);
    return faults;
  }

  #takeSeal(seal: SealLine): readonly string[] {
    this.#ended = 'seal';
    if (this.#trailer === undefined) return ['it seals an export without a trailer'];
    const exporter = this.#header?.exporter;
    if (exporter === undefined) return ['whose it must be is not known without the header'];
    if (seal.peer_id !== exporter)
      return [`it is the seal of ${seal.peer_id}, not of the exporter ${exporter}`];
    const message = sealMessage(this.#trailer.link);
    const outcome = this.#keys.verify(seal.peer_id, message, signatureBytes(seal.signature));
    this.#sealed = outcome === true;
    if (this.#sealed) return [];
    return outcome === 'no-key'
      ? ['the header has no usable key for the exporter']
      : ["it is not the exporter's: some line was altered, or the seal was"];
  }

  #chain(origin: PeerId, stream: Stream, seq: number, prevHash: string): ShownChain {
    const ranged = (this.#header?.filter.since ?? null) !== null;
    return this.#chains.of(origin, stream, seq, prevHash, ranged);
  }
}

/** The cells an export would write beside a record. */
const cellsOf = (parsed: Parsed): string =>
  parsed.body === undefined
    ? csvPlainCells(parsed.head.line, parsed.head.kind)
    : csvEventCells(parsed.head, parsed.body);
