/** A member written from ops/docs/carrier-format.md alone speaks AEGIS-128L with the native relay. */
import { createHash, hkdfSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { decodeHeader, encodeHeader, FRAME, type FrameType } from '../../../../src/engines/tproxy/frames.ts';
import { deriveSecrets, encodeHello } from '../../../../src/engines/tproxy/link-keys.ts';
import {
  encodeLimits,
  encodeListen,
  encodeSetSession,
  type NativeLimits,
} from '../../../../src/engines/tproxy/native-commands.ts';
import { completeOptions } from '../../../../src/engines/tproxy/relay-options.ts';
import { loadAddon, systemCall } from '../../../../src/native/addon.ts';
import { loadRelayAddon } from '../../../../src/native/relay/addon.ts';
import { decodeSockaddr, SOCKADDR_LENGTH } from '../../../../src/native/sockaddr.ts';
import { openListener } from '../../../../src/native/transparent.ts';
import { aegisOpen, aegisSeal } from './aegis128l.ts';

const session = {
  sessionId: '000102030405060708090a0b0c0d0e0f',
  key: Buffer.alloc(32, 0x11),
  peerId: 'p',
  initiator: false,
};
const hex = (text: string): Buffer => Buffer.from(text, 'hex');

t.test('the reference keeps to the first vector of the draft', async (t) => {
  const sealed = aegisSeal(
    hex('10010000000000000000000000000000'),
    hex('10000200000000000000000000000000'),
    Buffer.alloc(0),
    Buffer.alloc(16),
  );
  t.equal(sealed.toString('hex'), 'c1c0e58bd913006feba00f4b3cc3594eabe0ece80c24868a226a35d16bdae37a');
});

/** One direction as the format says: key and IV from the secret, nonce the IV xor a counter. */
function createDirection(secret: Buffer) {
  const expand = (label: string): Buffer => Buffer.from(hkdfSync('sha256', secret, '', label, 16));
  const key = expand('arctic v1 carrier aegis key');
  const iv = expand('arctic v1 carrier aegis iv');
  let counter = 0;
  const nonce = (): Buffer => {
    const next = Buffer.from(iv);
    next.writeUInt32BE((next.readUInt32BE(12) ^ counter) >>> 0, 12);
    counter += 1;
    return next;
  };
  return {
    seal(type: FrameType, payload: Buffer): Buffer {
      const header = encodeHeader(type, payload.length);
      return Buffer.concat([header, aegisSeal(key, nonce(), header, payload)]);
    },
    open: (header: Buffer, sealed: Buffer) => aegisOpen(key, nonce(), header, sealed),
  };
}

t.test('handshake, PING and PONG', async (t) => {
  const loaded = loadRelayAddon();
  if (loaded.addon === undefined) {
    t.comment(`no native relay: ${loaded.reason}`);
    return;
  }
  const addon = loadAddon();
  const relay = loaded.addon;
  const slot = systemCall('relayStart', relay.relayStart());
  t.teardown(() => relay.relayStop(slot));
  const { pool, link, ...rest } = completeOptions({ carrierPort: 0 });
  const limits: NativeLimits = {
    ...pool,
    ...link,
    ...rest,
    mostLinks: 8,
    ownMark: 0,
    carrierBuffer: 65_536,
    notSentLowWater: 65_536,
    userTimeout: 5_000,
    training: 0,
    trainedLinks: 0,
    aegis: 1,
    shortPath: 1_000,
    shortLowWater: 65_536,
    congestionControl: '',
    shortCongestionControl: '',
  };
  const fd = openListener(addon, { address: '127.0.0.1', port: 0 });
  systemCall('listen', addon.listen(fd, 8));
  const name = Buffer.alloc(SOCKADDR_LENGTH);
  systemCall('getsockname', addon.getsockname(fd, name));
  const port = decodeSockaddr(name)?.port ?? 0;
  for (const command of [
    encodeLimits(limits),
    encodeSetSession(session, true),
    encodeListen(fd, false, port),
  ]) {
    systemCall('relayCommand', relay.relayCommand(slot, command));
  }

  const socket = connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  let received = Buffer.alloc(0);
  socket.on('data', (bytes) => {
    received = Buffer.concat([received, bytes]);
  });
  const take = async (length: number): Promise<Buffer> => {
    while (received.length < length && !socket.destroyed)
      await Promise.race([once(socket, 'data'), sleep(100)]);
    const taken = received.subarray(0, length);
    received = received.subarray(length);
    return taken;
  };
  await once(socket, 'connect');
  const nonce = Buffer.alloc(32, 0x22);
  const hello = encodeHello(session.sessionId, nonce, true);
  socket.write(hello);
  const welcome = await take(36);
  const able = / aes\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
  t.equal(
    welcome.toString('ascii', 0, 4),
    able ? 'ARC2' : 'ARC1',
    'AEGIS was offered, and is taken where it is fast',
  );
  if (!able) return;
  const { toAcceptor, toDialer } = deriveSecrets(session, true, nonce, welcome.subarray(4), true);
  const transcript = createHash('sha256').update(hello).update(welcome).digest();
  const outward = createDirection(toAcceptor);
  const inward = createDirection(toDialer);
  const frame = async (): Promise<{ type: FrameType; payload: Buffer | undefined }> => {
    const header = Buffer.from(await take(4));
    const { type, length } = decodeHeader(header);
    return { type, payload: inward.open(header, Buffer.from(await take(length + 16))) };
  };
  t.same(await frame(), { type: FRAME.confirm, payload: transcript });
  socket.write(outward.seal(FRAME.confirm, transcript));
  for (const text of ['01234567', 'abcdefgh']) {
    socket.write(outward.seal(FRAME.ping, Buffer.from(text)));
    t.same(await frame(), { type: FRAME.pong, payload: Buffer.from(text) });
  }
});
