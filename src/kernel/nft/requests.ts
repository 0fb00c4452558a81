/** One request about nf_tables: of one object, or of all. */
import { decodeAttributes, type Of, type Schema } from '../netlink/codec.ts';
import { Datagram, NLM_F_ACK, NLM_F_DUMP } from '../netlink/datagram.ts';
import type { NetlinkSocket, ReceivedMessage } from '../netlink/socket.ts';
import { messageType, nfgenmsg } from './transaction.ts';

/** struct nfgenmsg */
export const GENERIC_HEADER = 4;

/** The attributes of a message that was received. */
export function decode<S extends Schema>(schema: S, message: ReceivedMessage): Of<S> {
  return decodeAttributes(schema, message.bytes, message.start + GENERIC_HEADER, message.end);
}

function asking<S extends Schema>(
  flags: number,
  message: number,
  family: number,
  subject: string,
  schema: S,
  value: Of<S>,
): Datagram {
  const datagram = new Datagram(256);
  datagram.add({ type: messageType(message), flags, header: nfgenmsg(family), subject }, schema, value);
  return datagram;
}

/** Sends one request and hands on the answer. */
export async function get<S extends Schema>(
  socket: NetlinkSocket,
  message: number,
  family: number,
  subject: string,
  schema: S,
  value: Of<S>,
  onMessage: (message: ReceivedMessage) => void,
): Promise<void> {
  await socket.request(asking(NLM_F_ACK, message, family, subject, schema, value), onMessage);
}

/** Asks for all objects of a kind, those `value` describes where the kernel filters by it. */
export async function dump<S extends Schema>(
  socket: NetlinkSocket,
  message: number,
  family: number,
  subject: string,
  schema: S,
  value: Of<S>,
  onMessage: (message: ReceivedMessage) => void,
): Promise<void> {
  await socket.dump(asking(NLM_F_DUMP, message, family, subject, schema, value), onMessage);
}
