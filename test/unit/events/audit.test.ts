import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { readLines } from '../../../cli/line-reader.ts';
import { CSV_COLUMNS, createCsvRows } from '../../../events/audit-csv.ts';
import { exportAudit } from '../../../events/audit-export.ts';
import {
  type AuditFilter,
  closeLine,
  eventCore,
  FIRST_LINK,
  linkOf,
  splitLink,
} from '../../../events/audit-format.ts';
import { type AuditReport, createAuditVerifier } from '../../../events/audit-verify.ts';
import { canonicalJson, eventPreimage } from '../../../events/canonical.ts';
import { hashPreimage } from '../../../events/chain.ts';
import { createSigner } from '../../../events/ed25519.ts';
import type { Log } from '../../../events/log-contract.ts';
import { createChanges } from '../../../projections/change.ts';
import {
  agentStarted,
  keyOf,
  openHost,
  operator,
  overTheWire,
  routeAdded,
  routeUpdated,
  seedOf,
  setClock,
  temporaryDirectory,
} from './given-log.ts';

t.setTimeout(240_000);

const ALL: AuditFilter = { since: null, until: null, types: null, actor: null };
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

interface Teardown {
  teardown(run: () => void): void;
}

/** A log with a history of its own and of another origin, local events among them, in transactions of several sizes. */
function givenLog(t: Teardown): Log {
  const directory = temporaryDirectory(t);
  const clock = setClock();
  const other = openHost({ path: `${directory}/other.db`, n: 2, clock });
  const log = openHost({ path: `${directory}/arctic.db`, n: 1, clock });
  t.teardown(() => {
    log.close();
    other.close();
  });
  const member = (of: Log, n: number) => ({
    peer_id: of.origin as never,
    public_key: base64(keyOf(n)),
    address: `10.0.0.${n}:8080`,
    endpoints: [],
  });
  log.append([agentStarted], operator);
  log.append(
    [
      {
        type: 'peer.registered',
        entity: log.origin,
        data: {
          ...member(log, 1),
          name: 'one',
          api_access: 'open',
          cluster_id: 'clu_01JD0000000000000000000000' as never,
          license_id: 'lic_test' as never,
          version: '1.4.0',
        },
      },
      { type: 'peer.admitted', entity: other.origin, data: { ...member(other, 2), name: '=cmd|two' } },
    ],
    operator,
  );
  for (let n = 1; n <= 12; n += 1) {
    clock.advance(1_000);
    log.append([routeAdded(n), routeAdded(100 + n)], operator);
    other.append([routeUpdated(n, n), routeUpdated(n, n + 1), routeAdded(200 + n)], {
      ...operator,
      actor: { kind: 'system', id: null, address: null },
    });
    if (n % 4 === 0) log.append([agentStarted], operator);
    if (n % 3 === 0)
      log.receive(
        other.origin,
        keyOf(2),
        overTheWire(
          other.range(
            other.origin,
            other.versionVector()[other.origin] === undefined
              ? 1
              : (log.versionVector()[other.origin] ?? 0) + 1,
            1_000,
          ),
        ),
      );
  }
  return log;
}

const exported = (
  log: Log,
  filter: Partial<AuditFilter> = {},
  options: { csv?: boolean; seal?: boolean } = {},
): string[] =>
  [
    ...exportAudit(log, createChanges(), {
      format: options.csv === true ? 'csv' : 'jsonl',
      filter: { ...ALL, ...filter },
      exportedAtMs: Date.UTC(2026, 1, 1),
      seal: options.seal === false ? undefined : createSigner(seedOf(1)),
    }),
  ]
    .join('')
    .split('\n')
    .slice(0, -1);

function verified(lines: readonly string[], rootKeys: readonly string[] = []): AuditReport {
  const verifier = createAuditVerifier({ rootKeys, changes: createChanges() });
  for (const line of lines) verifier.push(line);
  return verifier.finish();
}

