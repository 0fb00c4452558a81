import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { portFacts } from '../../../cli/doctor/host-facts.ts';
import { report } from '../../../cli/doctor/report.ts';
import { createScrub } from '../../../cli/doctor/scrub.ts';
import { holderOf, parseSockets, readListeners } from '../../../cli/doctor/sockets.ts';
import { readTar, type TarEntry, writeTar } from '../../../cli/tar.ts';
import { readSettings } from '../../../src/settings.ts';

t.test('listening sockets are read from /proc/net', async (t) => {
  const head =
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
  const row = (local: string, remote: string, state: string, inode: number) =>
    `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1\n`;
  const text =
    head + row('00000000:1F90', '00000000:0000', '0A', 11) + row('0100007F:1F90', '0100007F:C000', '01', 12);
  t.same(parseSockets(text, 'tcp'), [{ port: 8080, protocol: 'tcp', inode: '11' }]);
  t.same(parseSockets(head + row('00000000:CA80', '00000000:0000', '07', 13), 'udp'), [
    { port: 51_840, protocol: 'udp', inode: '13' },
  ]);
  t.same(parseSockets('', 'tcp'), []);

  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const found = readListeners().find((one) => one.port === port);
  t.ok(found, 'our own is among them');
  t.equal(holderOf(found?.inode ?? '')?.pid, process.pid);
  await sleep(0);
});

t.test('whose a port is', async (t) => {
  const read = {
    settings: readSettings({}),
    env: {},
    file: '',
    fault: undefined,
    dataDir: '/',
    configDir: '/',
  };
  const unseen = [{ port: 8080, protocol: 'tcp', inode: 'none' }] as const;
  const holder = (answers: boolean) => portFacts(read, answers, unseen)?.map((one) => one.holder);
  t.same(
    holder(true),
    ['arctic', 'nobody', 'nobody', 'nobody'],
    "an agent that answers holds what nobody else's is",
  );
  t.same(holder(false), ['other', 'nobody', 'nobody', 'nobody']);
});

t.test('secrets are taken out, by value and by shape', async (t) => {
  const scrub = createScrub(['abcdefgh-the-secret', 'short', '']);
  t.equal(scrub('x abcdefgh-the-secret y short'), 'x [removed] y short');
  const shapes = [
    'sec_0123456789012345678901234567890123456789012',
    'eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl',
    'Authorization: Bearer abcdefghijkl',
    'client_secret: hunter2hunter2',
    '"password": "hunter2hunter2"',
    'API_PASSWORD=hunter2hunter2',
    'http://me:hunter2hunter2@example.com/',
    '-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----',
  ];
  for (const shape of shapes) {
    const clean = scrub(`before ${shape} after`);
    t.match(clean, /\[removed\]/, shape);
    t.notMatch(clean, /hunter2|MC4CAQ|abcdefghijkl|0123456789012345|c2lnbmF0/);
  }
  t.equal(scrub('reconciler=firewall state=applied'), 'reconciler=firewall state=applied');
  fc.assert(
    fc.property(
      fc.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      fc.string(),
      fc.string(),
      (secret, before, after) => {
        t.notOk(createScrub([secret])(`${before}${secret}${after}`).includes(secret));
      },
    ),
  );
});

const bytesOf = async (source: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
};

t.test('an archive gives back what went in, however it is cut into chunks', async (t) => {
  const entry = fc.record({
    name: fc.stringMatching(/^[a-z0-9./-]{1,100}$/),
    content: fc.uint8Array({ maxLength: 2_000 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry, { maxLength: 5 }),
      fc.integer({ min: 1, max: 700 }),
      async (files, step) => {
        const entries = files.map((one): TarEntry => ({ ...one, mode: 0o600, mtime: 1 }));
        const bytes = await bytesOf(writeTar(entries));
        async function* chunks() {
          for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
        }
        const back: { name: string; content: Uint8Array }[] = [];
        for await (const { name, content } of readTar(chunks()))
          back.push({ name, content: new Uint8Array(await bytesOf(content)) });
        t.same(
          back,
          files.map(({ name, content }) => ({ name, content: new Uint8Array(content) })),
        );
      },
    ),
    { numRuns: 40 },
  );
  async function* cut() {
    yield Buffer.alloc(100, 1);
  }
  await t.rejects(
    bytesOf(
      (async function* () {
        for await (const { content } of readTar(cut())) yield* content;
      })(),
    ),
    /ends in the middle/,
  );
});

t.test('the report: an area with nothing known was not checked', async (t) => {
  const { areas, status } = report(
    { now: 0, api: { bind: '127.0.0.1', tls: false, certificate: undefined } },
    [],
    [],
  );
  t.equal(status, 'ok');
  t.equal(areas.find(({ area }) => area === 'API')?.state, 'ok');
  t.equal(areas.find(({ area }) => area === 'kernel')?.state, 'not checked');
});
