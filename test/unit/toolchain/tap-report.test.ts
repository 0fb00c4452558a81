import t from 'tap';
import { createTapReader, type FileReport } from '../../../ops/test/tap-report.ts';

function read(text: string): FileReport[] {
  const reports: FileReport[] = [];
  const reader = createTapReader((report) => reports.push(report));
  for (const line of text.split('\n')) reader.line(line);
  reader.end();
  return reports;
}

const TWO_FILES = `TAP version 14
# Subtest: test/a.test.ts
    # Subtest: one
        ok 1 - should be equal
        # Subtest: nested
            ok 1 - fine
            not ok 2 - deliberate \\# 1
              ---
              compare: ===
              diff: |
                --- expected
                +++ actual
              ...
            1..2
        not ok 2 - nested # time=18.02ms
          ---
          at:
            fileName: x
          ...
        1..2
    not ok 1 - one # time=25.172ms
    ok 2 - top
    ok 3 - skipped # SKIP why
    1..3
not ok 1 - test/a.test.ts # time=34.5ms
  ---
  exitCode: 1
  ...
# Subtest: test/b.test.ts
    # Subtest: grouped
        # Subtest: left
            ok 1 - x
            1..1
        ok 1 - left # time=1ms
        # Subtest: right
            ok 1 - x
            ok 2 - y
            1..2
        ok 2 - right # time=1ms
        1..2
    ok 1 - grouped # time=3ms
    1..1
ok 2 - test/b.test.ts # time=10ms
1..2
# { total: 5, pass: 3, fail: 1, skip: 1 }
`;

t.test('tests are the blocks that assert something', async (t) => {
  const [a, b] = read(TWO_FILES);
  t.match(a, { file: 'test/a.test.ts', passed: 2, failed: 1, skipped: 1, assertions: 4, milliseconds: 34.5 });
  t.match(b, { file: 'test/b.test.ts', passed: 2, failed: 0, skipped: 0, assertions: 3 });
});

t.test('a failure keeps its path and its explanation', async (t) => {
  const [a] = read(TWO_FILES);
  t.same(a?.failures, [
    {
      path: ['test/a.test.ts', 'one', 'nested', 'deliberate # 1'],
      diagnostic: ['compare: ===', 'diff: |', '  --- expected', '  +++ actual'],
    },
  ]);
});

t.test('a file that ends without a test, or by a crash after passing tests, has failed', async (t) => {
  const [none, crashed] = read(`TAP version 14
# Subtest: test/none.test.ts
    1..0 # no tests found
not ok 1 - test/none.test.ts # time=417.115ms
  ---
  exitCode: 1
  ...
# Subtest: test/crashed.test.ts
    # Subtest: one
        ok 1 - x
        1..1
    ok 1 - one # time=1ms
    1..1
not ok 2 - test/crashed.test.ts # time=40ms
  ---
  signal: SIGSEGV
  ...
1..2`);
  t.match(none, {
    passed: 0,
    failed: 1,
    failures: [{ path: ['test/none.test.ts'], diagnostic: ['exitCode: 1'] }],
  });
  t.match(crashed, { passed: 1, failed: 1, failures: [{ diagnostic: ['signal: SIGSEGV'] }] });
});

t.test('what a test prints is not taken for its result', async (t) => {
  const [file] = read(`# Subtest: test/noisy.test.ts
ok is what I say
    # Subtest: one
not okay
                            ok 7 - too deep
        ok 1 - x
          ---
          note: |
            not ok 9 - inside an explanation
          ...
        1..1
    ok 1 - one # time=1ms
    1..1
ok 1 - test/noisy.test.ts # time=5ms
1..1`);
  t.match(file, { file: 'test/noisy.test.ts', passed: 1, failed: 0, assertions: 1 });
});
