/** Reading test sockets to their end. Not `for await`: it destroys the socket, and the other direction with it. */
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { getSystemErrorName } from 'node:util';
import { createTransparentSockets } from '../../../../src/engines/tproxy/transparent-sockets.ts';
import { loadAddon } from '../../../../src/native/addon.ts';

const probe = createTransparentSockets(loadAddon(), { ownMark: 0 });

/** Closes with RST, also after FIN. */
export const resetSocket = (socket: Socket): void => probe.reset(socket);

/** Hands on what comes until FIN; rejects on a reset. */
export function consume(socket: Socket, take: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.on('data', take);
    socket.resume();
    socket.on('error', reject);
    socket.on('end', () => {
      const errno = probe.pendingError(socket);
      if (errno === 0) resolve();
      else reject(new Error(getSystemErrorName(-errno)));
    });
  });
}

/** Everything until FIN; rejects on a reset. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await consume(socket, (chunk) => chunks.push(chunk));
  return Buffer.concat(chunks);
}

/** SHA-256 of everything until FIN. */
export async function digest(socket: Socket): Promise<string> {
  const hash = createHash('sha256');
  await consume(socket, (chunk) => hash.update(chunk));
  return hash.digest('hex');
}

/** The errno name the socket fails with, or `end`; an end that hides a reset counts as one. */
export async function failure(socket: Socket): Promise<string> {
  try {
    await consume(socket, () => undefined);
    return 'end';
  } catch (error) {
    if (error instanceof Error && 'code' in error) return String(error.code);
    return error instanceof Error ? error.message : String(error);
  }
}

export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    if (await holds()) return;
    await sleep(20);
  }
  throw new Error(`never: ${what}`);
}
