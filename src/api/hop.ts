import type { PeerId } from '../../events/brand.ts';
import type { Clock } from '../../events/clock.ts';
import { isPublicKey, publicKeyObject, verify } from '../../events/ed25519.ts';
import { ArcticError } from '../../events/errors.ts';
import { parsePeerId } from '../../events/ids.ts';
import type { Views } from '../../projections/views.ts';
import type { Identity } from '../identity/contract.ts';

/**
 * A forwarded request carries `X-Arctic-Hop: <forwarder> <milliseconds> <client address> <signature>`. The member that
 * forwards signs it, so the address in the event is the operator's and nobody else can claim one, and a request that has
 * made its one hop is not sent on again.
 */
export const HOP_HEADER = 'x-arctic-hop';
const LABEL = 'arctic v1 forward';
/** As far as the clocks of members may be apart. */
const MAX_AGE_MS = 60_000;

interface Hop {
  readonly from: PeerId;
  readonly to: PeerId;
  readonly at: number;
  readonly address: string;
  readonly method: string;
  readonly url: string;
  readonly requestId: string;
}

const messageOf = (hop: Hop): Uint8Array =>
  Buffer.from(
    [LABEL, hop.from, hop.to, hop.at, hop.address, hop.method, hop.url, hop.requestId].join('\n'),
    'utf8',
  );

export const writeHop = (identity: Identity, hop: Omit<Hop, 'from'>): string =>
  [
    identity.peerId,
    hop.at,
    hop.address,
    Buffer.from(identity.sign(messageOf({ ...hop, from: identity.peerId }))).toString('base64url'),
  ].join(' ');

/** The client address a member vouches for. UNAUTHORIZED when the header is not a member's for this very request. */
export function readHop(
  header: string,
  request: { readonly method: string; readonly url: string; readonly id: string },
  deps: { readonly views: Views; readonly clock: Clock; readonly localPeer: PeerId },
): string {
  const [from, at, address, signature, ...rest] = header.split(' ');
  const peerId = parsePeerId(from);
  const peer = peerId && deps.views.peers.get(peerId);
  const valid =
    peer?.membership === 'member' &&
    address !== undefined &&
    signature !== undefined &&
    rest.length === 0 &&
    Math.abs(deps.clock.now() - Number(at)) <= MAX_AGE_MS &&
    isPublicKey(Buffer.from(peer.public_key, 'base64')) &&
    verify(
      publicKeyObject(Buffer.from(peer.public_key, 'base64')),
      messageOf({
        from: peer.id,
        to: deps.localPeer,
        at: Number(at),
        address,
        method: request.method,
        url: request.url,
        requestId: request.id,
      }),
      Buffer.from(signature, 'base64url'),
    );
  if (!valid) {
    throw new ArcticError(
      'UNAUTHORIZED',
      `the header X-Arctic-Hop is not a member's signature of this request; clocks more than ${MAX_AGE_MS / 1_000} s apart cause this too.`,
    );
  }
  return address;
}
