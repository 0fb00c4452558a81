import { EXIT } from '../../events/errors.ts';
import type { ProjectionName } from '../../projections/projection-names.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { actorText } from '../event-line.ts';
import { usageFailure } from '../failure.ts';
import { asRow, isRow, type Row, show, showTime } from '../fields.ts';
import type { Input } from '../input.ts';
import { foldMoment, readMoment } from '../moment.ts';
import type { Style } from '../style.ts';

interface Question {
  /** As the API takes it. */
  readonly until: string | undefined;
  readonly diffWith: string | undefined;
  readonly projection: ProjectionName | undefined;
}

/** Where the answers come from: a running agent, or a database file. Both answer alike. */
interface Source {
  state(question: Question): Promise<Row>;
  compare(question: Question): Promise<Row>;
  verify(): Promise<Row>;
  close(): void;
}

async function agentSource(context: Context): Promise<Source> {
  const client = await context.client();
  return {
    state: async ({ until, projection }) =>
      asRow(await client.get('/v1/replay', { query: { until, projection } }), 'replay'),
    compare: async ({ until, projection, diffWith }) =>
      asRow(await client.get('/v1/replay', { query: { until, projection, diff_with: diffWith } }), 'replay'),
    verify: async () => asRow(await client.get('/v1/replay/verify'), 'replay --verify'),
    close: () => {},
  };
}

async function fileSource(path: string): Promise<Source> {
  const [{ openLogReader }, { replay: fold }, { compareMoments }, { verifyFolds }] = await Promise.all([
    import('../../events/log.ts'),
    import('../../projections/replay.ts'),
    import('../../projections/difference.ts'),
    import('../../projections/verify-log.ts'),
  ]);
  const log = openLogReader({ path });
  const at = (moment: string | undefined) => (moment === undefined ? undefined : foldMoment(moment));
  return {
    state: async ({ until, projection }) => ({ ...(await fold(log, log.origin, at(until), projection)) }),
    compare: async ({ until, diffWith, projection }) => ({
      ...(await compareMoments(log, log.origin, { from: at(diffWith), to: at(until), projection })),
    }),
    verify: async () => ({ ...(await verifyFolds(log)) }),
    close: () => log.close(),
  };
}

function readQuestion(input: Input): Question {
  const moment = (flag: string): string | undefined => {
    const given = input.text(flag);
    return given === undefined ? undefined : readMoment(given, flag);
  };
  return {
    until: moment('until'),
    diffWith: moment('diff-with'),
    projection: input.text('projection') as ProjectionName | undefined,
  };
}

export const replay: Run = async (context, input) => {
  const question = readQuestion(input);
  const verify = input.flag('verify');
  const rebuild = input.flag('rebuild');
  const path = input.text('db');
  const asked = question.until ?? question.diffWith ?? question.projection;
  if ((verify || rebuild) && asked !== undefined)
    throw usageFailure(
      `--${verify ? 'verify' : 'rebuild'} is about the whole log: leave out --until, --projection and --diff-with.`,
    );
  if (verify && rebuild) throw usageFailure('--rebuild verifies too; leave out --verify.');
  if (rebuild && path !== undefined)
    throw usageFailure('--rebuild is for a running agent; a file has no live state. Use --verify.');
  if (rebuild) {
    const client = await context.client();
    const result = asRow(await client.post('/v1/replay/rebuild', { body: {} }), 'replay --rebuild');
    await context.output.either(result, () => verified(result, 'rebuilt', context.output.style));
    return EXIT.success;
  }
  const source = path === undefined ? await agentSource(context) : await fileSource(path);
  try {
    if (verify) {
      const result = await source.verify();
      await context.output.either(result, () => verified(result, 'verified', context.output.style));
      return result['matches'] === true ? EXIT.success : EXIT.different;
    }
    if (question.diffWith !== undefined) {
      const result = await source.compare(question);
      notePastEnd(context, question.diffWith, result['from']);
      notePastEnd(context, question.until, result['to']);
      await context.output.either(result, () => differences(result, context.output.style));
      return EXIT.success;
    }
    const state = await source.state(question);
    notePastEnd(context, question.until, state);
    // A state is a tree; YAML is the readable form of one.
    const { stringify } = await import('../yaml-writer.ts');
    const last = state['last_change'];
    const shown = { ...state, last_change: isRow(last) ? markText(last) : null };
    await context.output.either(state, () => stringify(shown, { lineWidth: 0 }));
    return EXIT.success;
  } finally {
    source.close();
  }
};

