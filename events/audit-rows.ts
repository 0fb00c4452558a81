import { CSV_HEAD, createCsvRows } from './audit-csv.ts';
import { splitLink } from './audit-format.ts';

/** What is wrong with a line that its text does not show: bytes that are no UTF-8, or no line feed at its end. */
export type LineFlaw = 'encoding' | 'unended';

export interface AuditRow {
  /** What an export says, as JSON. */
  readonly record: string;
  /** The other cells of a CSV's row. */
  readonly cells: string | undefined;
}

/** The lines of a file, in either form, as what an export says. What is not written as an export writes it is a fault. */
export interface AuditRows {
  /** Lines of the file so far. */
  readonly physical: number;
  /** Lines of the export so far: without the head of a CSV. */
  readonly lines: number;
  /** `lost`: a line of the export that could not be read. */
  take(
    text: string,
    flaw: LineFlaw | undefined,
  ): { readonly faults: readonly string[]; readonly row: AuditRow | undefined; readonly lost: boolean };
  /** What is to be said of line ends, once: what saves a file anew changes all of them. */
  ends(): { readonly line: number; readonly what: string } | undefined;
}

/** Whatever was altered there, a head or row of a CSV has two cells where a line of the other form has its first number. */
const beginsCsv = (text: string): boolean => text.slice(0, 10).includes('","');

export function createAuditRows(): AuditRows {
  const csvRows = createCsvRows();
  let csv: boolean | undefined;
  let physical = 0;
  let lines = 0;
  /** Lines that end as those of the form do not. */
  const wrong = { first: 0, last: 0, count: 0 };
  const unreadable = (faults: readonly string[], what: string) => ({
    faults: [...faults, what],
    row: undefined,
    lost: true,
  });
  return {
    get physical() {
      return physical;
    },
    get lines() {
      return lines;
    },
    take(given, flaw) {
      physical += 1;
      const faults: string[] = [];
      const marked = physical === 1 && given.startsWith('\ufeff');
      if (marked) faults.push('a byte order mark stands before it: saved by another program');
      const text = marked ? given.slice(1) : given;
      csv ??= beginsCsv(text);
      if (flaw === 'unended')
        faults.push('its line end is missing: the file was cut off, or saved by another program');
      const returned = text.endsWith('\r');
      if (returned !== csv && flaw !== 'unended') {
        if (wrong.count === 0) wrong.first = physical;
        wrong.last = physical;
        wrong.count += 1;
      }
      const line = returned ? text.slice(0, -1) : text;
      if (csv && physical === 1) {
        if (line === CSV_HEAD && flaw !== 'encoding') return { faults, row: undefined, lost: false };
        faults.push('it does not name the columns as an export does: that row was altered, or taken out');
        const row = csvRows.read(line);
        if (row === undefined || splitLink(row.record) === undefined)
          return { faults, row: undefined, lost: false };
      }
      lines += 1;
      if (flaw === 'encoding') return unreadable(faults, 'it has bytes that are no UTF-8');
      if (!csv) return { faults, row: { record: line, cells: undefined }, lost: false };
      const row = csvRows.read(line);
      if (row === undefined) return unreadable(faults, 'it is not a row of an audit export');
      return { faults, row, lost: false };
    },
    ends() {
      const { first, last, count } = wrong;
      if (count === 0) return undefined;
      const which = count === 1 ? 'it ends' : `it and ${count - 1} more up to line ${last} end`;
      const how =
        csv === true
          ? 'in a line feed alone, where the rows of an export end in CR LF'
          : 'in CR LF, where the lines of an export end in a line feed alone';
      return { line: first, what: `${which} ${how}: altered, or saved by another program` };
    },
  };
}
