import { existsSync, linkSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { EXIT } from '../../events/errors.ts';
import type { Run } from '../command.ts';
import { createSource } from '../compose/diagnostic.ts';
import { parseFile } from '../compose/document.ts';
import { fileData, formatText, renderFile, specOf } from '../compose/export.ts';
import { fileArgument, InvalidFile, loadSpec, readText } from '../compose/load.ts';
import { planData, renderPlan } from '../compose/plan-text.ts';
import { prepare } from '../compose/prepare.ts';
import { readCluster } from '../compose/run.ts';
import type { ClusterSpec } from '../compose/spec.ts';
import { template } from '../compose/template.ts';
import { showWarnings } from '../compose/warnings.ts';
import { configurationFailure, Failure, systemReason, usageFailure } from '../failure.ts';

export { apply } from '../compose/apply.ts';
export { rollback } from '../compose/rollback.ts';

/** The JSON Schema beside the program, for editors; undefined in an installation without it. */
function schemaPath(): string | undefined {
  const places = ['../../ops/schema/cluster.schema.json', '../../../ops/schema/cluster.schema.json'];
  return places
    .map((place) => fileURLToPath(new URL(place, import.meta.url)))
    .find((path) => existsSync(path));
}

/**
 * Writes a file that is whole or not there: a full disk neither leaves half of it nor takes what was there.
 * @throws Failure (configuration) naming the file
 */
function write(path: string, text: string, how: { readonly replace: boolean }): void {
  const part = `${path}.part-${process.pid}`;
  try {
    if (!how.replace && existsSync(path))
      throw configurationFailure(`cannot write ${path}: it exists already, and is left as it is.`);
    const mode = existsSync(path) ? statSync(path).mode & 0o777 : 0o666;
    writeFileSync(part, text, { flag: 'wx', mode });
    if (how.replace) renameSync(part, realPath(path));
    else linkSync(part, path);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw configurationFailure(`cannot write ${path}: ${systemReason(error)}.`);
  } finally {
    rmSync(part, { force: true });
  }
}

/** Where a symbolic link leads, so that the file changes and not the link. */
const realPath = (path: string): string => (existsSync(path) ? realpathSync(path) : path);

export const init: Run = async (context, input) => {
  const path = fileArgument(input);
  if (path === '-') throw usageFailure("'compose init' writes a file; name one.");
  write(path, template(schemaPath()), { replace: false });
  await context.output.either(
    { file: path },
    () =>
      `${path} written. Change it to your peers, then run: arctic compose apply${path === 'cluster.yaml' ? '' : ` ${path}`}\n`,
  );
  return EXIT.success;
};

export const exportCluster: Run = async (context, input) => {
  const client = await context.client();
  const { spec, left } = specOf(await readCluster(client));
  for (const reason of left) context.terminal.note(`Warning: ${reason}.`);
  const text = () =>
    renderFile(
      spec,
      left.map((reason) => `${reason}.`),
    );
  const path = input.text('file');
  if (path === undefined) {
    await context.output.either(fileData(spec), text);
    return EXIT.success;
  }
  if (existsSync(path)) await context.confirm(`Replace ${path}?`);
  write(path, text(), { replace: true });
  context.terminal.note(`${path} written: ${countText(spec)}.`);
  return EXIT.success;
};

export const fmt: Run = async (context, input) => {
  const path = fileArgument(input);
  const text = await readText(context, path);
  const formatted = formatText(text);
  if (formatted === undefined) {
    const source = createSource(path === '-' ? '(stdin)' : path, text);
    const parsed = parseFile(source, {});
    if ('faults' in parsed) throw new InvalidFile(source, parsed.faults);
    throw new Failure(EXIT.general, `${path} cannot be laid out anew without changing what it says.`);
  }
  const changed = formatted !== text;
  if (input.flag('check')) {
    await context.output.either({ file: path, formatted: !changed }, () =>
      changed ? `${path} is not in the common layout.\n` : '',
    );
    return changed ? EXIT.different : EXIT.success;
  }
  if (path === '-') {
    context.terminal.data(formatted);
    return EXIT.success;
  }
  if (changed) write(path, formatted, { replace: true });
  await context.output.either({ file: path, changed }, () => (changed ? `${path}\n` : ''));
  return EXIT.success;
};

const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

const countText = (spec: ClusterSpec): string => {
  const routes = spec.services.reduce((sum, service) => sum + service.routes.length, 0);
  return [
    plural(spec.peers.length, 'peer'),
    plural(spec.services.length, 'service'),
    plural(routes, 'route'),
  ].join(', ');
};

export const validate: Run = async (context, input) => {
  const path = fileArgument(input);
  try {
    const { spec } = await loadSpec(context, input);
    const routes = spec.services.reduce((sum, service) => sum + service.routes.length, 0);
    const answer = {
      file: path,
      valid: true,
      errors: [],
      peers: spec.peers.length,
      services: spec.services.length,
      routes,
    };
    await context.output.either(answer, () => `${path} is valid: ${countText(spec)}.\n`);
    return EXIT.success;
  } catch (error) {
    if (!(error instanceof InvalidFile) || context.output.format === 'table') throw error;
    await context.output.either({ file: path, valid: false, errors: error.diagnostics }, () => '');
    return error.exit;
  }
};

export const diff: Run = async (context, input) => {
  const prepared = await prepare(context, input);
  try {
    const { plan, path } = prepared;
    await context.output.either(planData(plan), () =>
      plan.changes.length === 0
        ? `No difference: the cluster is as ${path} says.\n`
        : renderPlan(plan, context.output.style),
    );
    showWarnings(context, input, plan.warnings);
    return plan.changes.length === 0 ? EXIT.success : EXIT.different;
  } finally {
    await prepared.close();
  }
};
