import { Type } from 'typebox';
import { Scope as ShortScope } from '../../events/catalogue/credential.ts';
import {
  AddressField,
  ClientIdField,
  ClusterIdField,
  CustomerIdField,
  EndpointField,
  LicenseIdField,
  NameField,
  PeerIdField,
  PublicKeyField,
  ServiceIdField,
} from '../../events/catalogue/fields.ts';
import { LicenseDocument, LicenseState } from '../../events/catalogue/license.ts';
import { OnFailure, TransportType } from '../../events/catalogue/service.ts';
import { EventEnvelope } from '../../events/schema-check.ts';

export const strict = { additionalProperties: false } as const;
export const Nullable = <S extends import('typebox').TSchema>(
  schema: S,
  options: { readonly description?: string } = {},
) => Type.Union([schema, Type.Null()], options);
export const Time = Type.String({ format: 'date-time' });
const CidrText = Type.String({ minLength: 1, maxLength: 64 });
const Version = Type.Integer({ minimum: 0, description: 'What If-Match compares; also the ETag.' });
const Cursor = Nullable(
  Type.String({ description: 'Give it as `cursor` for the next page; null on the last.' }),
);
export const Priority = Type.Integer({ minimum: 0, maximum: 65_535, description: 'Higher wins.' });
export const ApiAccess = Type.Union([Type.Literal('open'), Type.Literal('internal')]);
export const RouteNumber = Type.Integer({ minimum: 1 });

export const listOf = (name: string, item: import('typebox').TSchema) =>
  Type.Object({ [name]: Type.Array(item), next_cursor: Cursor }, strict);

export const ErrorAnswer = Type.Object(
  {
    error: Type.String({ description: 'For a person.' }),
    code: Type.String({ pattern: '^[A-Z_]+$' }),
    details: Type.Optional(
      Type.Array(Type.Object({ pointer: Type.String(), message: Type.String() }, strict)),
    ),
  },
  strict,
);

// ---- Peers

export const Peer = Type.Object(
  {
    id: PeerIdField,
    name: NameField,
    public_key: PublicKeyField,
    is_local: Type.Boolean(),
    address: AddressField,
    endpoints: Type.Array(EndpointField),
    state: Type.Union(
      (['pending', 'active', 'unreachable', 'left', 'removed'] as const).map((one) => Type.Literal(one)),
    ),
    reason: Nullable(Type.String()),
    api_access: ApiAccess,
    last_seen_at: Nullable(Time),
    created_at: Time,
    version: Version,
  },
  strict,
);
export const PeerParams = Type.Object({ id: PeerIdField }, strict);
export const AddPeerBody = Type.Object({ address: AddressField, name: Type.Optional(NameField) }, strict);
export const UpdatePeerBody = Type.Object(
  {
    name: Type.Optional(NameField),
    address: Type.Optional(AddressField),
    endpoints: Type.Optional(Type.Array(EndpointField, { minItems: 1, maxItems: 16 })),
    api_access: Type.Optional(ApiAccess),
  },
  { ...strict, minProperties: 1 },
);

// ---- Services and routes

