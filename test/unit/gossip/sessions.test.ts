import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { RETIRE_AFTER } from '../../../src/gossip/parameters.ts';
import { createSessions, newSession, type Session } from '../../../src/gossip/sessions.ts';
import { derivePairKeys } from '../../../src/identity/key-schedule.ts';

const LOCAL = 'peer_01JD0000000000000000000001' as PeerId;
const PEER = 'peer_01JD0000000000000000000002' as PeerId;

t.test('who follows the newest session hears of each, before what it replaces is retired', async (t) => {
  let now = 0;
  const said: string[] = [];
  const sessions = createSessions({ local: LOCAL, monotonic: () => now });
  sessions.onCurrent((peer) => said.push(`current ${sessions.current(peer)?.sessionId === last.id}`));
  sessions.onRetired((id, reason, peer) => said.push(`${reason} ${id === last.id} ${peer === PEER}`));
  let last: Session;
  const make = (confirmed: boolean): Session => {
    last = newSession({
      peerId: PEER,
      side: confirmed ? 'initiator' : 'responder',
      keys: derivePairKeys(new Uint8Array(32).fill(1), Buffer.from(String(now))),
      establishedAt: now,
      offset: 0,
      confirmed,
      endsAt: confirmed ? undefined : now + 15_000,
    });
    sessions.add(last);
    return last;
  };
  const told = (): string[] => said.splice(0);

  make(true);
  t.same(told(), ['current true']);
  now += 20_000;
  // The peer has started again, and begun a handshake; it is believed once it has used what came of it.
  const next = make(false);
  t.same(told(), []);
  sessions.confirm(next);
  t.same(told(), ['current true'], 'at once, not when the old one is retired');
  now += RETIRE_AFTER;
  sessions.sweep(now);
  t.same(told(), ['renewed false true']);
  sessions.endAll(PEER, 'removed');
  t.same(told(), ['removed true true']);
  t.equal(sessions.current(PEER), undefined);
  make(true);
  t.same(told(), ['current true'], 'a peer that comes back is news');
});

t.test('when the newest session ends, those who follow are given the one before it first', async (t) => {
  let now = 0;
  const said: string[] = [];
  const sessions = createSessions({ local: LOCAL, monotonic: () => now });
  const make = (n: number): Session => {
    const session = newSession({
      peerId: PEER,
      side: 'initiator',
      keys: derivePairKeys(new Uint8Array(32).fill(2), Buffer.from(String(n))),
      establishedAt: now,
      offset: 0,
      confirmed: true,
      endsAt: undefined,
    });
    sessions.add(session);
    now += 20_000;
    return session;
  };
  const [older, newer] = [make(1), make(2)];
  const name = (id: string | undefined): string =>
    id === older.id ? 'older' : id === newer.id ? 'newer' : 'none';
  sessions.onCurrent((peer) => said.push(`current ${name(sessions.current(peer)?.sessionId)}`));
  sessions.onRetired((id) => said.push(`retired ${name(id)}`));
  sessions.end(newer, 'renewed');
  t.same(said, ['current older', 'retired newer']);
});
