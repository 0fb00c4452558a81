/** nft's own notes inside kernel objects (libnftnl udata.h): type u8, length u8, value. The kernel does not read them. */

const RULE_COMMENT = 0;
const SET_KEY_BYTE_ORDER = 0;
const SET_DATA_BYTE_ORDER = 1;
const BYTE_ORDER_HOST = Buffer.from([1, 0, 0, 0]);
/** NFTNL_UDATA_COMMENT_MAXLEN counts the NUL. */
const LONGEST_COMMENT = 127;

/** Hex of the comment `nft list` prints; undefined for an empty one. Throws RangeError past 127 bytes. */
export function encodeComment(comment: string): string | undefined {
  if (comment === '') return undefined;
  const text = Buffer.from(`${comment}\0`);
  if (text.length > LONGEST_COMMENT + 1 || text.indexOf(0) !== text.length - 1) {
    throw new RangeError(`a rule comment holds at most ${LONGEST_COMMENT} bytes: ${comment}`);
  }
  return Buffer.concat([Buffer.from([RULE_COMMENT, text.length]), text]).toString('hex');
}

/** The comment inside rule userdata; empty when there is none. */
export function decodeComment(userdata: string | undefined): string {
  if (userdata === undefined) return '';
  const bytes = Buffer.from(userdata, 'hex');
  for (let at = 0; at + 2 <= bytes.length; ) {
    const length = bytes.readUInt8(at + 1);
    if (bytes.readUInt8(at) === RULE_COMMENT) {
      return bytes.toString('utf8', at + 2, Math.min(bytes.length, at + 2 + length)).replace(/\0+$/, '');
    }
    at += 2 + length;
  }
  return '';
}

/** Tells `nft list` which parts of a set are host-endian; without it marks print byte-swapped. */
export function encodeByteOrder(key: boolean, data: boolean): string | undefined {
  const note = (type: number) =>
    Buffer.concat([Buffer.from([type, BYTE_ORDER_HOST.length]), BYTE_ORDER_HOST]);
  const notes = [...(key ? [note(SET_KEY_BYTE_ORDER)] : []), ...(data ? [note(SET_DATA_BYTE_ORDER)] : [])];
  return notes.length === 0 ? undefined : Buffer.concat(notes).toString('hex');
}
