/** The messages of one send, with what is needed to say later which of them the kernel refused and where. */
import { writeHost32 } from '../../native/byte-order.ts';
import { encodeAttributes, explainOffset, type Of, type Schema } from './codec.ts';
import { MESSAGE_HEADER, NetlinkWriter } from './writer.ts';

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
/** Tell the asker too what the multicast groups are told. */
export const NLM_F_ECHO = 0x8;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
/** NLM_F_ROOT | NLM_F_MATCH */
export const NLM_F_DUMP = 0x300;

export interface Place {
  readonly subject: string;
  readonly path: string | undefined;
}

/** One message as it lies in the datagram. */
export interface SentMessage {
  readonly at: number;
  readonly end: number;
  readonly flags: number;
  readonly subject: string;
  readonly schema: Schema | undefined;
  readonly headerLength: number;
  /** A better subject than the message's, for an error offset (relative to the message); for batched elements. */
  readonly locate: ((offset: number) => Place | undefined) | undefined;
}

export interface MessageHead {
  readonly type: number;
  readonly flags: number;
  /** The fixed header of the message type (nfgenmsg, ifinfomsg...). */
  readonly header: Uint8Array;
  /** What the message does, in our words; opens the text of an error. */
  readonly subject: string;
}

export class Datagram {
  readonly #writer: NetlinkWriter;
  readonly #messages: SentMessage[] = [];

  constructor(capacity?: number) {
    this.#writer = new NetlinkWriter(capacity);
  }

  add<S extends Schema>(head: MessageHead, schema: S, value: Of<S>): void {
    this.#append(head, schema, undefined, (writer) => {
      encodeAttributes(writer, schema, value);
    });
  }

  /** A message whose attributes `write` appends itself. */
  addWritten(
    head: MessageHead,
    schema: Schema,
    write: (writer: NetlinkWriter) => void,
    locate?: (offset: number) => Place | undefined,
  ): void {
    this.#append(head, schema, locate, write);
  }

  #append(
    head: MessageHead,
    schema: Schema,
    locate: SentMessage['locate'],
    write: (writer: NetlinkWriter) => void,
  ): void {
    const at = this.#writer.beginMessage(head.type, head.flags | NLM_F_REQUEST, 0);
    this.#writer.raw(head.header);
    write(this.#writer);
    this.#writer.endMessage(at);
    this.#messages.push({
      at,
      end: this.#writer.length,
      flags: head.flags,
      subject: head.subject,
      schema,
      headerLength: head.header.length,
      locate,
    });
  }

  get messages(): readonly SentMessage[] {
    return this.#messages;
  }

  get length(): number {
    return this.#writer.length;
  }

  /** The bytes to send, numbered from `firstSequence`. */
  numbered(firstSequence: number): Buffer {
    const bytes = this.#writer.bytes;
    this.#messages.forEach((message, index) => {
      writeHost32(bytes, (firstSequence + index) >>> 0, message.at + 8);
    });
    return bytes;
  }

  /** Which object of ours an error offset (from the message's nlmsghdr) points at. */
  explain(message: SentMessage, offset: number | undefined): Place {
    if (offset === undefined || message.schema === undefined)
      return { subject: message.subject, path: undefined };
    const from = message.at + MESSAGE_HEADER + message.headerLength;
    const path = explainOffset(message.schema, this.#writer.bytes, from, message.end, message.at + offset);
    const located = message.locate?.(offset);
    return { subject: located?.subject ?? message.subject, path: located?.path ?? path };
  }
}
