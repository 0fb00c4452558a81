/** HELLO and WELCOME of a KCP association (ops/docs/carrier-format.md; src/native/kcp/keys.cc), to see whether a peer answers. */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import type { CarrierSession } from '../tproxy/contract.ts';
import { NONCE_LENGTH } from '../tproxy/link-keys.ts';

const HELLO = 16;
const WELCOME = 17;
const MAC = 16;
const HELLO_LENGTH = 8 + 16 + NONCE_LENGTH + MAC;
const WELCOME_LENGTH = 12 + NONCE_LENGTH + MAC;

const expand = (session: CarrierSession, label: string, salt: Uint8Array): Buffer =>
  Buffer.from(
    hkdfSync(
      'sha256',
      session.key,
      salt,
      Buffer.concat([
        Buffer.from(label, 'ascii'),
        Buffer.of(session.initiator ? 1 : 0),
        Buffer.from(session.sessionId, 'hex'),
      ]),
      32,
    ),
  );

const mac = (key: Buffer, ...parts: readonly Uint8Array[]): Buffer => {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(part);
  key.fill(0);
  return hmac.digest().subarray(0, MAC);
};

/** `association` is the dialer's name for it, any number; `nonce` has 32 bytes. */
export function encodeKcpHello(session: CarrierSession, association: number, nonce: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt8(HELLO, 0);
  head.writeUInt32BE(association, 4);
  const text = Buffer.concat([head, Buffer.from(session.sessionId, 'hex'), nonce]);
  const proof = mac(expand(session, 'arctic v1 kcp hello', Buffer.alloc(0)), text);
  return Buffer.concat([text, proof], HELLO_LENGTH);
}

/** Whether this is the answer to that HELLO by one who holds the session's key. In constant time. */
export function provesKcpWelcome(bytes: Buffer, hello: Buffer, session: CarrierSession): boolean {
  if (bytes.length !== WELCOME_LENGTH || bytes.readUInt32BE(0) !== WELCOME * 2 ** 24) return false;
  if (!bytes.subarray(4, 8).equals(hello.subarray(4, 8))) return false;
  const text = bytes.subarray(0, WELCOME_LENGTH - MAC);
  const salt = Buffer.concat([hello.subarray(24, 24 + NONCE_LENGTH), bytes.subarray(12, 12 + NONCE_LENGTH)]);
  const proof = mac(expand(session, 'arctic v1 kcp confirm', salt), hello, text);
  return timingSafeEqual(proof, bytes.subarray(WELCOME_LENGTH - MAC));
}