/** What a forger can do without any key: number and link everything anew. */
function relinked(lines: readonly string[], renumber = true): string[] {
  let link = FIRST_LINK;
  return lines.map((line, at) => {
    const core = splitLink(line)?.core ?? line;
    const numbered = renumber ? core.replace(/^\{"line":\d+/, `{"line":${at + 1}`) : core;
    link = linkOf(link, numbered);
    return closeLine(numbered, link);
  });
}

const FILTERS: readonly Partial<AuditFilter>[] = [
  {},
  { types: ['route.updated'] },
  { types: ['route.added'] },
  { types: ['agent.started'] },
  { types: ['nothing.such'] },
  { actor: 'system' },
  { actor: 'cli_01JD0000000000000000000000' },
  { since: '10' },
  { until: '20' },
  { since: '8', until: '30', types: ['route.added'] },
  { since: '2026-01-01T00:00:04.000Z', until: '2026-01-01T00:00:08.000Z' },
];

t.test('an export, whatever its filter and form, verifies and says what it holds', async (t) => {
  const log = givenLog(t);
  for (const filter of FILTERS) {
    for (const csv of [false, true]) {
      const lines = exported(log, filter, { csv });
      const report = verified(lines, [base64(keyOf(1))]);
      const what = `${JSON.stringify(filter)} ${csv ? 'csv' : 'jsonl'}`;
      t.same(report.faults, [], what);
      t.equal(report.sealed, true, what);
      if (filter.since === undefined && filter.until === undefined)
        t.equal(report.events + report.context + report.leftOut, log.head, `${what}: nothing is left unsaid`);
    }
  }
  const report = verified(exported(log), [base64(keyOf(1))]);
  t.equal(report.changesRecomputed, true);
  t.same(report.keys.map(({ trust }) => trust).sort(), ['admitted', 'pinned']);
  t.match(verified(exported(log), [base64(keyOf(3))]).faults[0]?.what, /nothing vouches for the key/);
  t.equal(verified(exported(log, {}, { seal: false })).sealed, false);
  t.equal(verified(exported(log, {}, { seal: false })).sound, true);
});

t.test('each line has what was before and after, who did it and from where', async (t) => {
  const lines = exported(givenLog(t)).map((line) => JSON.parse(line));
  t.match(
    lines.find((line) => line.event?.type === 'route.added'),
    {
      kind: 'event',
      before: null,
      after: null,
      event: { actor: { kind: 'client', id: 'cli_01JD0000000000000000000000', address: '192.0.2.7' } },
    },
  );
  t.match(
    lines.find((line) => line.event?.type === 'peer.admitted'),
    { before: null, after: { name: '=cmd|two' } },
  );
});

t.test('no cell of the CSV begins as a formula, and none is lost by that', async (t) => {
  const rows = exported(givenLog(t), {}, { csv: true });
  for (const row of rows) for (const cell of row.split(/(?<="),(?=")/)) t.notMatch(cell, /^"[=+\-@\t\r]/);
  // Control characters are refused before they are written.
  const risky = ['=', '+', '-', '@', "'"].map((first) => `${first}1`);
  const log = givenLog(t);
  for (const text of risky)
    log.append([routeAdded(7)], {
      actor: { kind: 'client', id: text, address: text },
      correlationId: text,
    });
  const lines = exported(log, {}, { csv: true });
  t.same(verified(lines).faults, [], 'what was neutralised still proves');
  const cells = lines.flatMap((row) => row.split(/(?<="),(?=")/));
  for (const text of risky) {
    t.equal(cells.filter((cell) => cell === `"'${text}"`).length, 3, `neutralised: ${text}`);
    t.notOk(cells.includes(`"${text}"`), `no cell is ${text}`);
  }
  const first = rows.findIndex((row) => row.includes('"event"'));
  const altered = rows.map((row, at) => (at === first ? row.replace('"client"', '"system"') : row));
  t.match(verified(altered).faults, [{ line: first + 1, what: /columns do not say/ }]);
});

t.test('a row of the CSV is read in one way, the one it is written in', async (t) => {
  const rows = createCsvRows();
  const cell = fc.string({
    unit: fc.oneof(
      fc.constantFrom('"', ',', "'", 'é', '€'),
      fc.string({ unit: 'binary-ascii', maxLength: 1 }),
    ),
  });
  const cells = fc.array(
    cell.map((text) => text.replaceAll('\n', ' ')),
    { minLength: CSV_COLUMNS.length, maxLength: CSV_COLUMNS.length },
  );
  fc.assert(
    fc.property(cells, fc.nat(), fc.constantFrom('', '"', ',', '","', '\n'), (all, at, piece) => {
      const record = all.at(-1) ?? '';
      const row = rows.write(all.slice(0, -1).join('\n'), record);
      if (row !== all.map((one) => `"${one.replaceAll('"', '""')}"`).join(',')) return false;
      const read = rows.read(row);
      if (read?.record !== record || read.cells !== all.slice(0, -1).join('\n')) return false;
      // Anything else is no row, or another one.
      const i = at % row.length;
      const other = row.slice(0, i) + piece + row.slice(i + 1);
      const again = rows.read(other);
      return again === undefined || rows.write(again.cells, again.record) === other;
    }),
    { numRuns: 500 },
  );
  t.equal(rows.read('"a","b"'), undefined, 'too few cells');
  t.equal(rows.read(`${'"",'.repeat(CSV_COLUMNS.length)}""`), undefined, 'too many');
});

t.test('whatever is done to the lines is found, and the line is named', async (t) => {
  const log = givenLog(t);
  for (const csv of [false, true]) {
    const lines = exported(log, {}, { csv });
    // The first row of a CSV names the columns and is no line of the export.
    const offset = csv ? 1 : 0;
    const place = fc.integer({ min: offset, max: lines.length - 1 });
    const named = (mutated: readonly string[], wanted: readonly number[]): boolean => {
      const { faults } = verified(mutated);
      return faults.some(({ line }) => wanted.includes(line));
    };
    fc.assert(
      fc.property(place, (at) => named(lines.toSpliced(at, 1), [at + 1, lines.length - 1])),
      { numRuns: 40 },
    );
    fc.assert(
      fc.property(place, place, (from, to) =>
        named(lines.toSpliced(to, 0, lines[from] ?? ''), [to + 1, to + 2]),
      ),
      { numRuns: 40 },
    );
    fc.assert(
      fc.property(place, place, (a, b) => {
        if (a === b) return true;
        const swapped = [...lines];
        swapped[a] = lines[b] ?? '';
        swapped[b] = lines[a] ?? '';
        return named(swapped, [Math.min(a, b) + 1]);
      }),
      { numRuns: 40 },
    );
    fc.assert(
      fc.property(place, fc.nat(), fc.integer({ min: 32, max: 126 }), (at, where, code) => {
        const line = lines[at] ?? '';
        const i = where % line.length;
        const other = String.fromCharCode(code);
        if (line[i] === other) return true;
        const altered = lines.with(at, line.slice(0, i) + other + line.slice(i + 1));
        // A changed link shows at the line or, when only it changed, there and at the next.
        return named(altered, [at + 1, at + 2]);
      }),
      { numRuns: 120 },
    );
    fc.assert(
      fc.property(
        fc.integer({ min: offset, max: lines.length - 1 }),
        (keep) => !verified(lines.slice(0, keep)).sound,
      ),
      { numRuns: 40 },
    );
  }
});

/** What `audit verify` says of these bytes. */
async function verifiedBytes(bytes: Uint8Array): Promise<AuditReport> {
  const verifier = createAuditVerifier({ changes: createChanges() });
  for await (const { texts, flaws } of readLines(Readable.from([bytes])))
    for (const [index, text] of texts.entries()) verifier.push(text, flaws.get(index));
  return verifier.finish();
}

t.test('no byte of a file is another, and the line it is in is named', async (t) => {
  const log = givenLog(t);
  // A sign that stands for bytes that could not be read, as a text may have it.
  log.append([routeAdded(8)], { ...operator, correlationId: 'cor \ufffd' });
  for (const csv of [false, true]) {
    const rows = exported(log, { since: '30' }, { csv });
    const whole = Buffer.from(`${rows.join('\n')}\n`);
    const faultsOf = async (...parts: Uint8Array[]) => (await verifiedBytes(Buffer.concat(parts))).faults;
    const lineOf = (at: number): number => whole.subarray(0, at).filter((byte) => byte === 10).length + 1;
    t.strictSame(await faultsOf(whole), []);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(whole.length - 1),
        fc.nat(255),
        fc.nat(1),
        fc.nat(1),
        async (at, byte, put, taken) => {
          const altered = Buffer.concat([
            whole.subarray(0, at),
            put === 1 ? Buffer.of(byte) : Buffer.alloc(0),
            whole.subarray(at + taken),
          ]);
          if (altered.equals(whole)) return true;
          const faults = await faultsOf(altered);
          return faults.some(({ line }) => Math.abs(line - lineOf(at)) <= 1);
        },
      ),
      { numRuns: 150 },
    );
    const sign = whole.indexOf('\ufffd');
    t.match(await faultsOf(whole.subarray(0, sign), Buffer.of(0xff), whole.subarray(sign + 3)), [
      { line: lineOf(sign), what: /no UTF-8/ },
      {},
    ]);
    t.match(await faultsOf(whole.subarray(0, -1)), [{ line: rows.length, what: /its line end is missing/ }]);
    t.match(await faultsOf(whole, Buffer.of(10)), [{ line: rows.length + 1 }], 'a blank line at the end');
    const marked = await faultsOf(Buffer.of(0xef, 0xbb, 0xbf), whole);
    t.match(marked, [{ line: 1, what: /byte order mark/ }]);
    t.equal(marked.length, 1, 'one fault, not one for each line');
    const other = rows.map((row) => (csv ? row.slice(0, -1) : `${row}\r`));
    t.match(
      await faultsOf(Buffer.from(`${other.join('\n')}\n`)),
      [{ line: 1, what: `it and ${rows.length - 1} more up to line ${rows.length} end in` }],
      'saved with the line ends of another system: one fault',
    );
  }
  const [, ...headless] = exported(log, {}, { csv: true });
  t.match(verified(headless).faults, [{ line: 1, what: /does not name the columns/ }]);
  t.equal(verified(headless).faultCount, 1);
  const lines = exported(log);
  const moved = lines.toSpliced(6, 2, lines[7] ?? '', lines[6] ?? '');
  t.match(verified(moved).faults, [
    { line: 7, what: /line 7 is missing before it/ },
    { line: 8, what: /it is line 7, which is missing from its place: it was moved here/ },
    { what: /trailer: it counts/ },
  ]);
  t.match(verified(lines.toSpliced(0, 1)).faults.at(-1)?.what, /not known without the header/);
});

