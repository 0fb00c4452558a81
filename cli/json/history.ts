import { Type } from 'typebox';
import { EventIdField, PeerIdField, PublicKeyField } from '../../events/catalogue/fields.ts';
import { LicenseDocument } from '../../events/catalogue/license.ts';
import { Count, Nullable, oneOf, strict, Texts, Time } from './strict.ts';

export const LICENSE_DOCUMENT = LicenseDocument;

const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Stream = oneOf('config', 'local');
const Seq = Type.Integer({ minimum: 1 });

/** `replay --verify --db FILE`: a fold from the first event against the one from the snapshot in the file. */
export const FOLD_VERIFIED = Type.Object(
  {
    matches: Type.Boolean(),
    position: Count,
    events: Count,
    live_digest: Type.String(),
    replayed_digest: Type.String(),
    differing: Texts,
    snapshot_position: Nullable(Count),
    problems: Texts,
  },
  strict,
);

/** `audit verify`. */
export const AUDITED = Type.Object(
  {
    sound: Type.Boolean({ description: 'Nothing at all is wrong.' }),
    faults: Type.Array(Type.Object({ line: Count, what: Type.String() }, strict), {
      description: 'At most a hundred.',
    }),
    fault_count: Count,
    lines: Count,
    events: Count,
    context: Count,
    left_out: Count,
    signatures: Count,
    exporter: Nullable(PeerIdField),
    exported_at: Nullable(Time),
    filter: Nullable(
      Type.Object(
        {
          since: Nullable(Type.String()),
          until: Nullable(Type.String()),
          types: Nullable(Texts),
          actor: Nullable(Type.String()),
        },
        strict,
      ),
    ),
    sealed: Type.Boolean(),
    changes_recomputed: Type.Boolean(),
    chains: Type.Array(
      Type.Object(
        { origin: PeerIdField, stream: Stream, first_seq: Seq, last_seq: Seq, last_hash: Hash },
        strict,
      ),
    ),
    keys: Type.Array(
      Type.Object(
        {
          origin: PeerIdField,
          public_key: PublicKeyField,
          trust: oneOf('pinned', 'admitted', 'exporter', 'unvouched'),
          contradicted_by: Type.Array(PeerIdField),
        },
        strict,
      ),
    ),
  },
  strict,
);

/** `log verify`: of the newest events, of every event, or what is wrong with one. */
export const LOG_VERIFIED = Type.Union([
  Type.Object(
    {
      path: Type.String(),
      peer_id: PeerIdField,
      scope: Type.Literal('tail'),
      ok: Type.Literal(true),
      events: Count,
    },
    strict,
  ),
  Type.Object(
    {
      path: Type.String(),
      peer_id: PeerIdField,
      scope: Type.Literal('full'),
      ok: Type.Literal(true),
      events: Count,
      transactions: Count,
      checkpoints: Count,
      chains: Type.Array(Type.Object({ origin: PeerIdField, stream: Stream, seq: Seq, hash: Hash }, strict)),
      key_conflicts: Type.Array(
        Type.Object({ peer_id: PeerIdField, position: Count, public_key: PublicKeyField }, strict),
      ),
    },
    strict,
  ),
  Type.Object(
    {
      path: Type.String(),
      scope: Type.Literal('full'),
      ok: Type.Literal(false),
      position: Nullable(Count),
      id: Nullable(EventIdField),
      origin: Nullable(Type.String()),
      stream: Nullable(Type.String()),
      seq: Nullable(Count),
      reason: Type.String(),
    },
    strict,
  ),
]);

/** `license root create`. */
export const LICENSE_ROOT = Type.Object(
  {
    root_key: Type.String({ description: 'File with the private key.' }),
    root_pub: Type.String({ description: 'File for trust-roots/ of every host.' }),
    public_key: PublicKeyField,
  },
  strict,
);
/** `license status` of an agent that the configuration has no credentials for. */
export const FOREIGN_LICENSE = Type.Object({ license_id: Type.String(), cluster_id: Type.String() }, strict);
