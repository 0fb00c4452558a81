import { type Logger, pino } from 'pino';
import { type Clock, systemClock } from '../events/clock.ts';
import type { Settings } from './settings.ts';

export interface LoggerOptions {
  readonly level: Settings['logLevel'];
  /** `logfmt` so that `journalctl -u arctic | grep 'reconciler=firewall'` finds what it should. */
  readonly format: Settings['logFormat'];
  /** Where lines go; systemd takes them from stderr. */
  readonly stream: { write(line: string): unknown };
}

/** Field names whose values never belong in a log, wherever they stand (two levels deep at most). */
const SECRET_FIELDS = [
  'client_secret',
  'secret',
  'secret_hash',
  'access_token',
  'token',
  'recovery_token',
  'private_key',
  'seed',
  'authorization',
  'cookie',
  'x-arctic-recovery',
];
/** Shapes of secrets inside texts: client secrets, JWTs, bearer and basic credentials. */
const SECRET_SHAPES =
  /\bsec_[A-Za-z0-9_-]{20,}|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|\b(?<=(?:Bearer|Basic) )[A-Za-z0-9+/=._~-]{8,}/g;
const REDACTED = '[redacted]';

/** Children take their level from their parent once, when they are made; these are told of a change. */
const families = new WeakMap<Logger, Set<WeakRef<Logger>>>();

/** Sets the level of a logger of `createLogger` and of all its children. */
export function setLogLevel(logger: Logger, level: LoggerOptions['level']): void {
  logger.level = level;
  const family = families.get(logger) ?? new Set();
  for (const reference of family) {
    const child = reference.deref();
    if (child === undefined) family.delete(reference);
    else child.level = level;
  }
}

/** The agent's logger. Secrets are taken out by field name and by shape, before a line leaves the process. */
export function createLogger(
  options: LoggerOptions,
  deps: { readonly clock: Pick<Clock, 'now'> } = { clock: systemClock },
): Logger {
  const { format, stream } = options;
  const write = (line: string) => {
    const clean = line.replace(SECRET_SHAPES, REDACTED);
    stream.write(format === 'json' ? clean : toLogfmt(clean));
  };
  const family = new Set<WeakRef<Logger>>();
  const logger: Logger = pino(
    {
      level: options.level,
      onChild: (child) => void family.add(new WeakRef(child)),
      base: null,
      messageKey: 'msg',
      errorKey: 'err',
      timestamp: () => `,"time":"${new Date(deps.clock.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: SECRET_FIELDS.flatMap((name) => {
          const quoted = /^[a-z_]+$/.test(name) ? name : undefined;
          return quoted === undefined ? [`["${name}"]`, `*["${name}"]`] : [quoted, `*.${quoted}`];
        }),
        censor: REDACTED,
      },
    },
    { write },
  );
  families.set(logger, family);
  return logger;
}

/** Raises or lowers the level for a while. */
export interface LogLevel {
  /** Until the time is over, or until it is set again. Gives when that is, milliseconds since the epoch. */
  setFor(level: LoggerOptions['level'], ms: number): number;
}

export function createLogLevel(
  logger: Logger,
  usual: LoggerOptions['level'],
  clock: Pick<Clock, 'now' | 'after'>,
): LogLevel {
  let cancel = () => {};
  return {
    setFor(level, ms) {
      cancel();
      setLogLevel(logger, level);
      logger.info({ log_level: level, seconds: ms / 1_000 }, 'log level set for a while');
      cancel = clock.after(ms, () => {
        setLogLevel(logger, usual);
        logger.info({ log_level: usual }, 'log level as before');
      });
      return clock.now() + ms;
    },
  };
}

/** Fields that lead a line, in this order; the rest follow as they were given. */
const LEADING = ['time', 'level', 'reconciler', 'msg'];

/** One pino line (JSON) as one logfmt line. Nested fields are flattened with dots, lists joined with commas. */
export function toLogfmt(line: string): string {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch {
    return `level=error msg=${quote(line.trimEnd())}\n`;
  }
  const pairs = new Map(flatten('', record));
  const leading = LEADING.filter((key) => pairs.has(key));
  const keys = [...leading, ...[...pairs.keys()].filter((key) => !LEADING.includes(key))];
  return `${keys.map((key) => `${key}=${quote(pairs.get(key) ?? '')}`).join(' ')}\n`;
}

function* flatten(prefix: string, value: unknown): Generator<[string, string]> {
  if (value === null || typeof value !== 'object') {
    yield [prefix, value === null ? 'null' : String(value)];
  } else if (Array.isArray(value)) {
    yield [
      prefix,
      value.map((one) => (typeof one === 'object' ? JSON.stringify(one) : String(one))).join(','),
    ];
  } else {
    for (const [key, inner] of Object.entries(value)) {
      const name = key.replaceAll(/[\s="\p{Cc}]/gu, '_');
      yield* flatten(prefix === '' ? name : `${prefix}.${name}`, inner);
    }
  }
}

/** Bare where that is unambiguous; otherwise quoted with JSON's escapes, so that a line stays a line. */
function quote(text: string): string {
  if (text !== '' && !/[\s="\\\p{Cc}\p{Zl}\p{Zp}]/u.test(text)) return text;
  return JSON.stringify(text).replaceAll(
    /[\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