t.test('a forger who links everything anew is caught by what he cannot sign', async (t) => {
  const log = givenLog(t);
  for (const seal of [true, false]) {
    for (const filter of FILTERS.slice(0, 6)) {
      const lines = exported(log, filter, { seal });
      const inner = fc.integer({ min: 1, max: lines.length - (seal ? 3 : 2) });
      const sound = (mutated: readonly string[]): boolean => verified(relinked(mutated)).sound;
      fc.assert(
        fc.property(inner, fc.nat(), fc.integer({ min: 32, max: 126 }), (at, where, code) => {
          const core = splitLink(lines[at] ?? '')?.core ?? '';
          const i = core.indexOf('"kind"') + (where % (core.length - core.indexOf('"kind"')));
          const other = String.fromCharCode(code);
          if (core[i] === other) return true;
          const altered = lines.with(at, closeLine(core.slice(0, i) + other + core.slice(i + 1), FIRST_LINK));
          const report = verified(relinked(altered));
          if (!report.sound) return true;
          // Without a seal the time this host took an event in, its position, and in a filtered export what it
          // changed and hashes inside a run of left-out events, are the exporter's word. Nothing else is.
          const unproven =
            /"(recorded_at|position|before|after|hashes)":[^{]*$/.test(core.slice(0, i + 1)) ||
            filter.types !== undefined ||
            filter.actor !== undefined;
          return !seal && unproven;
        }),
        { numRuns: 40 },
      );
      fc.assert(
        fc.property(inner, (at) => {
          const line = lines[at] ?? '';
          const redundant = line.includes('"kind":"signature"');
          return !sound(lines.toSpliced(at, 1)) || (redundant && !seal);
        }),
        { numRuns: 40 },
      );
      fc.assert(
        fc.property(
          inner,
          (at) =>
            !sound(lines.toSpliced(at, 0, lines[at] ?? '')) ||
            (!seal && (lines[at] ?? '').includes('"kind":"signature"')),
        ),
        { numRuns: 40 },
      );
    }
  }
});

t.test('a signature written in another way is an altered line', async (t) => {
  const lines = exported(givenLog(t), {}, { seal: false });
  const at = lines.findIndex((line) => line.includes('"kind":"signature"'));
  const core = splitLink(lines[at] ?? '')?.core ?? '';
  for (const other of ['= "', ' ="', '"', '==="', '==\\n"']) {
    const altered = lines.with(at, closeLine(core.replace('=="', other), FIRST_LINK));
    const { faults } = verified(relinked(altered));
    t.match(faults[0], { line: at + 1, what: /not the origin's signature/ }, JSON.stringify(other));
  }
});

t.test(
  'a forged event, with its chain hashed anew after it, fails at the signature that covers it',
  async (t) => {
    const lines = exported(givenLog(t), {}, { seal: false });
    const at = lines.findIndex((line) => line.includes('"type":"route.updated"'));
    const once = lines.with(at, (lines[at] ?? '').replace('"priority":1,', '"priority":9,'));
    t.match(verified(relinked(once)).faults, [{ line: at + 1, what: /content does not match its hash/ }]);

    const { origin } = JSON.parse(lines[at] ?? '').event;
    let hash: string | undefined;
    const forged = once.map((line, index) => {
      const parsed = JSON.parse(line);
      if (index < at || (parsed.event?.origin ?? parsed.origin) !== origin) return line;
      const { link: _link, ...rest } = parsed;
      if (parsed.kind === 'signature')
        return closeLine(JSON.stringify({ ...rest, hash }).slice(0, -1), FIRST_LINK);
      const event = { ...parsed.event, prev_hash: hash ?? parsed.event.prev_hash };
      const body = eventPreimage(event, canonicalJson(event.data));
      hash = hashPreimage(body);
      const { event: _event, ...prefix } = rest;
      return closeLine(eventCore({ ...prefix, hash }, body), FIRST_LINK);
    });
    const { faults } = verified(relinked(forged));
    const signature = forged.findIndex(
      (line, index) => index > at && line.includes('"kind":"signature"') && line.includes(origin),
    );
    t.match(faults[0], {
      line: signature + 1,
      what: new RegExp(`not the origin's signature; so something in lines \\d+ to ${signature + 1}`),
    });
  },
);