const ReconcileState = Type.Object(
  {
    state: Type.Union([Type.Literal('applied'), Type.Literal('pending'), Type.Literal('failed')]),
    reason: Nullable(Type.String()),
  },
  strict,
);
export const Route = Type.Object(
  {
    id: RouteNumber,
    service_id: ServiceIdField,
    priority: Priority,
    source_cidr: Nullable(CidrText),
    dest_cidr: Nullable(CidrText),
    created_at: Time,
    version: Version,
  },
  strict,
);
/** Over what its flows travel now, as the peer that is asked knows when it is the source. */
const CarriedBy = Type.Object(
  {
    transport: Type.Union([Type.Literal('tcp'), Type.Literal('kcp')]),
    reason: Type.String({ maxLength: 200 }),
    round_trip_ms: Nullable(Type.Number({ minimum: 0 })),
    loss_percent: Nullable(Type.Number({ minimum: 0, maximum: 100 })),
  },
  strict,
);
export const Service = Type.Object(
  {
    id: ServiceIdField,
    name: NameField,
    source_peer_id: PeerIdField,
    target_peer_id: PeerIdField,
    transport_type: TransportType,
    requires_interface: Type.Boolean(),
    desired_ipv4_cidr: Nullable(CidrText),
    desired_ipv6_cidr: Nullable(CidrText),
    interface_name: Nullable(Type.String({ maxLength: 15 })),
    interface_ipv4_cidr: Nullable(CidrText),
    interface_ipv6_cidr: Nullable(CidrText),
    fully_transparent: Type.Boolean(),
    bandwidth_limit_mbps: Type.Number({ minimum: 0, description: 'Each direction; 0 is unlimited.' }),
    on_failure: OnFailure,
    route_count: Type.Integer({ minimum: 0 }),
    routes: Type.Array(Route),
    created_at: Time,
    updated_at: Time,
    version: Version,
    carried_by: Nullable(CarriedBy),
    status: Type.Object(
      { network: ReconcileState, firewall: ReconcileState, tproxy: ReconcileState, iptun: ReconcileState },
      strict,
    ),
  },
  strict,
);
const serviceSettings = {
  name: Type.Optional(NameField),
  source_peer_id: Type.Optional(PeerIdField),
  transport_type: Type.Optional(TransportType),
  requires_interface: Type.Optional(Type.Boolean()),
  desired_ipv4_cidr: Type.Optional(Nullable(CidrText)),
  desired_ipv6_cidr: Type.Optional(Nullable(CidrText)),
  fully_transparent: Type.Optional(Type.Boolean()),
  bandwidth_limit_mbps: Type.Optional(Type.Number({ minimum: 0, maximum: 1_000_000 })),
  on_failure: Type.Optional(OnFailure),
};
export const ServiceParams = Type.Object({ id: ServiceIdField }, strict);
export const CreateServiceBody = Type.Object({ ...serviceSettings, target_peer_id: PeerIdField }, strict);
/** Of requests that change or delete what carries connections. */
export const FlowEffectQuery = Type.Object(
  {
    reset_flows: Type.Optional(
      Type.Boolean({
        description:
          'End the connections that were established by what is changed or deleted; by default they go on until they end by themselves.',
      }),
    ),
  },
  strict,
);
export const UpdateServiceBody = Type.Object(
  { ...serviceSettings, target_peer_id: Type.Optional(PeerIdField) },
  { ...strict, minProperties: 1 },
);
export const RouteParams = Type.Object({ id: ServiceIdField, route_id: RouteNumber }, strict);
const RouteCidrs = {
  source_cidr: Type.Optional(Nullable(CidrText)),
  dest_cidr: Type.Optional(Nullable(CidrText)),
};
export const AddRoutesBody = Type.Object(
  {
    routes: Type.Array(Type.Object({ priority: Priority, ...RouteCidrs }, strict), {
      minItems: 1,
      maxItems: 10_000,
    }),
  },
  strict,
);
export const UpdateRouteBody = Type.Object(
  { priority: Type.Optional(Priority), ...RouteCidrs },
  { ...strict, minProperties: 1 },
);
export const RoutesAdded = Type.Object(
  { route_ids: Type.Array(RouteNumber), count: Type.Integer({ minimum: 1 }) },
  strict,
);

// ---- Several changes in one transaction

const changeOf = <K extends string, P extends import('typebox').TProperties>(kind: K, fields: P) =>
  Type.Object({ kind: Type.Literal(kind), ...fields }, strict);
const NewRoutes = Type.Array(Type.Object({ priority: Priority, ...RouteCidrs }, strict), {
  maxItems: 10_000,
});
export const Change = Type.Union([
  changeOf('update_peer', { id: PeerIdField, ...UpdatePeerBody.properties }),
  changeOf('create_service', {
    ...CreateServiceBody.properties,
    routes: Type.Optional(NewRoutes),
  }),
  changeOf('update_service', { id: ServiceIdField, ...UpdateServiceBody.properties }),
  changeOf('delete_service', { id: ServiceIdField }),
  changeOf('add_routes', { service_id: ServiceIdField, routes: NewRoutes }),
  changeOf('update_route', { service_id: ServiceIdField, id: RouteNumber, ...UpdateRouteBody.properties }),
  changeOf('delete_route', { service_id: ServiceIdField, id: RouteNumber }),
]);
export const ChangesBody = Type.Object(
  { changes: Type.Array(Change, { minItems: 1, maxItems: 10_000 }) },
  strict,
);
export const ChangesAnswer = Type.Object(
  {
    count: Type.Integer({ minimum: 0, description: 'Events that were appended, in one transaction.' }),
    services: Type.Array(Type.Object({ id: ServiceIdField, name: NameField }, strict), {
      description: 'Those that were created, in the order of the changes.',
    }),
  },
  strict,
);

