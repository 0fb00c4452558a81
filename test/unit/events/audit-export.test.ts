import fc from 'fast-check';
import t from 'tap';
import { CSV_COLUMNS, createCsvRows } from '../../../events/audit-csv.ts';
import { base64, exported, FILTERS, givenLog, verified } from './audit-lab.ts';
import { keyOf, routeAdded } from './given-log.ts';

t.setTimeout(240_000);

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
