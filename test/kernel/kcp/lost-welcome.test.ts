/** A dialer that asks again shortly before the answer it never heard would be given up at the other end. */
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import { readAll, until } from '../../unit/engines/tproxy/stream-ends.ts';
import { type Lab, SERVER, startLab } from '../engines/lab.ts';

const run = promisify(execFile);

// HELLO leaves 0, 200, 600 and 1,000 ms after the start. The last is the first that is answered for the dialer to hear; what
// the first has begun at the other end would be over 100 ms later, before it hears of the dialer again.
const HANDSHAKE = 1_100;
const UNHEARD = 800;
const SILENT = 300;
// UDP's header and src/native/kcp/keys.h, kHelloLength.
const HELLO = 8 + 72;

async function drop(space: Lab['spaces']['entry'], what: string): Promise<() => Promise<unknown>> {
  const nft = (line: string) => run('ip', [...space.prefix, 'nft', line]);
  await nft(
    `add table inet shut; add chain inet shut in { type filter hook input priority -300; }; add rule inet shut in udp dport 61000 ${what} drop`,
  );
  return () => nft('delete table inet shut');
}

t.setTimeout(60_000);
t.test('an association whose first answers were lost carries flows from its beginning', async (t) => {
  const lab = await startLab('native', 'native', 'kcp');
  t.teardown(() => lab.stop());
  const listener = await lab.serve(4, 5_000, (socket) => socket.end('here'));
  t.teardown(() => listener.close());
  const link = { handshakeTimeout: HANDSHAKE, rekeyFrames: 2 ** 20, rekeyAfter: 3_600_000 };
  await lab.restart('exit', { link });
  const hear = await drop(lab.spaces.entry, '');
  const letAllIn = await drop(lab.spaces.exit, `udp length != ${HELLO}`);
  await lab.restart('entry', { link });
  await sleep(UNHEARD);
  await hear();
  await until(async () => (await lab.entry.stats()).kcp['exit']?.state === 'up', 'the exit answers over KCP');
  await sleep(SILENT);
  await letAllIn();
  const client = lab.dial(SERVER.v4, 5_000);
  client.end();
  t.equal((await readAll(client)).toString(), 'here');
  t.equal((await lab.entry.stats()).carriers['exit']?.reused, 0);
});
