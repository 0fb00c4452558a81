import t from 'tap';
import {
  decideAdmitPeer,
  decideInvitePeer,
  decideLeave,
  decideRemovePeer,
  type PeerCandidate,
} from '../../../src/commands/peers.ts';
import type { Identity } from '../../../src/identity/contract.ts';
import { newIdentity } from '../local-peer.ts';
import { createGiven } from './given.ts';

const candidate = (identity: Identity, more: Partial<PeerCandidate> = {}): PeerCandidate => ({
  peer_id: identity.peerId,
  public_key: Buffer.from(identity.publicKey).toString('base64'),
  name: null,
  address: '192.0.2.2:8080',
  endpoints: ['http://192.0.2.2:8080'],
  invited: true,
  ...more,
});

t.test('a peer is admitted once, and within the license', async (t) => {
  const { bootstrap, types, refusal, clock, identity } = createGiven(t, { nodes: 2 });
  const one = newIdentity(clock);
  t.match(
    refusal((now, at) => decideAdmitPeer(now, candidate(one), at)),
    { code: 'NOT_BOOTSTRAPPED' },
  );
  bootstrap();
  t.match(
    refusal((now, at) => decideAdmitPeer(now, candidate(identity), at)),
    {
      code: 'ALREADY_EXISTS',
      message: 'peer already exists in cluster',
    },
  );
  t.same(
    types((now, at) => decideAdmitPeer(now, candidate(one), at)),
    ['peer.admitted'],
  );
  t.match(
    refusal((now, at) => decideAdmitPeer(now, candidate(one), at)),
    { code: 'ALREADY_EXISTS' },
  );
  t.match(
    refusal((now, at) => decideAdmitPeer(now, candidate(newIdentity(clock)), at)),
    {
      code: 'NODE_LIMIT_EXCEEDED',
      message: 'handshake failed: node limit exceeded',
    },
  );
  t.match(
    refusal((now, at) => decideInvitePeer(now, { address: 'new.example:8080', name: undefined }, at)),
    {
      code: 'NODE_LIMIT_EXCEEDED',
    },
  );
});

t.test('a removed peer comes back only when it is asked', async (t) => {
  const { bootstrap, types, refusal, clock, views } = createGiven(t);
  bootstrap();
  const one = newIdentity(clock);
  types((now, at) => decideAdmitPeer(now, candidate(one), at));
  t.same(
    types((now, at) => decideRemovePeer(now, one.peerId, 5, at)),
    ['peer.removed'],
  );
  t.match(views.peers.get(one.peerId), { membership: 'removed', last_seq: 5 });
  t.match(
    refusal((now, at) => decideAdmitPeer(now, candidate(one, { invited: false }), at)),
    {
      code: 'HANDSHAKE_FAILED',
      message: /handshake failed: .* no longer a member/,
    },
  );
  const impostor = { ...newIdentity(clock), peerId: one.peerId };
  t.match(
    refusal((now, at) => decideAdmitPeer(now, candidate(impostor), at)),
    {
      code: 'HANDSHAKE_FAILED',
      message: 'handshake failed: invalid signature',
    },
  );
  t.same(
    types((now, at) => decideAdmitPeer(now, candidate(one), at)),
    ['peer.admitted'],
  );
  t.equal(views.peers.get(one.peerId)?.membership, 'member');
});

t.test('leaving and names', async (t) => {
  const { bootstrap, types, refusal, clock, identity } = createGiven(t);
  bootstrap();
  t.match(
    refusal((now, at) => decideInvitePeer(now, { address: 'x.example:8080', name: 'first' }, at)),
    {
      code: 'ALREADY_EXISTS',
      details: [{ pointer: '/name' }],
    },
  );
  t.match(
    refusal((now, at) => decideInvitePeer(now, { address: '192.0.2.1:8080', name: undefined }, at)),
    {
      code: 'ALREADY_EXISTS',
    },
  );
  t.match(
    refusal((now, at) => decideRemovePeer(now, identity.peerId, 0, at)),
    { code: 'INVALID_REQUEST' },
  );
  t.match(
    refusal((now, at) => decideRemovePeer(now, newIdentity(clock).peerId, 0, at)),
    { code: 'NOT_FOUND' },
  );
  t.same(
    types((now, at) => decideLeave(now, at)),
    ['peer.left'],
  );
  t.match(
    refusal((now, at) => decideLeave(now, at)),
    { code: 'NOT_FOUND' },
  );
  t.match(
    refusal((now, at) => decideInvitePeer(now, { address: '192.0.2.9:8080', name: undefined }, at)),
    { code: 'FORBIDDEN', message: /left cluster/ },
    'what a peer that is out changes reaches nobody',
  );
});
