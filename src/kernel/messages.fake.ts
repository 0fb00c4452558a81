import type { Datagram, Place } from './netlink/datagram.ts';
import { refusal } from './netlink/error-text.ts';

/** What the fake kernel is sent, message by message, and which of them it refuses. */
export interface FakeMessages {
  /** In our words, oldest first, refused ones included. */
  readonly sent: readonly string[];
  /** Refuses the message that comes after `skip` others with this errno, as the kernel would word it. */
  refuse(skip: number, errno: number): void;
  /** A request of one message. Throws KernelError when it is to be refused. */
  message(subject: string): void;
  /** A transaction: one refused message and nothing of it is done. A batch of elements is refused for its last one. */
  datagram(datagram: Datagram): void;
}

export function createFakeMessages(): FakeMessages {
  const sent: string[] = [];
  let refused: { readonly at: number; readonly errno: number } | undefined;

  function take(subject: string, place: () => Place): void {
    sent.push(subject);
    if (refused === undefined || sent.length <= refused.at) return;
    const { errno } = refused;
    refused = undefined;
    throw refusal(errno, place());
  }

  return {
    sent,
    refuse: (skip, errno) => {
      refused = { at: sent.length + skip, errno };
    },
    message: (subject) => take(subject, () => ({ subject, path: undefined })),
    datagram: (datagram) => {
      for (const message of datagram.messages)
        take(message.subject, () => datagram.explain(message, message.end - message.at - 4));
    },
  };
}
