import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { PeerId } from '../../events/brand.ts';
import { PeerIdField } from '../../events/catalogue/fields.ts';
import { writePrivateFile } from '../identity/private-file.ts';
import type { HistoryMark, Mark, Report } from './machine/core.ts';

/**
 * How far this host has signed, in a small file beside the database (`$DATA_DIR/history.mark`), so that a database restored from
 * a copy is recognised: the copy counts less. The first line is the number, rewritten in place with every change; the second
 * names the members to ask. It is not synced with each change: what a power failure takes from it only makes it count less,
 * and the database, which is synced, is then ahead of it. A restore of the whole directory takes it along and is not noticed.
 */
const HEADER = 'arctic-history-v1';
const DIGITS = 16;

const Rest = Compile(
  Type.Object({
    peer_id: PeerIdField,
    peers: Type.Array(Type.Object({ id: PeerIdField, address: Type.String({ maxLength: 300 }) })),
  }),
);

const firstLine = (seq: number): string => `${HEADER} ${String(seq).padStart(DIGITS, '0')}\n`;

function parse(text: string, peerId: PeerId): Mark | undefined {
  const [first = '', second = ''] = text.split('\n');
  const seq = first.startsWith(`${HEADER} `) ? Number(first.slice(HEADER.length + 1)) : Number.NaN;
  if (!Number.isSafeInteger(seq)) return undefined;
  let rest: unknown;
  try {
    rest = JSON.parse(second);
  } catch {
    return undefined;
  }
  // Of an identity this host had before: it says nothing about this one.
  if (!Rest.Check(rest) || rest.peer_id !== peerId) return undefined;
  return { seq, peers: rest.peers.map(({ id, address }) => ({ id: id as PeerId, address })) };
}

/** The mark of `peerId` in a file. A file that cannot be read counts as none; one that cannot be written is reported once. */
export function createHistoryMark(
  path: string,
  deps: { readonly peerId: PeerId; readonly report: Report },
): HistoryMark {
  const { peerId, report } = deps;
  let written: Mark['peers'] | undefined;
  let failed = false;

  const put = ({ seq, peers }: Mark): void => {
    if (written === peers) {
      const file = openSync(path, 'r+');
      try {
        writeSync(file, firstLine(seq), 0);
      } finally {
        closeSync(file);
      }
      return;
    }
    writePrivateFile(path, `${firstLine(seq)}${JSON.stringify({ peer_id: peerId, peers })}\n`, {
      replace: true,
    });
    written = peers;
  };

  return {
    read() {
      try {
        return parse(readFileSync(path, 'utf8'), peerId);
      } catch {
        return undefined;
      }
    },
    write(mark) {
      try {
        put(mark);
        failed = false;
      } catch (error) {
        if (failed) return;
        failed = true;
        written = undefined;
        report(
          'warn',
          "the mark of this host's history cannot be written; a restored database would not be noticed",
          {
            path,
            reason: error instanceof Error ? error.message : String(error),
          },
        );
      }
    },
  };
}
