import { Type } from 'typebox';
import { ClientIdField, ClusterIdField, PeerIdField, ServiceIdField } from '../../events/catalogue/fields.ts';
import { strict } from './strict.ts';

/** What commands say of what is gone or changed when the API itself has nothing to say. */
export const DELETED_PEER = Type.Object({ deleted: PeerIdField }, strict);
export const LEFT = Type.Object({ left: PeerIdField }, strict);
export const DELETED_SERVICE = Type.Object({ deleted: ServiceIdField }, strict);
export const DELETED_ROUTE = Type.Object(
  { deleted: Type.Integer({ minimum: 1 }), service_id: ServiceIdField },
  strict,
);
export const REVOKED = Type.Object({ revoked: ClientIdField }, strict);
export const UNLOCKED = Type.Object(
  { released: Type.Boolean({ description: 'False: nobody held it.' }) },
  strict,
);
export const CURRENT = Type.Object({ current_cluster: ClusterIdField }, strict);
export const RENAMED = Type.Object({ cluster_id: ClusterIdField, name: Type.String() }, strict);
