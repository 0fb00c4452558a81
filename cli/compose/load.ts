import { readFileSync, statSync } from 'node:fs';
import { EXIT } from '../../events/errors.ts';
import type { Context } from '../context.ts';
import { configurationFailure, Failure, systemReason, usageFailure } from '../failure.ts';
import type { Input } from '../input.ts';
import { createSource, type Diagnostic, type Fault, locate, renderFault, type Source } from './diagnostic.ts';
import { MOST_BYTES, parseFile } from './document.ts';
import { parseEnvFile, type Variables } from './interpolation.ts';
import { checkRules } from './rules.ts';
import type { ClusterSpec } from './spec.ts';

export const DEFAULT_FILE = 'cluster.yaml';

/** Faults shown to a person at once; with --json they are all there. */
const MOST_SHOWN = 20;

/** A compose file with faults; the message shows each with its line and a caret. */
export class InvalidFile extends Failure {
  readonly diagnostics: readonly Diagnostic[];

  constructor(source: Source, faults: readonly Fault[]) {
    // One slip can make the parser say the same of one place many times.
    const told = new Map(faults.map((fault) => [JSON.stringify(locate(source, fault)), fault]));
    const shown = [...told.values()].slice(0, MOST_SHOWN).map((fault) => renderFault(source, fault));
    const more = told.size - shown.length;
    super(EXIT.configuration, [...shown, ...(more > 0 ? [`... and ${more} more faults.`] : [])].join('\n'));
    this.name = 'InvalidFile';
    this.diagnostics = [...told.values()].map((fault) => locate(source, fault));
  }
}

/** The file a command is about: its argument, or --file, or cluster.yaml here. @throws Failure (usage) */
export function fileArgument(input: Input): string {
  const word = input.optionalArg(0);
  const flag = input.text('file');
  if (word !== undefined && flag !== undefined && word !== flag)
    throw usageFailure(`two files are given, '${word}' and '${flag}'; give one.`);
  return word ?? flag ?? DEFAULT_FILE;
}

/** The text of a file, or of stdin for `-`. @throws Failure (configuration) naming the file */
export async function readText(context: Context, path: string): Promise<string> {
  if (path === '-') return context.terminal.readAll();
  let bytes: Buffer;
  try {
    if (statSync(path).size > MOST_BYTES)
      throw configurationFailure(`${path} is larger than ${MOST_BYTES / 1_048_576} MiB.`);
    bytes = readFileSync(path);
  } catch (error) {
    if (error instanceof Failure) throw error;
    const hint = path === DEFAULT_FILE ? " 'arctic compose init' writes one to start from." : '';
    throw configurationFailure(`cannot read ${path}: ${systemReason(error)}.${hint}`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw configurationFailure(`${path} is not text in UTF-8.`);
  }
}

/** Variables for `${NAME}`: those of --env-file, and over them the environment. @throws Failure (configuration) */
export function readVariables(context: Context, input: Input): Variables {
  const path = input.text('env-file');
  if (path === undefined) return context.env;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw configurationFailure(`cannot read the variables in ${path}: ${systemReason(error)}.`);
  }
  const parsed = parseEnvFile(text);
  if ('fault' in parsed) throw configurationFailure(`${path}:${parsed.line}: this line ${parsed.fault}.`);
  return { ...parsed.variables, ...context.env };
}

/** Reads a compose file's text. Pure. @throws InvalidFile */
export function readSpec(path: string, text: string, variables: Variables): ClusterSpec {
  const source = createSource(path === '-' ? '(stdin)' : path, text);
  const parsed = parseFile(source, variables);
  if ('faults' in parsed) throw new InvalidFile(source, parsed.faults);
  const checked = checkRules(parsed.file);
  if ('faults' in checked) throw new InvalidFile(source, checked.faults);
  return checked.spec;
}

/** The file of a command, read and checked. */
export async function loadSpec(
  context: Context,
  input: Input,
): Promise<{ readonly path: string; readonly spec: ClusterSpec }> {
  const path = fileArgument(input);
  const variables = readVariables(context, input);
  return { path, spec: readSpec(path, await readText(context, path), variables) };
}
