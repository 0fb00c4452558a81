/** `config` is replicated to every peer; `local` stays on its host. Each is a gapless hash chain per origin. */
export type Stream = 'config' | 'local';
