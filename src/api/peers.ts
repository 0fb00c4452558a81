import { Type } from 'typebox';
import type { PeerId } from '../../events/brand.ts';
import {
  decideInvitePeer,
  decideLeave,
  decideRemovePeer,
  decideUpdatePeer,
  requirePeer,
} from '../commands/peers.ts';
import { type ApiContext, type App, actorOf, commandOf, documented, etag } from './context.ts';
import { PagingQuery, pageOf } from './paging.ts';
import { peerResource } from './resources.ts';
import { listOf } from './schemas/fields.ts';
import { AddPeerBody, Peer, PeerParams, UpdatePeerBody } from './schemas/peers.ts';

const ListQuery = Type.Object({ ...PagingQuery }, { additionalProperties: false });

export function peerRoutes(app: App, context: ApiContext): void {
  const { views, executor, log, peerSide } = context;

  app.get(
    '/v1/peers',
    { schema: documented({ querystring: ListQuery }, { 200: listOf('peers', Peer) }) },
    (request) => {
      const { items, next_cursor } = pageOf(views.peers.list(), request.query, (peer) => ({
        hlc: peer.joined_hlc,
        id: peer.id,
      }));
      return { peers: items.map((peer) => peerResource(context, peer)), next_cursor };
    },
  );

  app.post(
    '/v1/peers',
    { schema: documented({ body: AddPeerBody }, { 201: Peer }) },
    async (request, reply) => {
      const { address, name } = request.body;
      const command = commandOf(request);
      executor.execute(command, (now, at) => decideInvitePeer(now, { address, name }, at));
      const id = await peerSide.addPeer(address, name, {
        actor: actorOf(request.caller),
        correlationId: command.correlationId,
      });
      const peer = requirePeer(views, id);
      return reply.code(201).header('etag', etag(peer.version)).send(peerResource(context, peer));
    },
  );

  app.get(
    '/v1/peers/:id',
    { schema: documented({ params: PeerParams }, { 200: Peer }) },
    (request, reply) => {
      const peer = requirePeer(views, request.params.id as PeerId);
      return reply.header('etag', etag(peer.version)).send(peerResource(context, peer));
    },
  );

  app.put(
    '/v1/peers/:id',
    { schema: documented({ params: PeerParams, body: UpdatePeerBody }, { 200: Peer }) },
    (request, reply) => {
      const id = request.params.id as PeerId;
      executor.execute(commandOf(request, id), (now, at) => decideUpdatePeer(now, id, request.body, at));
      const peer = requirePeer(views, id);
      return reply.header('etag', etag(peer.version)).send(peerResource(context, peer));
    },
  );

  app.delete(
    '/v1/peers/:id',
    { schema: documented({ params: PeerParams }, { 204: Type.Null() }) },
    (request, reply) => {
      const id = request.params.id as PeerId;
      executor.execute(commandOf(request, id), (now, at) =>
        decideRemovePeer(now, id, log.versionVector()[id] ?? 0, at),
      );
      return reply.code(204).send();
    },
  );

  app.delete('/v1/peers/self', { schema: documented({}, { 204: Type.Null() }) }, async (request, reply) => {
    executor.execute(commandOf(request, context.identity.peerId), (now, at) => decideLeave(now, at));
    // The others should hear it from us while we still speak to them; the event stands whether they do or not.
    await peerSide.sync(5_000).catch((error: unknown) => {
      context.logger.warn({ err: error }, 'the other peers were not told that this one left');
    });
    return reply.code(204).send();
  });
}