// ---- License, bootstrap, credentials

/** Checked in full by the license's own verification, which says more about what is wrong with it. */
const LicenseInput = Type.Record(Type.String(), Type.Unknown());
export const License = Type.Object(
  {
    ...LicenseDocument.properties,
    state: LicenseState,
    state_changes_at: Nullable(Time),
    nodes: Type.Integer({ minimum: 0 }),
    services: Type.Integer({ minimum: 0 }),
  },
  strict,
);
export const ReplaceLicenseBody = LicenseInput;
export const BootstrapBody = Type.Object(
  {
    license: LicenseInput,
    name: Type.Optional(NameField),
    description: Type.Optional(Type.String({ maxLength: 500 })),
  },
  strict,
);
const SecretText = Type.String({ pattern: '^sec_[A-Za-z0-9_-]{43}$' });
export const BootstrapAnswer = Type.Object(
  {
    peer_id: PeerIdField,
    peer_public_key: PublicKeyField,
    client_id: ClientIdField,
    client_secret: SecretText,
    license_id: LicenseIdField,
    cluster_id: ClusterIdField,
    expires_at: Time,
    max_nodes: Type.Integer(),
    max_services: Type.Integer(),
  },
  strict,
);
const credential = {
  client_id: ClientIdField,
  scopes: Type.Array(ShortScope),
  license_id: LicenseIdField,
  created_at: Time,
  last_used_at: Nullable(Time),
  version: Version,
};
export const Credential = Type.Object(credential, strict);
export const NewCredential = Type.Object({ ...credential, client_secret: SecretText }, strict);
export const CredentialParams = Type.Object({ client_id: ClientIdField }, strict);
export const CreateCredentialBody = Type.Object(
  {
    scopes: Type.Optional(Type.Array(Type.String({ maxLength: 60 }), { minItems: 1, maxItems: 14 })),
  },
  strict,
);
export const SharedCredential = Type.Object(
  { ...credential, previous_secret_valid_until: Nullable(Time) },
  strict,
);
export const RotatedCredential = Type.Object(
  { client_id: ClientIdField, client_secret: SecretText, previous_secret_valid_until: Time },
  strict,
);
export const TokenBody = Type.Object({
  grant_type: Type.String({ maxLength: 100 }),
  client_id: Type.Optional(Type.String({ maxLength: 100 })),
  client_secret: Type.Optional(Type.String({ maxLength: 200 })),
  scope: Type.Optional(Type.String({ maxLength: 1_000 })),
});
export const TokenAnswer = Type.Object(
  {
    access_token: Type.String(),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer(),
    scope: Type.String(),
  },
  strict,
);

// ---- Cluster

export const ClusterIdentity = Type.Object(
  {
    peer_id: PeerIdField,
    public_key: PublicKeyField,
    license_id: LicenseIdField,
    cluster_id: ClusterIdField,
    version: Type.String(),
  },
  strict,
);
export const PeerStatus = Type.Object(
  {
    ...Peer.properties,
    membership: Type.String(),
    agent_version: Nullable(Type.String()),
    lag: Type.Integer({
      minimum: 0,
      description: 'Events held here that the peer, by its last word, lacks.',
    }),
    log_head: Nullable(Type.Integer()),
    projection_digest: Nullable(Type.String()),
    clock_skew_ms: Nullable(Type.Number()),
  },
  strict,
);
export const Lock = Type.Object(
  {
    fence: Type.Integer({ minimum: 1 }),
    holder: Type.String(),
    purpose: Type.String(),
    expires_at: Time,
    peer_id: PeerIdField,
  },
  strict,
);
export const LockAnswer = Type.Object({ locked: Type.Boolean(), lock: Nullable(Lock) }, strict);
export const AcquireLockBody = Type.Object(
  {
    purpose: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000-\\u001f\\u007f]+$' }),
    ),
    holder: Type.Optional(
      Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000-\\u001f\\u007f]+$' }),
    ),
    ttl_seconds: Type.Optional(Type.Integer({ minimum: 5, maximum: 3_600 })),
  },
  strict,
);
const HealthCondition = Type.Object(
  {
    code: Type.String(),
    severity: Type.Union([Type.Literal('critical'), Type.Literal('warning'), Type.Literal('info')]),
    area: Type.String(),
    subject: Nullable(Type.String()),
    text: Type.String({ description: 'What is the matter.' }),
    remedy: Type.String({ description: 'What to do about it.' }),
  },
  strict,
);
export const ClusterStatus = Type.Object(
  {
    cluster_id: ClusterIdField,
    customer_id: CustomerIdField,
    name: Nullable(Type.String()),
    description: Nullable(Type.String()),
    created_at: Time,
    peer_id: PeerIdField,
    version: Type.String(),
    license_state: LicenseState,
    log_head: Type.Integer({ minimum: 0 }),
    projection_digest: Type.String(),
    lock: Nullable(Lock),
    conditions: Type.Array(HealthCondition, { description: 'Health conditions that hold, the worst first.' }),
    peers: Type.Array(PeerStatus),
  },
  strict,
);
export const InitBody = Type.Object({ force: Type.Optional(Type.Boolean()) }, strict);
export const InitAnswer = Type.Object({ cluster_id: ClusterIdField, initialised: Type.Boolean() }, strict);
export const LogLevelBody = Type.Object(
  {
    level: Type.Union([Type.Literal('trace'), Type.Literal('debug'), Type.Literal('info')]),
    seconds: Type.Integer({
      minimum: 1,
      maximum: 3_600,
      description: 'The level falls back by itself then.',
    }),
  },
  strict,
);
export const LogLevelAnswer = Type.Object({ level: Type.String(), until: Time }, strict);
export const Triggered = Type.Object({ triggered: Type.Literal(true) }, strict);

