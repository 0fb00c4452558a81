/**
 * Variables in a compose file: `${NAME}`, `${NAME:-default}` for one that is not set or empty, and `$$` for a dollar sign.
 * They stand in values only and are put in after the YAML is parsed, so no value can change the shape of the file.
 */
export type Variables = Readonly<Record<string, string | undefined>>;

const REFERENCE = /\$\$|\$\{([^}]*)\}|\$\{/g;
const NAME = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/;

export type Interpolated = { readonly text: string } | { readonly fault: string };

/** The text with its variables replaced, or what is wrong with it. */
export function interpolate(text: string, variables: Variables): Interpolated {
  let fault: string | undefined;
  const replaced = text.replaceAll(REFERENCE, (whole: string, inner: string | undefined) => {
    if (whole === '$$') return '$';
    const [, name, otherwise] = (inner === undefined ? null : NAME.exec(inner)) ?? [];
    if (name === undefined) {
      fault ??= `'${whole}' is not a variable; write \${NAME} or \${NAME:-default}, or $$ for a dollar sign`;
      return '';
    }
    const value = Object.hasOwn(variables, name) ? variables[name] : undefined;
    if (otherwise !== undefined) return value === undefined || value === '' ? otherwise : value;
    if (value === undefined)
      fault ??= `the variable ${name} is not set; set it in the environment or in a file given by --env-file`;
    return value ?? '';
  });
  return fault === undefined ? { text: replaced } : { fault };
}

/** A value that stands for itself: read back it is the same text. */
export const literal = (text: string): string => text.replaceAll('$', '$$$$');

export type EnvFile =
  | { readonly variables: Readonly<Record<string, string>> }
  | { readonly line: number; readonly fault: string };

/**
 * `NAME=value` lines, as `docker compose` and systemd's EnvironmentFile take them: `#` comments, an optional `export `,
 * single quotes for text as it is, double quotes with \n, \t, \" and \\.
 */
export function parseEnvFile(text: string): EnvFile {
  const variables: [string, string][] = [];
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  for (const [at, raw] of lines.entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const match = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(line);
    if (match === null) return { line: at + 1, fault: 'is not NAME=value' };
    const value = readValue(match[2] ?? '');
    if (value === undefined) return { line: at + 1, fault: 'has a quote that is not closed' };
    variables.push([match[1] ?? '', value]);
  }
  return { variables: Object.fromEntries(variables) };
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '"': '"', '\\': '\\', $: '$' };

function readValue(text: string): string | undefined {
  const quote = text[0];
  if (quote === "'") return /^'([^']*)'\s*(?:#.*)?$/.exec(text)?.[1];
  if (quote === '"')
    return /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/
      .exec(text)?.[1]
      ?.replaceAll(/\\(.)/g, (whole, one: string) => ESCAPES[one] ?? whole);
  return text.replace(/\s+#.*$/, '');
}
