import type { KeyObject } from 'node:crypto';
import type { PeerId } from './brand.ts';
import {
  type Checkpoint,
  formatCheckpoint,
  logName,
  parseCheckpoint,
  witnessName,
  witnessOf,
} from './checkpoint.ts';
import type { Clock } from './clock.ts';
import { publicKeyObject, type Signer } from './ed25519.ts';
import type { CheckpointLog, StoredCheckpoint } from './log-contract.ts';
import { decodeFrontier, EMPTY_FRONTIER, encodeFrontier, extend, type Frontier, rootOf } from './merkle.ts';
import {
  cosign,
  formatNote,
  type NoteSignature,
  parseNote,
  type SignedNote,
  signNote,
  verifyAuthor,
  verifyCosignature,
} from './signed-note.ts';

export interface WitnessDeps {
  readonly log: CheckpointLog;
  readonly signer: Signer;
  readonly clock: Pick<Clock, 'now'>;
  /** Events hashed in one call; default 4,000, some 10 ms. */
  readonly atOnce?: number;
}

/** What this host says of another's checkpoint. */
export type Judgement =
  /** It agrees with the events held here; `note` is the checkpoint with this host's cosignature. */
  | { readonly kind: 'cosigned'; readonly note: string }
  /** The events it covers have not all arrived, or not all been hashed: ask again later. */
  | { readonly kind: 'waiting'; readonly have: number }
  /** No checkpoint, or not signed by that origin. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** Signed by the origin, and not the tree of the events it signed before: it has changed its past. */
  | {
      readonly kind: 'inconsistent';
      readonly size: number;
      /** Roots, base64. */
      readonly held: string;
      readonly offered: string;
      /** The evidence. */
      readonly note: string;
    };

