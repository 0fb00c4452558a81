/** A flood of datagrams that are none of the peer's, beside an established tunnel's own traffic. */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { Test } from 'tap';
import { loadAddon, systemCall } from '../../../src/native/addon.ts';
import { encodeSockaddr } from '../../../src/native/sockaddr.ts';
import type { Netns } from '../netns.ts';
import { INSIDE, makeLab, PORT } from './lab.ts';
import { ping, serve, udpEchoes } from './traffic.ts';
import { captureUdp } from './wire.ts';

const addon = loadAddon();
const AF_INET = 2;
const SOCK_DGRAM = 2;
const VARIANTS = 512;
/** What memory the process may have grown by, KiB. */
const GROWTH = 48 * 1024;

/** Noise, headers of ours under keys nobody has, under a key in use with noise behind it, replays, and every length. */
function variants(samples: readonly Buffer[]): readonly Buffer[] {
  return Array.from({ length: VARIANTS }, (_, index) => {
    const sample = samples[index % samples.length] ?? Buffer.alloc(64);
    const bytes = Buffer.from(sample);
    switch (index % 5) {
      case 0:
        return randomBytes(randomInt(1, 1_400));
      case 1:
        bytes.writeUInt32LE(randomInt(2 ** 32), 4);
        return bytes;
      case 2:
        bytes.writeBigUInt64LE(BigInt(2 ** 40 + index), 8);
        randomBytes(bytes.length - 16).copy(bytes, 16);
        return bytes;
      case 3:
        return bytes;
      default:
        return bytes.subarray(0, randomInt(1, bytes.length));
    }
  });
}

/** Datagrams of the peer that crossed the wire while it was pinged. */
export async function captureSamples(from: Netns, to: Netns): Promise<readonly Buffer[]> {
  const capture = captureUdp(to);
  const { received } = await ping(from, INSIDE.b.v4);
  const samples = (await capture.stop()).filter((one) => one.length > 60);
  if (received < 3 || samples.length < 3)
    throw new Error(`${samples.length} datagrams were captured, ${received} pings answered`);
  return samples;
}

/** Sends `count` bad datagrams to a port of host b, at most `rate` a second; answers how many a second that were. */
export async function sendBad(
  netns: Netns,
  port: number,
  count: number,
  samples: readonly Buffer[],
  rate = Number.POSITIVE_INFINITY,
): Promise<number> {
  const begun = performance.now();
  const fd = systemCall('socket', addon.socketInNamespace(netns.path, AF_INET, SOCK_DGRAM, 0));
  try {
    systemCall('connect', addon.connect(fd, encodeSockaddr('10.9.0.2', port)));
    const all = variants(samples);
    for (let sent = 0; sent < count; sent += 1) {
      addon.send(fd, all[sent % VARIANTS] ?? Buffer.alloc(1), 0);
      if (sent % 2_000 === 1_999) await turn();
      while (sent % 100 === 99 && sent > ((performance.now() - begun) / 1_000) * rate) await sleep(1);
    }
    return (count / (performance.now() - begun)) * 1_000;
  } finally {
    addon.close(fd);
  }
}

/** Sends `count` bad datagrams at host b while the tunnel carries `echoes` packets there and back. */
export async function checkFlood(t: Test, count: number, echoes: number): Promise<void> {
  const lab = await makeLab(t);
  const { a, b } = lab.spaces;
  await serve(t, b);
  const samples = await captureSamples(a, b);
  const usage = async (): Promise<number> =>
    ((await lab.hosts.b.call({ verb: 'usage' })) as { readonly maxRSS: number }).maxRSS;

  const alone = await udpEchoes(a, INSIDE.b.v4, echoes, 500);
  const memory = await usage();
  const before = await lab.hosts.b.stats();
  const [flow] = await Promise.all([
    udpEchoes(a, INSIDE.b.v4, echoes, 500),
    sendBad(a, PORT, count, samples),
  ]);
  const after = await lab.hosts.b.stats();

  const [was] = before.peers;
  const [is] = after.peers;
  t.equal(flow.bad, 0);
  t.ok(
    flow.received >= alone.received * 0.9,
    `${flow.received} echoes beside the flood, ${alone.received} without`,
  );
  const delivered = (is?.received.packets ?? 0) - (was?.received.packets ?? 0);
  t.ok(delivered <= flow.sent, `${delivered} packets were delivered of the ${flow.sent} that the peer sent`);
  t.ok((is?.refused.replayed ?? 0) > (was?.refused.replayed ?? 0), 'replays were noticed');
  t.ok((is?.refused.forged ?? 0) > (was?.refused.forged ?? 0), 'forgeries were noticed');
  t.ok(after.refused.unknown > before.refused.unknown, 'foreign receiver indexes were noticed');
  t.ok(after.refused.foreign > before.refused.foreign, 'what is no datagram of ours was noticed');
  t.equal(is?.endpoint, was?.endpoint, 'the endpoint did not move');
  const grown = (await usage()) - memory;
  t.ok(grown < GROWTH, `memory grew by ${grown} KiB`);
}
