import type { Scope } from '../commands/scopes.ts';

/** What one route asks of its caller. The whole of authorisation is this table. */
export interface Access {
  /**
   * `none`: anybody; `any`: a token of any scope; `peer`: another agent, which gossip authenticates by signature; otherwise
   * that scope.
   */
  readonly scope: Scope | 'none' | 'any' | 'peer';
  /** Answers before bootstrap. */
  readonly bare?: true;
  /** Answers while the license is suspended: health, license and what it takes to install one. */
  readonly suspended?: true;
  /** Answers ordinary clients on a peer with `api_access: internal`. */
  readonly internal?: true;
  /** `none` when the request comes from this host. */
  readonly loopbackOpen?: true;
}

const health = { scope: 'none', bare: true, suspended: true, internal: true } as const;
const peerOnly = { scope: 'peer', suspended: true, internal: true } as const;

export const ACCESS: Readonly<Record<string, Access>> = {
  'GET /livez': health,
  'GET /readyz': health,
  'GET /metrics': { scope: 'any', bare: true, suspended: true, internal: true, loopbackOpen: true },
  'GET /v1/openapi.json': { scope: 'none', bare: true, suspended: true },
  'GET /.well-known/openid-configuration': { scope: 'none', suspended: true },
  'GET /.well-known/jwks.json': { scope: 'none', suspended: true },
  'GET /v1/cluster/identity': { scope: 'none', suspended: true },
  'POST /v1/bootstrap': { scope: 'none', bare: true, suspended: true },
  'POST /v1/oauth/token': { scope: 'none', suspended: true },
  'GET /v1/license': { scope: 'any', suspended: true },
  'PUT /v1/license': { scope: 'admin', suspended: true },
  'GET /v1/peers': { scope: 'peers.read' },
  'POST /v1/peers': { scope: 'peers.write' },
  'GET /v1/peers/:id': { scope: 'peers.read' },
  'PUT /v1/peers/:id': { scope: 'peers.write' },
  'DELETE /v1/peers/:id': { scope: 'peers.write' },
  'DELETE /v1/peers/self': { scope: 'peers.write' },
  'GET /v1/services': { scope: 'services.read' },
  'POST /v1/services': { scope: 'services.write' },
  'GET /v1/services/:id': { scope: 'services.read' },
  'PUT /v1/services/:id': { scope: 'services.write' },
  'DELETE /v1/services/:id': { scope: 'services.write' },
  'GET /v1/services/:id/routes': { scope: 'services.read' },
  'POST /v1/services/:id/routes': { scope: 'services.write' },
  'PUT /v1/services/:id/routes/:route_id': { scope: 'services.write' },
  'DELETE /v1/services/:id/routes/:route_id': { scope: 'services.write' },
  'POST /v1/changes': { scope: 'admin' },
  'GET /v1/credentials': { scope: 'credentials.read' },
  'POST /v1/credentials': { scope: 'credentials.write' },
  'DELETE /v1/credentials/:client_id': { scope: 'credentials.write' },
  'POST /v1/cluster/sync': { scope: 'admin' },
  'GET /v1/cluster/status': { scope: 'peers.read' },
  'GET /v1/cluster/lock': { scope: 'admin' },
  'POST /v1/cluster/lock': { scope: 'admin' },
  'DELETE /v1/cluster/lock': { scope: 'admin' },
  'GET /v1/cluster/credentials': { scope: 'admin' },
  'POST /v1/cluster/credentials/rotate': { scope: 'credentials.write' },
  'POST /v1/cluster/init': { scope: 'admin' },
  'PUT /v1/log-level': { scope: 'admin', suspended: true },
  'GET /v1/events': { scope: 'admin' },
  'GET /v1/events/:id': { scope: 'admin' },
  'GET /v1/replay': { scope: 'admin' },
  'GET /v1/replay/verify': { scope: 'admin' },
  'POST /v1/replay/rebuild': { scope: 'admin' },
  'GET /v1/drift': { scope: 'admin' },
  'GET /v1/traffic': { scope: 'services.read', suspended: true },
  'GET /v1/services/:id/flows': { scope: 'services.read' },
  'GET /v1/audit': { scope: 'admin' },
  'GET /v1/reconcilers': { scope: 'services.read' },
  'GET /v1/peer/*': peerOnly,
  'POST /v1/peer/*': peerOnly,
};

/** HEAD is GET without a body, so it asks the same. */
export const accessOf = (method: string, url: string): Access | undefined =>
  ACCESS[`${method === 'HEAD' ? 'GET' : method} ${url}`];
