/** Branded primitives: same bytes, but one kind of id cannot be passed for another. */
declare const brand: unique symbol;
export type Brand<T, B extends string> = T & { readonly [brand]: B };

export type PeerId = Brand<string, 'PeerId'>;
export type ClusterId = Brand<string, 'ClusterId'>;
export type ServiceId = Brand<string, 'ServiceId'>;
export type ClientId = Brand<string, 'ClientId'>;
export type LicenseId = Brand<string, 'LicenseId'>;
export type CustomerId = Brand<string, 'CustomerId'>;
export type EventId = Brand<string, 'EventId'>;
/** Key of a route that never changes and never collides: `rte_` + ULID. Its number (`id`) is what people see. */
export type RouteKey = Brand<string, 'RouteKey'>;
/** Row number in this host's log; local to it. */
export type Position = Brand<number, 'Position'>;
/** Hybrid logical clock as sortable text: 12 hex digits of milliseconds, a dot, 4 hex digits of counter. */
export type Hlc = Brand<string, 'Hlc'>;
/** Canonical CIDR: network address without host bits, lower-case, compressed IPv6. */
export type Cidr = Brand<string, 'Cidr'>;
