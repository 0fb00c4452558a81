/** What a figure was measured on; absolute values mean nothing without it. */
import { cpus, release, totalmem } from 'node:os';

export function describeMachine(): string {
  const [first] = cpus();
  return [
    `machine: ${cpus().length} x ${first?.model.trim() ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Linux ${release()}, Node ${process.versions.node} (OpenSSL ${process.versions.openssl})`,
  ].join('\n');
}
