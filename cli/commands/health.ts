import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { asRow, isRow, show } from '../fields.ts';

export const health: Run = async (context, input) => {
  const client = await context.client();
  const ready = input.flag('readyz');
  const { status, body } = await client.call('GET', ready ? '/readyz' : '/livez', {
    open: true,
    accept: [503],
  });
  const answer = asRow(body, ready ? 'readyz' : 'livez');
  const healthy = status === 200;
  const checks = Array.isArray(answer['checks']) ? answer['checks'].filter(isRow) : [];
  const { style } = context.output;
  await context.output.either(answer, () => {
    const width = Math.max(0, ...checks.map((check) => show(check, 'name').length)) + 2;
    const lines = checks.map((check) => {
      const state = check['ok'] === true ? style.green('ok') : style.red('failed');
      const detail = show(check, 'detail') === '-' ? '' : ` (${show(check, 'detail')})`;
      return `  ${`${show(check, 'name')}:`.padEnd(width)}${state}${detail}\n`;
    });
    return `${client.endpoint().base}: ${show(answer, 'status')}\n${lines.join('')}`;
  });
  return healthy ? EXIT.success : EXIT.general;
};