/** A position that is not there yet is answered with the head; who asked for it is told. */
function notePastEnd(context: Context, asked: string | undefined, reached: unknown): void {
  if (asked === undefined || !/^\d+$/.test(asked) || !isRow(reached)) return;
  if (Number(asked) > Number(reached['position']))
    context.terminal.note(
      `Note: the log ends at position ${show(reached, 'position')}; there is no ${asked} yet.`,
    );
}

function verified(result: Row, what: string, style: Style): string {
  const head = `${show(result, 'events')} events up to position ${show(result, 'position')} folded from the first.\n`;
  const digest = show(result, 'replayed_digest');
  const problems = Array.isArray(result['problems'])
    ? result['problems'].map((one) => `${String(one)}\n`)
    : [];
  if (result['snapshot_position'] === null)
    return `${head}${problems.join('')}No snapshot to compare with. Digest ${digest}\n`;
  if (result['matches'] === true) return `${head}${style.green(`${what}: the digests match`)}, ${digest}\n`;
  const live = show(result, 'live_digest');
  return (
    `${head}${problems.join('')}${style.red(`the digests differ in: ${show(result, 'differing')}`)}\n` +
    `  live:     ${live}\n  replayed: ${digest}\n` +
    (what === 'rebuilt'
      ? 'The replayed state is in force now.\n'
      : "'arctic replay --rebuild' puts it right.\n")
  );
}

const rowsOf = (value: unknown): readonly Row[] => (Array.isArray(value) ? value.filter(isRow) : []);

/** `position 12, 2026-03-01 12:00:00, client cli_... from 10.0.0.9 (route.added evt_...)`. */
function markText(mark: unknown): string {
  if (!isRow(mark)) return 'no event between the two moments';
  const time = show(mark, 'time').slice(0, 19).replace('T', ' ');
  return `position ${show(mark, 'position')}, ${time}, ${actorText(mark['actor'])} (${show(mark, 'type')} ${show(mark, 'id')})`;
}

const valueText = (value: unknown): string =>
  value === null || value === undefined
    ? 'nothing'
    : typeof value === 'string'
      ? value
      : JSON.stringify(value);

const rowText = (row: unknown): string =>
  isRow(row)
    ? Object.entries(row)
        .filter(([, value]) => value !== null)
        .map(([key, value]) => `${key}=${valueText(value)}`)
        .join(' ')
    : '';

/** `position 12 (last change: position 5, 2026-03-01 12:00:00)`. */
function momentText(moment: unknown): string {
  if (!isRow(moment)) return '-';
  const last = moment['last_change'];
  const change = isRow(last)
    ? `last change: position ${show(last, 'position')}, ${showTime(last, 'time')}`
    : 'before the first change';
  return `position ${show(moment, 'position')} (${change})`;
}

function differences(result: Row, style: Style): string {
  const changes = rowsOf(result['changes']);
  const head = style.dim(`from ${momentText(result['from'])}\nto   ${momentText(result['to'])}`);
  if (changes.length === 0) return `${head}\nNo difference.\n`;
  const lines = [head];
  let section = '';
  for (const change of changes) {
    const projection = show(change, 'projection');
    if (projection !== section) lines.push('', style.bold(`${projection}:`));
    section = projection;
    const name = `${show(change, 'label')} (${show(change, 'item')})`;
    const by = style.dim(`      by ${markText(change['event'])}`);
    if (change['kind'] === 'added')
      lines.push(style.green(`  + ${name}`), `      ${rowText(change['after'])}`, by);
    else if (change['kind'] === 'removed')
      lines.push(style.red(`  - ${name}`), `      ${rowText(change['before'])}`, by);
    else {
      lines.push(style.yellow(`  ~ ${name}`));
      for (const field of rowsOf(change['fields']))
        lines.push(
          `      ${show(field, 'field')}: ${valueText(field['before'])} -> ${valueText(field['after'])}`,
          style.dim(`        by ${markText(field['event'])}`),
        );
    }
  }
  const count = (kind: string): number => changes.filter((change) => change['kind'] === kind).length;
  lines.push('', `${count('added')} added, ${count('changed')} changed, ${count('removed')} removed`);
  return `${lines.join('\n')}\n`;
}
