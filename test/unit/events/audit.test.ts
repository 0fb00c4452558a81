import { Readable } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { readLines } from '../../../cli/line-reader.ts';
import { closeLine, eventCore, FIRST_LINK, splitLink } from '../../../events/audit-format.ts';
import { type AuditReport, createAuditVerifier } from '../../../events/audit-verify.ts';
import { canonicalJson, eventPreimage } from '../../../events/canonical.ts';
import { hashPreimage } from '../../../events/chain.ts';
import { createChanges } from '../../../projections/change.ts';
import { keyOf, openHost, operator, routeAdded, temporaryDirectory } from './given-log.ts';

t.setTimeout(240_000);

import { base64, exported, FILTERS, givenLog, relinked, verified } from './audit-lab.ts';

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

t.test(
  'an exporter that states another key for itself than its events are signed with is not believed',
  async (t) => {
    const log = openHost({ path: `${temporaryDirectory(t)}/arctic.db` });
    t.teardown(() => log.close());
    const state = (n: number) => {
      const address = '10.0.0.1:8080';
      const data = { peer_id: log.origin, public_key: base64(keyOf(n)), name: null, address, endpoints: [] };
      log.append([{ type: 'peer.admitted', entity: log.origin, data }], operator);
    };
    state(1);
    t.match(verified(exported(log)), { sound: true, keys: [{ contradictedBy: { length: 0 } }] });
    state(3);
    t.match(verified(exported(log)), {
      sound: false,
      faults: [{ what: /states another key for itself/ }],
      keys: [{ contradictedBy: [log.origin] }],
    });
  },
);
