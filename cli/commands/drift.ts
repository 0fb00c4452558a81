import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../../events/errors.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { asRow, isRow, type Row, show } from '../fields.ts';

const WATCH_MS = 2_000;

const reconcilersOf = (answer: Row): readonly Row[] =>
  Array.isArray(answer['reconcilers']) ? answer['reconcilers'].filter(isRow) : [];

const differencesOf = (row: Row): readonly Row[] =>
  Array.isArray(row['differences']) ? row['differences'].filter(isRow) : [];

function describe(rows: readonly Row[], context: Context): string {
  const { style } = context.output;
  const lines: string[] = [];
  for (const row of rows) {
    const differences = differencesOf(row);
    const name = show(row, 'reconciler');
    if (differences.length === 0) {
      lines.push(`${name}: ${style.green('no difference')}`);
      continue;
    }
    lines.push(
      `${name}: ${style.red(`${differences.length} difference${differences.length === 1 ? '' : 's'}`)}`,
    );
    for (const one of differences)
      lines.push(
        `  ${show(one, 'item')}`,
        `    desired:  ${one['desired'] === null ? 'nothing' : show(one, 'desired')}`,
        `    observed: ${one['observed'] === null ? 'nothing' : show(one, 'observed')}`,
      );
  }
  return `${lines.length === 0 ? 'No reconciler reports.' : lines.join('\n')}\n`;
}

async function look(context: Context, client: Client): Promise<boolean> {
  const answer = asRow(await client.get('/v1/drift'), 'drift');
  const rows = reconcilersOf(answer);
  await context.output.either(answer, () => describe(rows, context));
  return rows.some((row) => differencesOf(row).length > 0);
}

export const drift: Run = async (context, input) => {
  const client = await context.client();
  let differs = await look(context, client);
  while (input.flag('watch')) {
    await sleep(WATCH_MS);
    if (context.output.format === 'table') context.terminal.data('\n');
    differs = await look(context, client);
  }
  return differs ? EXIT.different : EXIT.success;
};
