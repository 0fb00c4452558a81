import { Type } from 'typebox';

/** Crockford base 32, 26 characters (ULID). */
const ulid = '[0-9A-HJKMNP-TV-Z]{26}';
const id = (prefix: string, what: string) =>
  Type.String({
    pattern: `^${prefix}_${ulid}$`,
    description: what,
    examples: [`${prefix}_01JD0000000000000000000000`],
  });

export const PeerIdField = id('peer', 'Peer id.');
export const ClusterIdField = id('clu', 'Cluster id; the smaller of two is the older.');
export const ServiceIdField = id('svc', 'Service id.');
export const ClientIdField = id('cli', 'OAuth2 client id.');
export const EventIdField = id('evt', 'Event id.');
export const RouteKeyField = id('rte', 'Unchanging key of a route.');
export const LicenseIdField = Type.String({ pattern: '^lic_[0-9A-Za-z]{1,40}$' });
export const CustomerIdField = Type.String({ pattern: '^cust_[0-9A-Za-z_-]{1,60}$' });
/** 32 bytes in base64. */
export const PublicKeyField = Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' });
/** What people call a thing: printable, without control characters, 1 to 63 characters. */
export const NameField = Type.String({
  minLength: 1,
  maxLength: 63,
  pattern: '^[^\\u0000-\\u001f\\u007f]+$',
});
/** `host:port`, `1.2.3.4:8080`, `[2001:db8::1]:8080`. */
export const AddressField = Type.String({
  minLength: 3,
  maxLength: 261,
  pattern: '^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+):[0-9]{1,5}$',
});
export const EndpointField = Type.String({ maxLength: 300, pattern: '^https?://[^\\s/]+$' });
export const CidrField = Type.String({ minLength: 3, maxLength: 43 });
export const TimestampField = Type.String({ format: 'date-time' });
export const HlcField = Type.String({ pattern: '^[0-9a-f]{12}\\.[0-9a-f]{4}$' });
