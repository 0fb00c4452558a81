/** Anybody can send a hello, and each is remembered until its confirmation: a flood of them must not keep honest hosts out. */
import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import type { PendingHandshake } from '../../../src/gossip/machine/handshake.ts';
import { createPendingHandshakes } from '../../../src/gossip/machine/pending.ts';
import { HANDSHAKE_PATH } from '../../../src/gossip/messages.ts';
import {
  HANDSHAKE_PENDING,
  HANDSHAKES_PENDING_MAX,
  HANDSHAKES_PENDING_PER_NETWORK,
} from '../../../src/gossip/parameters.ts';
import { World } from '../../simulation/world.ts';

t.test('an honest host joins during a flood of hellos', async (t) => {
  for (const addresses of [16, 200]) {
    const world = new World(addresses, { light: true });
    const [a] = world.cluster(2);
    const honest = world.add();
    honest.bootstrap();
    honest.start();
    const stranger = world.add();
    stranger.bootstrap();
    stranger.start();
    if (a === undefined) throw new Error('a host is needed');

    let hello: Uint8Array | undefined;
    world.tap = (options, from) => {
      if (from !== stranger || options.path !== HANDSHAKE_PATH) return options.body;
      hello ??= options.body;
      // Nothing of it arrives: the stranger has only wanted something to send again and again.
      return new Uint8Array();
    };
    world.tryJoin(stranger, a.address);
    stranger.kill();
    world.tap = undefined;
    const body = hello;
    if (body === undefined) throw new Error('no hello was sent');

    const answers = new Map<number, number>();
    let sent = 0;
    let over = false;
    const flood = (): void => {
      if (over) return;
      for (let burst = 0; burst < 4; burst += 1) {
        const remoteAddress = `192.0.2.${sent % addresses}`;
        sent += 1;
        const { status } = a.running.handle({
          method: 'POST',
          path: HANDSHAKE_PATH,
          headers: {},
          body,
          remoteAddress,
        });
        answers.set(status, (answers.get(status) ?? 0) + 1);
      }
      world.time.after(1, flood);
    };
    flood();
    world.time.advance(200);
    t.equal(world.join(honest, a), a.peerId, `${addresses} addresses`);
    over = true;
    t.ok(sent > 800);
    t.ok((answers.get(200) ?? 0) > 0, 'the flood itself is well-formed');
    // What each address may begin within the life of a handshake: more would cost this host its time.
    const lifetimes = Math.ceil(world.time.now / HANDSHAKE_PENDING);
    t.ok((answers.get(200) ?? 0) < (lifetimes + 1) * addresses * HANDSHAKES_PENDING_PER_NETWORK * 2);
    for (const node of world.nodes) if (node.machine !== undefined) node.kill();
  }
});

t.test('unfinished handshakes', async (t) => {
  let erased: string[] = [];
  let made = 0;
  const handshake = (remoteAddress: string, startedAt = 0): PendingHandshake => {
    made += 1;
    const sessionId = `s${made}`;
    return {
      remoteAddress,
      startedAt,
      intent: 'join',
      offset: 0,
      transcript: new Uint8Array(),
      party: { peer_id: 'peer_x' as PeerId } as PendingHandshake['party'],
      keys: { sessionId, erase: () => erased.push(sessionId) } as unknown as PendingHandshake['keys'],
    };
  };
  t.beforeEach(() => {
    erased = [];
    made = 0;
  });

  await t.test('a network has so many at once and no more', async (t) => {
    for (const addresses of [
      ['192.0.2.1', '::ffff:192.0.2.1'],
      ['2001:db8:1:2::1', '2001:db8:1:2:ffff::7', '2001:0db8:0001:0002:1:2:3:4'],
      ['fe80::1', 'fe80:0:0:0:5::'],
    ]) {
      const pending = createPendingHandshakes();
      for (let i = 0; i < HANDSHAKES_PENDING_PER_NETWORK; i += 1) {
        const address = addresses[i % addresses.length] ?? '';
        t.ok(pending.admits(address));
        pending.add(handshake(address));
      }
      for (const address of addresses) t.notOk(pending.admits(address), address);
      t.ok(pending.admits('192.0.2.2'));
      t.ok(pending.admits('2001:db8:1:3::1'));
      pending.take('s1');
      made = 0;
    }
  });

  await t.test('whoever has most makes room', async (t) => {
    const pending = createPendingHandshakes();
    pending.add(handshake('198.51.100.1'));
    for (let i = 1; i < HANDSHAKES_PENDING_MAX; i += 1) pending.add(handshake(`192.0.2.${i % 32}`));
    t.equal(pending.size, HANDSHAKES_PENDING_MAX);
    for (let i = 0; i < 1_000; i += 1) pending.add(handshake(`192.0.2.${i % 32}`));
    t.equal(pending.size, HANDSHAKES_PENDING_MAX);
    t.equal(erased.length, 1_000, 'the keys of whatever went are gone');
    t.ok(pending.take('s1'), 'and the one that came first, alone, is still there');
    t.notOk(pending.take('s1'), 'once');
    t.notOk(erased.includes('s1'), 'its keys are the taker’s');
  });

  await t.test('what is never confirmed is forgotten', async (t) => {
    const pending = createPendingHandshakes();
    pending.add(handshake('192.0.2.1', 0));
    pending.add(handshake('192.0.2.1', 10));
    pending.sweep(HANDSHAKE_PENDING + 5);
    t.same(erased, ['s1']);
    t.equal(pending.size, 1);
    pending.clear();
    t.same(erased, ['s1', 's2']);
    t.equal(pending.size, 0);
  });
});
