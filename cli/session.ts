import { readFileSync } from 'node:fs';
import type { Clock } from '../events/clock.ts';
import { EXIT } from '../events/errors.ts';
import { cachePath, openCache } from './cache.ts';
import type { Authority, Client } from './client.ts';
import type { Config } from './config.ts';
import { configPath, exposure, readConfig, updateConfig } from './config-file.ts';
import type { Context } from './context.ts';
import { parseTimeout } from './duration.ts';
import { Failure, systemReason, usageFailure } from './failure.ts';
import type { Input } from './input.ts';
import { rememberNames } from './known-names.ts';
import { createOutput, type Format } from './output.ts';
import { createStyle } from './style.ts';
import { chooseTarget, normaliseUrl } from './target.ts';
import { printable, type Terminal } from './terminal.ts';

type Environment = Readonly<Record<string, string | undefined>>;

interface Surroundings {
  readonly env: Environment;
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly version: string;
  /** The command works without the configuration. */
  readonly standalone: boolean;
  readonly completionScript: Context['completionScript'];
  readonly manPage: Context['manPage'];
}

const DEFAULT_TIMEOUT_MS = 30_000;

/** A secret given in a file: its text without the line end. */
function readSecretFile(path: string, warn: (text: string) => void): string {
  try {
    const text = readFileSync(path, 'utf8').trim();
    const exposed = exposure(path);
    if (exposed !== undefined) warn(`Warning: ${exposed}`);
    if (text === '') throw usageFailure(`--recovery-token-file: ${path} is empty.`);
    return text;
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw usageFailure(`--recovery-token-file: cannot read ${path}: ${systemReason(error)}.`);
  }
}

/** A header value may hold no line end or other control character, whatever was pasted. */
function headerSafe(text: string, name: string): string {
  if (printable(text) !== text || /[\s]/.test(text)) throw usageFailure(`${name} must be one word.`);
  return text;
}

function readAuthority(input: Input, env: Environment, warn: (text: string) => void): Authority {
  const recoveryFile = input.text('recovery-token-file');
  const recovery =
    input.text('recovery-token') ??
    (recoveryFile === undefined ? undefined : readSecretFile(recoveryFile, warn));
  if (recovery !== undefined) return { kind: 'recovery', token: headerSafe(recovery, 'the recovery token') };
  const given = input.text('token');
  if (given !== undefined) return { kind: 'token', token: headerSafe(given, '--token') };
  const recoveryEnv = env['ARCTIC_RECOVERY_TOKEN'];
  if (recoveryEnv) return { kind: 'recovery', token: headerSafe(recoveryEnv, 'ARCTIC_RECOVERY_TOKEN') };
  const token = env['ARCTIC_TOKEN'];
  if (token) return { kind: 'token', token: headerSafe(token, 'ARCTIC_TOKEN') };
  return { kind: 'cluster' };
}

/** Turns the global flags and the environment into a context. Flags win over variables, variables over the file. */
export async function createContext(input: Input, around: Surroundings): Promise<Context> {
  const { env, terminal, clock, version } = around;
  const path = configPath(env, input.text('config'));
  const warn = (text: string) => terminal.note(text);
  let loaded: Config | undefined;
  const config = async () => {
    loaded ??= await readConfig(path, warn);
    return loaded;
  };

  const format =
    chosenFormat(input) ?? (around.standalone ? undefined : (await config()).preferences.output_format);
  const colours =
    terminal.stdoutIsTerminal &&
    !env['NO_COLOR'] &&
    env['TERM'] !== 'dumb' &&
    input.toggle('color') !== false;

  const givenUrl = input.text('url') ?? (env['ARCTIC_URL'] || undefined);
  const urlName = input.text('url') === undefined ? 'ARCTIC_URL' : '--url';
  const url = givenUrl === undefined ? undefined : normaliseUrl(givenUrl, urlName);
  const timeoutFlag = input.text('timeout');
  const timeoutMs = timeoutFlag === undefined ? undefined : parseTimeout(timeoutFlag, '--timeout');
  const clients: Client[] = [];

  const connect = async (
    to: string | undefined,
    forwardTo: string | undefined,
    using?: Config,
  ): Promise<Client> => {
    const [{ createClient }, { createExchange }] = await Promise.all([
      import('./client.ts'),
      import('./exchange.ts'),
    ]);
    const current = using ?? (await config());
    const preferred = current.preferences.timeout;
    const exchange = createExchange(
      {
        timeoutMs:
          timeoutMs ??
          (preferred === undefined ? DEFAULT_TIMEOUT_MS : parseTimeout(preferred, 'preferences.timeout')),
        debug: input.flag('debug'),
        trace: input.flag('trace'),
      },
      { terminal, clock },
    );
    const cache = openCache(cachePath(path));
    const target = chooseTarget(current, to, (id) => cache.goodEndpoint(id, clock.now()));
    const authority = readAuthority(input, env, warn);
    const client = createClient(
      { target, config: current, authority, forwardTo, version },
      { exchange, cache, clock, terminal },
    );
    clients.push(client);
    return client;
  };

  let shared: Promise<Client> | undefined;
  const connectShared = async (): Promise<Client> => {
    const peer = input.text('peer');
    if (peer === undefined) return connect(url, undefined);
    const { resolvePeer } = await import('./resolve.ts');
    const id = await resolvePeer(peer, await config(), () => connect(url, undefined));
    return connect(url, headerSafe(id, '--peer'));
  };

  return {
    terminal,
    output: createOutput(terminal, format ?? 'table', createStyle(colours)),
    clock,
    env,
    version,
    completionScript: around.completionScript,
    manPage: around.manPage,
    configPath: path,
    config,
    async changeConfig(change) {
      loaded = await updateConfig(path, change);
      rememberNames(
        path,
        'cluster',
        Object.values(loaded.clusters).map((cluster) => cluster.name),
      );
      return loaded;
    },
    client() {
      shared ??= connectShared();
      return shared;
    },
    clientFor: (to, using) => connect(to, undefined, using),
    url,
    async confirm(question) {
      if (input.flag('yes')) return;
      if (!terminal.canAsk)
        throw usageFailure(`${question} Without a terminal to ask on, say --yes to go on.`);
      const answer = await terminal.ask(`${question} [y/N] `);
      if (!/^y(es)?$/i.test(answer?.trim() ?? ''))
        throw new Failure(EXIT.general, 'cancelled; nothing was changed.');
    },
    async close() {
      await Promise.all(clients.map((client) => client.close()));
    },
  };
}

/** @throws Failure (usage) when `--json` and `--output` contradict each other. */
function chosenFormat(input: Input): Format | undefined {
  const chosen = input.text('output');
  if (chosen !== undefined && chosen !== 'json' && input.flag('json'))
    throw usageFailure(`--json and --output ${chosen} contradict each other.`);
  if (input.flag('json')) return 'json';
  return chosen === 'json' || chosen === 'yaml' || chosen === 'table' ? chosen : undefined;
}