/** Makes the checkpoints of this host's `config` events and witnesses those of its peers. */
export interface Witness {
  /**
   * Hashes some of what the next checkpoint covers; false while more is left than one call may take. Then `checkpoint` is best
   * called another time.
   */
  advance(): boolean;
  /** Signs a checkpoint when there are events since the last one. Its note, or that of the last; undefined for an empty log. */
  checkpoint(): string | undefined;
  /** Size and note of the newest own checkpoint. */
  newest(): { readonly size: number; readonly note: string } | undefined;
  judge(origin: PeerId, publicKey: Uint8Array, note: string): Judgement;
  /**
   * Takes a witness's cosignature of an own checkpoint out of the note it sent back. False when there is none that verifies
   * under that witness's key.
   */
  collect(witness: PeerId, publicKey: Uint8Array, note: string): boolean;
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

const keyOf = (raw: Uint8Array): { readonly raw: Uint8Array; readonly object: KeyObject } | undefined => {
  try {
    return { raw, object: publicKeyObject(raw) };
  } catch {
    return undefined;
  }
};

/**
 * The tree a checkpoint was signed over, as it is stored beside it; undefined when what is stored is another. To go on from that
 * would be to sign a past that never was, or to accuse an innocent peer of one.
 */
function treeBeside(
  { size, frontier }: Pick<StoredCheckpoint, 'size' | 'frontier'>,
  { root }: Checkpoint,
): Frontier | undefined {
  const tree = decodeFrontier(frontier);
  return tree?.size === size && Buffer.compare(rootOf(tree), root) === 0 ? tree : undefined;
}

/** The largest stored tree of an origin up to a size. */
function storedTree(log: CheckpointLog, origin: PeerId, size: number): Frontier {
  const stored = log.checkpoints.latest(origin, size);
  const checkpoint = stored && checkpointIn(stored.note);
  return (checkpoint && treeBeside(stored, checkpoint)) ?? EMPTY_FRONTIER;
}

function checkpointIn(text: string): Checkpoint | undefined {
  const note = parseNote(text);
  return note && parseCheckpoint(note.text);
}

/** The tree of an origin at a size, continued from the largest stored one below it. */
export function treeAt(log: CheckpointLog, origin: PeerId, size: number): Frontier {
  const start = storedTree(log, origin, size);
  return extend(start, log.checkpoints.hashes(origin, start.size, size));
}

export function createWitness(deps: WitnessDeps): Witness {
  const { log, signer, clock, atOnce = 4_000 } = deps;
  const { origin } = log;
  const ownKey = keyOf(signer.publicKey);

  const held = (of: PeerId): number => log.versionVector()[of] ?? 0;

  /** Of each origin the largest tree made here. */
  const trees = new Map<PeerId, Frontier>();

  /** The tree at a size, or on the way there: at most `most` events further than what is known. */
  const grow = (of: PeerId, size: number, most: number): Frontier => {
    const stored = storedTree(log, of, size);
    const known = trees.get(of) ?? EMPTY_FRONTIER;
    const start = known.size > stored.size && known.size <= size ? known : stored;
    const until = Math.min(size, start.size + most);
    const tree = extend(start, log.checkpoints.hashes(of, start.size, until));
    if (tree.size > known.size) trees.set(of, tree);
    return tree;
  };

  const put = (checkpoint: Checkpoint, tree: Frontier, note: SignedNote): string => {
    const text = formatNote(note);
    log.checkpoints.put({
      origin: checkpoint.origin,
      size: checkpoint.size,
      note: text,
      frontier: encodeFrontier(tree),
    });
    return text;
  };

  const storedNote = (of: PeerId, size: number): SignedNote | undefined => {
    const row = log.checkpoints.latest(of, size);
    return row?.size === size ? parseNote(row.note) : undefined;
  };

  const ownLine = (line: NoteSignature): boolean => line.name === witnessName(origin);

  return {
    advance() {
      const size = held(origin);
      return grow(origin, size, atOnce).size >= size - atOnce;
    },
    checkpoint() {
      const size = held(origin);
      const last = log.checkpoints.latest(origin);
      if (size === 0 || (last !== undefined && last.size >= size)) return last?.note;
      const tree = grow(origin, size, size);
      const checkpoint: Checkpoint = { origin, size, root: rootOf(tree) };
      const text = formatCheckpoint(checkpoint);
      return put(checkpoint, tree, { text, signatures: [signNote(text, logName(origin), signer)] });
    },
    newest: () => log.checkpoints.latest(origin),
    judge(of, publicKey, offered) {
      const note = parseNote(offered);
      const checkpoint = note && parseCheckpoint(note.text);
      if (note === undefined || checkpoint === undefined)
        return { kind: 'refused', reason: 'it is no checkpoint' };
      if (checkpoint.origin !== of || of === origin)
        return { kind: 'refused', reason: `it is a checkpoint of ${checkpoint.origin}` };
      const key = keyOf(publicKey);
      if (key === undefined || !verifyAuthor(note, logName(of), key))
        return { kind: 'refused', reason: `it is not signed by ${of}` };
      const { size, root } = checkpoint;
      const have = held(of);
      if (size > have) return { kind: 'waiting', have };
      const author = note.signatures.filter((line) => line.name === logName(of));
      const tree = grow(of, size, atOnce);
      // Asked again it gets further.
      if (tree.size < size) return { kind: 'waiting', have: tree.size };
      const ours = rootOf(tree);
      if (Buffer.compare(ours, root) !== 0) {
        const text = formatNote({ text: note.text, signatures: author });
        return { kind: 'inconsistent', size, held: base64(ours), offered: base64(root), note: text };
      }
      const stored = storedNote(of, size);
      if (stored?.text === note.text && stored.signatures.some(ownLine))
        return { kind: 'cosigned', note: formatNote(stored) };
      const signatures = [...author, cosign(note.text, witnessName(origin), signer, clock.now())];
      return { kind: 'cosigned', note: put(checkpoint, tree, { text: note.text, signatures }) };
    },
    collect(witness, publicKey, offered) {
      const key = keyOf(publicKey);
      const note = parseNote(offered);
      const checkpoint = note && parseCheckpoint(note.text);
      if (key === undefined || note === undefined || checkpoint?.origin !== origin || ownKey === undefined)
        return false;
      const stored = storedNote(origin, checkpoint.size);
      if (stored === undefined || stored.text !== note.text) return false;
      const name = witnessName(witness);
      const line = note.signatures.find((one) => verifyCosignature(note.text, one, name, key) !== undefined);
      if (line === undefined) return false;
      if (stored.signatures.some((one) => one.name === name)) return true;
      const tree = treeAt(log, origin, checkpoint.size);
      put(checkpoint, tree, { text: stored.text, signatures: [...stored.signatures, line] });
      return true;
    },
  };
}

/** Where a stored checkpoint stands: undefined when its signatures verify, or what is wrong with it, in words. */
export function noteFault(
  stored: StoredCheckpoint,
  root: Uint8Array | undefined,
  keyFor: (peer: PeerId) => Uint8Array | undefined,
): string | undefined {
  const note = parseNote(stored.note);
  const checkpoint = note && parseCheckpoint(note.text);
  if (note === undefined || checkpoint?.origin !== stored.origin || checkpoint.size !== stored.size)
    return 'its text is not that of a checkpoint';
  const raw = keyFor(stored.origin);
  const key = raw && keyOf(raw);
  if (key === undefined || !verifyAuthor(note, logName(stored.origin), key))
    return `it is not signed by ${stored.origin}`;
  if (root !== undefined && Buffer.compare(root, checkpoint.root) !== 0)
    return 'its root is not that of the events before it: they were changed after it was signed';
  if (treeBeside(stored, checkpoint) === undefined)
    return 'the tree stored beside it is not the one it was signed over';
  for (const line of note.signatures) {
    const witness = witnessOf(line.name);
    const theirs = witness && keyFor(witness);
    const witnessKey = theirs && keyOf(theirs);
    // A witness whose key is not pinned here vouches for nothing, and does no harm.
    if (witness === undefined || witnessKey === undefined) continue;
    if (verifyCosignature(note.text, line, line.name, witnessKey) === undefined)
      return `the cosignature of ${witness} does not verify`;
  }
  return undefined;
}