// ---- Observation

export const Health = Type.Object({ status: Type.Literal('ok'), timestamp: Time }, strict);
export const Readiness = Type.Object(
  {
    status: Type.Union([Type.Literal('ok'), Type.Literal('unavailable')]),
    timestamp: Time,
    checks: Type.Array(
      Type.Object({ name: Type.String(), ok: Type.Boolean(), detail: Type.String() }, strict),
    ),
  },
  strict,
);
export const Reconciler = Type.Object(
  {
    name: Type.String(),
    state: ReconcileState.properties.state,
    last_run_at: Nullable(Time),
    last_error: Nullable(Type.String()),
    next_run_at: Nullable(Time),
    applied_digest: Nullable(Type.String()),
    applied_position: Nullable(Type.Integer()),
    consecutive_failures: Type.Integer({ minimum: 0 }),
    condition: Nullable(
      Type.String({ description: 'What an operator should know although nothing failed.' }),
    ),
  },
  strict,
);
const EventSummary = Nullable(
  Type.Object(
    {
      id: EventEnvelope.properties.id,
      position: Type.Integer({ minimum: 1 }),
      time: Time,
      type: Type.String(),
      actor: EventEnvelope.properties.actor,
      text: Type.String({ description: 'The event in one line.' }),
    },
    strict,
  ),
);
const Culprit = Nullable(
  Type.Object({ pid: Nullable(Type.Integer()), program: Nullable(Type.String()) }, strict),
);
const DifferenceFields = {
  item: Type.String(),
  desired: Nullable(Type.String()),
  observed: Nullable(Type.String()),
};
export const Drift = Type.Object(
  {
    drift: Type.Boolean(),
    reconcilers: Type.Array(
      Type.Object(
        {
          reconciler: Type.String(),
          since: Nullable(
            Type.Object(
              {
                time: Time,
                exact: Type.Boolean({
                  description: 'False: not before this time, when a pass last found everything in place.',
                }),
                event_id: Nullable(EventEnvelope.properties.id),
                position: Nullable(Type.Integer({ minimum: 1 })),
                reason: Nullable(Type.String({ description: 'Why it is not repaired.' })),
                by: Culprit,
              },
              strict,
            ),
            { description: 'Since when they differ; null where there is no difference.' },
          ),
          differences: Type.Array(
            Type.Object(
              { ...DifferenceFields, service_id: Type.Optional(ServiceIdField), last_event: EventSummary },
              strict,
            ),
          ),
        },
        strict,
      ),
    ),
  },
  strict,
);
export const DriftThen = Type.Object(
  {
    at: Time,
    position: Type.Integer({ minimum: 0, description: 'The newest event of this log by then.' }),
    drift: Type.Boolean(),
    reconcilers: Type.Array(
      Type.Object(
        {
          reconciler: Type.String(),
          state: Type.Union([
            Type.Literal('matched', { description: 'The last pass left in place what was desired then.' }),
            Type.Literal('drifted', { description: 'Something had been changed and was not repaired yet.' }),
            Type.Literal('pending', { description: 'A newer desired state was not applied yet.' }),
            Type.Literal('failed', { description: 'The last pass could not apply what was desired.' }),
            Type.Literal('stopped', { description: 'The agent did not run; nobody looked.' }),
            Type.Literal('unknown', { description: 'No pass is recorded by then.' }),
          ]),
          text: Type.String({ description: 'For a person.' }),
          desired_digest: Nullable(Type.String()),
          applied_digest: Nullable(Type.String()),
          event_id: Nullable(EventEnvelope.properties.id),
          until: Nullable(Type.Object({ time: Time, event_id: EventEnvelope.properties.id }, strict), {
            description: 'When that ended, where it has.',
          }),
          by: Culprit,
          differences: Type.Array(Type.Object(DifferenceFields, strict)),
        },
        strict,
      ),
    ),
  },
  strict,
);
export const Reconcilers = Type.Object({ reconcilers: Type.Array(Reconciler) }, strict);
export const EventWithOutcome = Type.Object(
  {
    ...EventEnvelope.properties,
    text: Type.String({ description: 'The event in one line.' }),
    outcome: Type.Array(
      Type.Object(
        {
          field: Type.String(),
          stands: Type.Boolean(),
          winner: EventEnvelope.properties.id,
          reason: Type.String(),
          winning_event: EventSummary,
        },
        strict,
      ),
      { description: 'What became of each field it wrote: the loser of a conflict stays in the log.' },
    ),
  },
  strict,
);
export const Replayed = Type.Object(
  {
    position: Type.Integer({ minimum: 0 }),
    hlc: Nullable(Type.String()),
    events: Type.Integer({ minimum: 0 }),
    digest: Type.String(),
    state: Type.Record(Type.String(), Type.Unknown()),
  },
  strict,
);
const Mark = Type.Object(
  {
    id: EventEnvelope.properties.id,
    position: Type.Integer({ minimum: 1 }),
    time: Time,
    type: Type.String(),
    origin: PeerIdField,
    actor: EventEnvelope.properties.actor,
  },
  { ...strict, description: 'The event that made it.' },
);
const MomentSummary = Type.Object(
  { position: Type.Integer({ minimum: 0 }), hlc: Nullable(Type.String()), digest: Type.String() },
  strict,
);
const PlainRow = Nullable(Type.Record(Type.String(), Type.Unknown()));
export const StateCompared = Type.Object(
  {
    from: MomentSummary,
    to: MomentSummary,
    changes: Type.Array(
      Type.Object(
        {
          projection: Type.String(),
          kind: Type.Union([Type.Literal('added'), Type.Literal('removed'), Type.Literal('changed')]),
          item: Type.String(),
          label: Type.String(),
          before: PlainRow,
          after: PlainRow,
          fields: Type.Array(
            Type.Object(
              { field: Type.String(), before: Type.Unknown(), after: Type.Unknown(), event: Nullable(Mark) },
              strict,
            ),
          ),
          event: Nullable(Mark),
        },
        strict,
      ),
    ),
  },
  strict,
);
export const ReplayVerified = Type.Object(
  {
    matches: Type.Boolean(),
    position: Type.Integer({ minimum: 0 }),
    events: Type.Integer({ minimum: 0 }),
    live_digest: Type.String(),
    replayed_digest: Type.String(),
    differing: Type.Array(Type.String()),
  },
  strict,
);
export const EventList = listOf('events', EventEnvelope);

// ---- OAuth

export const KeySet = Type.Object(
  {
    keys: Type.Array(
      Type.Object(
        {
          kty: Type.Literal('OKP'),
          crv: Type.Literal('Ed25519'),
          x: Type.String(),
          kid: PeerIdField,
          alg: Type.Literal('EdDSA'),
          use: Type.Literal('sig'),
        },
        strict,
      ),
    ),
  },
  strict,
);
const Texts = Type.Array(Type.String());
export const ServerMetadata = Type.Object(
  {
    issuer: PeerIdField,
    token_endpoint: Type.String(),
    jwks_uri: Type.String(),
    grant_types_supported: Texts,
    response_types_supported: Texts,
    subject_types_supported: Texts,
    token_endpoint_auth_methods_supported: Texts,
    id_token_signing_alg_values_supported: Texts,
    scopes_supported: Texts,
  },
  strict,
);
