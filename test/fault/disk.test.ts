/** A disk that is full or read-only under a log and under a running agent: refused, said, survived, and over by itself. */
import { join } from 'node:path';
import t from 'tap';
import { openLogReader } from '../../events/log.ts';
import { verifyLog } from '../../events/verify.ts';
import { createLab } from '../../ops/lab/lab.ts';
import { bootstrap, createIssuer, eventually } from '../e2e/cluster.ts';
import {
  agentStarted,
  openHost,
  operator,
  routeAdded,
  temporaryDirectory,
} from '../unit/events/given-log.ts';
import { mountSmallDisk, noSmallDisk } from './tmpfs.ts';

const skip = noSmallDisk() ?? false;

t.test(
  'a log on a full disk refuses, keeps its place, and goes on when there is space',
  { skip },
  async (t) => {
    const disk = mountSmallDisk(t, join(temporaryDirectory(t), 'disk'), 4);
    const path = join(disk.path, 'arctic.db');
    const log = openHost({ path });
    const kept = [...log.append([routeAdded(1), agentStarted], operator)];
    const told: number[] = [];
    log.subscribe((events) => told.push(...events.map((event) => event.position)));

    for (let turn = 0; turn < 4; turn += 1) {
      disk.fill();
      let refused = 0;
      // The -wal file may have room that is reused; in the end it has none.
      for (let i = 0; refused < 5; i += 1) {
        if (i > 5_000) throw new Error('the disk did not get full');
        try {
          kept.push(...log.append([routeAdded(1 + kept.length)], operator));
        } catch (error) {
          t.match(error, { code: 'UNAVAILABLE', status: 503, message: /disk is full.*goes on by itself/ });
          refused += 1;
        }
      }
      t.equal(log.head, kept.length);
      t.equal(log.read({}).length, kept.length, 'reads go on');
      // It takes fewer pages than the append did, for which there may be room once or twice.
      t.throws(
        () => {
          for (let i = 0; i < 100; i += 1) log.meta.set(`key ${i}`, 'x'.repeat(4_000));
        },
        { code: 'UNAVAILABLE' },
      );
      disk.free();
      for (let i = 0; i < 20; i += 1) kept.push(...log.append([routeAdded(1 + kept.length)], operator));
    }
    t.same(log.read({}), kept);
    t.same(
      told,
      kept.slice(2).map((event) => event.position),
      'subscribers were told of what is stored, and of nothing else',
    );
    log.close();
    t.equal(verifyLog({ path }).fault, undefined);
  },
);

t.test(
  'a log on a disk that went read-only is not opened for writing, and can be read',
  { skip },
  async (t) => {
    const disk = mountSmallDisk(t, join(temporaryDirectory(t), 'disk'), 4);
    const path = join(disk.path, 'arctic.db');
    let log = openHost({ path });
    const kept = [...log.append([routeAdded(1)], operator)];
    log.close();
    disk.remount('ro');
    t.throws(() => openHost({ path }), {
      code: 'UNAVAILABLE',
      trouble: 'unusable',
      message: /may write to it|read-only/,
    });
    const reader = openLogReader({ path, verify: 'full' });
    t.same(reader.read({}), kept);
    reader.close();
    disk.remount('rw');
    log = openHost({ path });
    kept.push(...log.append([routeAdded(2)], operator));
    t.same(log.read({}), kept);
    log.close();
  },
);

t.test(
  'an agent on a full disk answers 503 and why, serves reads, keeps its sessions, and recovers by itself',
  { skip, timeout: 120_000 },
  async (t) => {
    const lab = await createLab();
    t.teardown(() => lab.destroy());
    const issuer = createIssuer(join(lab.directory, 'issuer'));
    const disk = mountSmallDisk(t, join(lab.host('entry').directory, 'data'), 12);
    for (const name of ['entry', 'exit']) issuer.trustOn(join(lab.host(name).directory, 'config'));
    const entry = await bootstrap(await lab.startAgent('entry'), issuer.issue(), 'entry');
    const exit = await bootstrap(await lab.startAgent('exit'), issuer.issue(), 'exit');
    const joined = await entry.agent.request('POST', '/v1/peers', {
      token: entry.token,
      body: { address: exit.agent.address },
    });
    t.equal(joined.status, 201, joined.text);

    disk.fill();
    const create = () =>
      entry.agent.request('POST', '/v1/credentials', {
        token: entry.token,
        body: { scopes: ['services.read'] },
      });
    const acknowledged: string[] = [];
    const refusal = await eventually('the disk is full', async () => {
      const answer = await create();
      if (answer.status === 201) acknowledged.push(answer.json<{ client_id: string }>().client_id);
      return answer.status === 201 ? undefined : answer;
    });
    t.equal(refusal.status, 503, refusal.text);
    t.match(refusal.json(), { code: 'UNAVAILABLE', error: /disk is full/ });

    // What a peer says now cannot be stored here, nor can this host record that the peer went and came back.
    const made = await exit.agent.request('POST', '/v1/credentials', {
      token: exit.token,
      body: { scopes: ['services.read'] },
    });
    t.equal(made.status, 201, made.text);
    const { client_id: remote } = made.json<{ client_id: string }>();
    await exit.agent.stop();
    const again = await lab.startAgent('exit');
    await eventually('the restarted peer is active again', async () => {
      const answer = await entry.agent.request('GET', '/v1/peers', { token: entry.token });
      return answer.status === 200 && answer.text.includes('"active"');
    });
    t.equal((await create()).status, 503, 'still refused');
    t.equal(
      (await entry.agent.request('GET', '/v1/services', { token: entry.token })).status,
      200,
      'reads go on',
    );
    t.equal((await entry.agent.request('GET', '/livez')).status, 200);

    disk.free();
    const answer = await eventually('writes go on by themselves', async () => {
      const now = await create();
      return now.status === 201 ? now : undefined;
    });
    acknowledged.push(answer.json<{ client_id: string }>().client_id);
    const listed = await eventually('what the peer changed meanwhile has arrived', async () => {
      const list = await entry.agent.request('GET', '/v1/credentials?limit=500', { token: entry.token });
      return list.text.includes(remote) ? list.text : undefined;
    });
    for (const id of acknowledged) t.match(listed, id);
    await again.stop();
    await entry.agent.stop();
    t.equal(verifyLog({ path: join(disk.path, 'arctic.db') }).fault, undefined);
  },
);
