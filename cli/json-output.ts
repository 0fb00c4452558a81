import type { TSchema } from 'typebox';

/**
 * What a command prints with `--json`, declared beside its flags. `api` names a schema of the HTTP API (src/api/schemas.ts)
 * for what is handed on as the agent gave it; the rest describes itself. ops/schema/cli.schema.json is made of these, and a
 * test holds every command of the real program to it.
 */
export type JsonOutput =
  | {
      readonly api: string;
      /** An array of it. */
      readonly list?: true;
      /** Fields the command keeps back, or may. */
      readonly without?: readonly string[];
      /** Fields the command adds to every row of the array of that name. */
      readonly adds?: { readonly to: string; readonly fields: () => Promise<TSchema> };
    }
  | { readonly schema: () => Promise<TSchema>; readonly list?: true }
  /** Which one depends on the flags. */
  | { readonly anyOf: readonly JsonOutput[] }
  /** One value a line (JSON Lines), for as long as the command runs. */
  | { readonly lines: JsonOutput }
  /** No JSON, and what it prints instead. */
  | { readonly none: string };
