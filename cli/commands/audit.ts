import { once } from 'node:events';
import {
  closeSync,
  createReadStream,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { createCsvRows } from '../../events/audit-csv.ts';
import { type HeaderLine, splitLink } from '../../events/audit-format.ts';
import { type AuditReport, createAuditVerifier } from '../../events/audit-verify.ts';
import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { connectionFailure, Failure, systemReason, usageFailure } from '../failure.ts';
import type { Input } from '../input.ts';
import { readLines } from '../line-reader.ts';
import { readMoment } from '../moment.ts';
import { printable } from '../terminal.ts';

type Piece = string | Uint8Array;

interface Wanted {
  readonly since: string | undefined;
  readonly until: string | undefined;
  readonly types: readonly string[] | undefined;
  readonly actor: string | undefined;
  readonly format: 'jsonl' | 'csv';
}

function readWanted(input: Input): Wanted {
  const moment = (flag: string): string | undefined => {
    const given = input.text(flag);
    return given === undefined ? undefined : readMoment(given, flag);
  };
  return {
    since: moment('since'),
    until: moment('until'),
    types: input.list('type'),
    actor: input.text('actor'),
    format: input.text('format') === 'csv' ? 'csv' : 'jsonl',
  };
}

async function fromAgent(context: Context, wanted: Wanted): Promise<AsyncIterable<Piece>> {
  const client = await context.client();
  const { since, until, types, actor, format } = wanted;
  return client.open('/v1/audit', { query: { since, until, type: types?.join(','), actor, format } });
}

async function* fromFile(
  path: string,
  keyPath: string | undefined,
  wanted: Wanted,
  now: number,
): AsyncGenerator<Piece> {
  const [{ openLogReader }, { exportAudit }, { expectTypes }, { createChanges }, { readPeerKey }] =
    await Promise.all([
      import('../../events/log.ts'),
      import('../../events/audit-export.ts'),
      import('../../events/wanted-types.ts'),
      import('../../projections/change.ts'),
      import('../../src/identity/peer-key.ts'),
    ]);
  const key = keyPath === undefined ? undefined : readPeerKey(keyPath);
  if (keyPath !== undefined && key === undefined) throw usageFailure(`--key: there is no file ${keyPath}.`);
  const log = openLogReader({ path });
  try {
    if (key !== undefined && key.peerId !== log.origin)
      throw usageFailure(
        `--key: ${keyPath} is the key of ${key.peerId}, but ${path} is the log of ${log.origin}.`,
      );
    const { since = null, until = null, types = null, actor = null, format } = wanted;
    if (types !== null) expectTypes(types, log);
    yield* exportAudit(log, createChanges(), {
      format,
      filter: { since, until, types, actor },
      exportedAtMs: now,
      seal: key,
    });
  } finally {
    log.close();
  }
}

/** The end of what went by, to tell whether an export came whole. A trailer names every chain, so it may be long. */
const TAIL_BYTES = 8 * 1024 * 1024;

function endsWhole(tail: string, csv: boolean): boolean {
  const line = tail.trimEnd().split('\n').at(-1)?.replace(/\r$/, '') ?? '';
  const record = csv ? createCsvRows().read(line)?.record : line;
  const core = record === undefined ? undefined : splitLink(record)?.core;
  return core !== undefined && /^\{"line":\d+,"kind":"(trailer|seal)"/.test(core);
}

/** Where the export goes: a file that appears when it is whole, or stdout. */
interface Sink {
  write(piece: Piece): Promise<void>;
  finish(): void;
  abandon(): void;
}

function fileSink(path: string): Sink {
  const part = `${path}.part-${process.pid}`;
  const refuse = (error: unknown): never => {
    throw new Failure(EXIT.general, `cannot write ${path}: ${systemReason(error)}.`, [], { cause: error });
  };
  const guarded = <T>(run: () => T): T => {
    try {
      return run();
    } catch (error) {
      return refuse(error);
    }
  };
  const file = guarded(() => openSync(part, 'wx', 0o600));
  return {
    write: async (piece) =>
      guarded(() => {
        const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      }),
    finish: () =>
      guarded(() => {
        fsyncSync(file);
        closeSync(file);
        renameSync(part, path);
      }),
    abandon() {
      closeSync(file);
      rmSync(part, { force: true });
    },
  };
}

const stdoutSink = (context: Context): Sink => ({
  async write(piece) {
    context.terminal.data(typeof piece === 'string' ? piece : Buffer.from(piece).toString('utf8'));
    // Whoever reads slowly must not make this process hold the whole history.
    if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
  },
  finish() {},
  abandon() {},
});

export const exportHistory: Run = async (context, input) => {
  const wanted = readWanted(input);
  const path = input.text('db');
  const key = input.text('key');
  if (key !== undefined && path === undefined)
    throw usageFailure(
      '--key seals the export of a file; a running agent seals its own. Leave it out, or give --db.',
    );
  const pieces =
    path === undefined ? await fromAgent(context, wanted) : fromFile(path, key, wanted, context.clock.now());
  const target = input.text('file');
  const sink = target === undefined ? stdoutSink(context) : fileSink(target);
  let tail = Buffer.alloc(0);
  let bytes = 0;
  try {
    // A piece may end inside a character; only whole ones are text.
    const decoder = new TextDecoder();
    for await (const piece of pieces) {
      const chunk = typeof piece === 'string' ? Buffer.from(piece) : Buffer.from(piece);
      bytes += chunk.length;
      tail =
        chunk.length >= TAIL_BYTES
          ? chunk.subarray(-TAIL_BYTES)
          : Buffer.concat([tail.subarray(-256 * 1024), chunk]);
      await sink.write(target === undefined ? decoder.decode(chunk, { stream: true }) : chunk);
    }
    if (!endsWhole(tail.toString('utf8'), wanted.format === 'csv'))
      throw connectionFailure('the export broke off before its end; run the command again.');
    sink.finish();
  } catch (error) {
    sink.abandon();
    throw error;
  }
  if (target !== undefined) context.terminal.note(`${bytes} bytes written to ${target}.`);
  if (path !== undefined && key === undefined)
    context.terminal.note(
      'Note: this export is not sealed, so lines missing at its end cannot be noticed. --key peer.key, or an export from the running agent, seals it.',
    );
  return EXIT.success;
};

const PUBLIC_KEY = /(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])/g;

/** Keys given as base64, or in files that hold some (`arctic cluster identity --json`, a list). */
function readRootKeys(given: readonly string[]): readonly string[] {
  return given.flatMap((one) => {
    if (new RegExp(`^${PUBLIC_KEY.source}$`).test(one)) return [one];
    let text: string;
    try {
      text = readFileSync(one, 'utf8');
    } catch (error) {
      throw usageFailure(
        `--root-key: '${one}' is no public key (base64, 32 bytes), and as a file: ${systemReason(error)}.`,
      );
    }
    const found = text.match(PUBLIC_KEY);
    if (found === null) throw usageFailure(`--root-key: there is no public key in ${one}.`);
    return found;
  });
}

export const verifyExport: Run = async (context, input) => {
  const rootKeys = readRootKeys(input.list('root-key') ?? []);
  const path = input.arg(0);
  const { createChanges } = await import('../../projections/change.ts');
  const verifier = createAuditVerifier({ rootKeys, changes: createChanges() });
  let bytes = 0;
  try {
    const stream = path === '-' ? process.stdin : createReadStream(path, { highWaterMark: 1024 * 1024 });
    for await (const lines of readLines(stream)) {
      lines.texts.forEach((line, index) => {
        verifier.push(line, lines.flaws.get(index));
      });
      bytes += lines.bytes;
      context.terminal.status(`${Math.round(bytes / 1_048_576)} MiB read`);
    }
  } catch (error) {
    throw new Failure(EXIT.general, `cannot read ${path}: ${systemReason(error)}.`, [], { cause: error });
  }
  context.terminal.status('');
  const report = verifier.finish();
  await context.output.either(reportData(report), () =>
    reportText(report, path, rootKeys.length > 0, context),
  );
  return report.sound ? EXIT.success : EXIT.general;
};

const reportData = (report: AuditReport): unknown => ({
  sound: report.sound,
  faults: report.faults,
  fault_count: report.faultCount,
  lines: report.lines,
  events: report.events,
  context: report.context,
  left_out: report.leftOut,
  signatures: report.signatures,
  exporter: report.header?.exporter ?? null,
  exported_at: report.header?.exported_at ?? null,
  filter: report.header?.filter ?? null,
  sealed: report.sealed,
  changes_recomputed: report.changesRecomputed,
  chains: report.chains,
  keys: report.keys.map(({ origin, publicKey, trust, contradictedBy }) => ({
    origin,
    public_key: publicKey,
    trust,
    contradicted_by: contradictedBy,
  })),
});

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** What the export was asked for: who reads it should not take a part for the whole. */
function filterText({ filter, head }: HeaderLine): string {
  const { since, until, types, actor } = filter;
  const asked = [
    ...(types === null ? [] : [`only ${types.join(', ')}`]),
    ...(actor === null ? [] : [`only by ${actor}`]),
    ...(since === null ? [] : [`since ${momentText(since)}`]),
    ...(until === null ? [] : [`until ${momentText(until)}`]),
  ];
  const all = `The log ended at position ${head}`;
  return asked.length === 0 ? `${all}; nothing was filtered out.` : `${all}; asked for: ${asked.join(', ')}.`;
}

const momentText = (moment: string): string => (/^\d+$/.test(moment) ? `position ${moment}` : moment);

function reportText(report: AuditReport, path: string, pinned: boolean, context: Context): string {
  const { style } = context.output;
  const { header } = report;
  const lines: string[] = [];
  for (const { line, what } of report.faults) lines.push(style.red(printable(`${path}:${line}: ${what}`)));
  if (report.faultCount > report.faults.length)
    lines.push(`... and ${report.faultCount - report.faults.length} more.`);
  if (lines.length > 0) lines.push('');
  const count = `${counted(report.events, 'event')}${report.context > 0 ? `, ${report.context} for context` : ''}${report.leftOut > 0 ? `, ${report.leftOut} left out as hashes` : ''}`;
  if (header !== undefined)
    lines.push(
      printable(
        `Exported ${header.exported_at} by ${header.exporter}: ${count}, ${counted(report.signatures, 'signature')}.`,
      ),
      printable(filterText(header)),
    );
  for (const { origin, publicKey, trust, contradictedBy } of report.keys) {
    const why = {
      pinned: pinned ? 'given as a root key' : "the exporter's own, taken at its word",
      admitted: 'stated by a member whose key is believed',
      exporter: "the exporter's word, under its seal",
      unvouched: "nobody's word but the file's",
    }[trust];
    lines.push(printable(`  key of ${origin}: ${publicKey} (${why})`));
    if (contradictedBy.length > 0)
      lines.push(
        style.yellow(printable(`    another key was stated for it by ${contradictedBy.join(', ')}`)),
      );
  }
  if (!report.sound) {
    lines.push(
      style.red(`${path} does not verify: ${report.faultCount} fault${report.faultCount === 1 ? '' : 's'}.`),
    );
    return `${lines.join('\n')}\n`;
  }
  if (!report.sealed)
    lines.push(
      style.yellow(
        'Not sealed: every event here is proven, but not that none is missing at the end, nor positions and times of arrival.',
      ),
    );
  if (!report.changesRecomputed)
    lines.push(
      report.sealed
        ? "What each event changed (before, after) is the exporter's statement: the file does not hold what is needed to fold it anew."
        : style.yellow('What each event changed (before, after) is not proven.'),
    );
  if (!pinned) {
    const doubted = report.keys.some(
      ({ origin, contradictedBy }) => origin === header?.exporter && contradictedBy.length > 0,
    );
    const compare = "ompare the exporter's key with what that host shows, or give it as --root-key.";
    lines.push(
      doubted
        ? style.yellow(
            `Members state another key for the exporter: all of it may be forged. First c${compare}`,
          )
        : `C${compare}`,
    );
  }
  lines.push(style.green(`${path} verifies.`));
  return `${lines.join('\n')}\n`;
}
