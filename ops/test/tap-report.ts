/** Reads the TAP that the test runner streams: what passed and failed, file by file. */

export interface Failure {
  /** File, tests and assertion, outermost first. */
  readonly path: readonly string[];
  /** The YAML block that explains it, without its indentation. */
  readonly diagnostic: readonly string[];
}

export interface FileReport {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly assertions: number;
  readonly milliseconds: number;
  readonly failures: readonly Failure[];
}

/** A block is a file or a `t.test`. It counts as one test when it asserts something itself. */
interface Block {
  name: string;
  assertions: number;
  failedAssertions: number;
  passed: number;
  failed: number;
  skipped: number;
  assertionsBelow: number;
}

const POINT = /^( *)(not ok|ok) \d+(?: - (.*))?$/;
const SUBTEST = /^( *)# Subtest: (.*)$/;

function newBlock(name: string): Block {
  return { name, assertions: 0, failedAssertions: 0, passed: 0, failed: 0, skipped: 0, assertionsBelow: 0 };
}

/** `name # time=12.5ms`, `name # SKIP why` or `name { ...`, with `#` of the name itself escaped. */
function readPoint(text: string) {
  const bare = text.replace(/ \{$/, '');
  const at = bare.search(/ # (?:time=|SKIP|TODO)/i);
  const directive = at === -1 ? '' : bare.slice(at + 3);
  return {
    name: (at === -1 ? bare : bare.slice(0, at)).replaceAll('\\#', '#'),
    skipped: /^(SKIP|TODO)/i.test(directive),
    milliseconds: Number(/^time=([\d.]+)ms/.exec(directive)?.[1] ?? 0),
  };
}

export interface TapReader {
  line(text: string): void;
  /** No more lines. */
  end(): void;
}

/** `onFile` is called when the last line about a file has been read, that is when the next file begins. */
export function createTapReader(onFile: (report: FileReport) => void): TapReader {
  // blocks[d] is the open block whose points stand at depth d; blocks[0] is the run, whose points are files.
  let blocks: Block[] = [newBlock('')];
  let failures: Failure[] = [];
  let file: FileReport | undefined;
  let yaml: { indent: number; lines: string[] } | undefined;
  let afterPoint: { indent: number; failure: string[] | undefined } | undefined;

  function finishFile(): void {
    if (file !== undefined) onFile(file);
    file = undefined;
  }

  function fail(name: string): string[] {
    const diagnostic: string[] = [];
    failures.push({ path: [...blocks.slice(1).map((block) => block.name), name], diagnostic });
    return diagnostic;
  }

  /** The sum of a closed block, itself counted as a test when it is one. */
  function close(block: Block, ok: boolean, skipped: boolean): Block {
    const sum = { ...block, assertionsBelow: block.assertionsBelow + block.assertions };
    const unexplained = !ok && !skipped && block.failed === 0 && block.failedAssertions === 0;
    if (skipped) sum.skipped += 1;
    else if (block.failedAssertions > 0 || unexplained) sum.failed += 1;
    else if (block.assertions > 0) sum.passed += 1;
    return sum;
  }

  function point(depth: number, ok: boolean, text: string): string[] | undefined {
    const { name, skipped, milliseconds } = readPoint(text);
    const child = blocks[depth + 1];
    blocks = blocks.slice(0, depth + 1);
    const parent = blocks[depth] ?? newBlock('');
    if (child === undefined && depth > 0) {
      if (skipped) parent.skipped += 1;
      else parent.assertions += 1;
      if (ok || skipped) return undefined;
      parent.failedAssertions += 1;
      return fail(name);
    }
    const sum = close(child ?? newBlock(name), ok, skipped);
    const unexplained =
      !ok && !skipped && child?.failed !== sum.failed && (child?.failedAssertions ?? 0) === 0;
    const diagnostic = unexplained ? fail(name) : undefined;
    if (depth > 0) {
      parent.passed += sum.passed;
      parent.failed += sum.failed;
      parent.skipped += sum.skipped;
      parent.assertionsBelow += sum.assertionsBelow;
      return diagnostic;
    }
    const { passed, failed, assertionsBelow } = sum;
    file = {
      file: name,
      passed,
      failed,
      skipped: sum.skipped,
      assertions: assertionsBelow,
      milliseconds,
      failures,
    };
    failures = [];
    return diagnostic;
  }

  function line(text: string): void {
    if (yaml !== undefined) {
      if (text.trimEnd() === `${' '.repeat(yaml.indent)}...`) yaml = undefined;
      else yaml.lines.push(text.slice(yaml.indent));
      return;
    }
    if (afterPoint !== undefined && text.trimEnd() === `${' '.repeat(afterPoint.indent + 2)}---`) {
      yaml = { indent: afterPoint.indent + 2, lines: afterPoint.failure ?? [] };
      afterPoint = undefined;
      return;
    }
    afterPoint = undefined;
    const subtest = SUBTEST.exec(text);
    if (subtest !== null) {
      const depth = (subtest[1] ?? '').length / 4;
      if (depth === 0) finishFile();
      // A plan the runner could not keep may jump a level; such a line is output of a test, not TAP.
      if (depth <= blocks.length - 1) blocks = [...blocks.slice(0, depth + 1), newBlock(subtest[2] ?? '')];
      return;
    }
    const match = POINT.exec(text);
    if (match === null) return;
    const indent = (match[1] ?? '').length;
    if (indent % 4 !== 0 || indent / 4 > blocks.length - 1) return;
    if (indent === 0) finishFile();
    afterPoint = { indent, failure: point(indent / 4, match[2] === 'ok', match[3] ?? '') };
  }

  return { line, end: finishFile };
}
