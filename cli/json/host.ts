import { Type } from 'typebox';
import { ClusterIdField, PeerIdField } from '../../events/catalogue/fields.ts';
import { Count, Nullable, oneOf, strict, Texts, Time } from './strict.ts';

export const VERSION = Type.Object(
  {
    version: Type.String(),
    node: Type.String(),
    platform: Type.String({ description: 'Operating system and processor.' }),
  },
  strict,
);

/** `config view`: the file, with its secrets masked. */
export const CONFIG = Type.Object(
  {
    current_cluster: Type.Optional(ClusterIdField),
    clusters: Type.Record(
      Type.String(),
      Type.Object(
        {
          cluster_id: ClusterIdField,
          customer_id: Type.String(),
          client_id: Type.String(),
          client_secret: Type.Literal('********'),
          peers: Type.Array(
            Type.Object({ peer_id: PeerIdField, name: Type.String(), endpoints: Texts }, strict),
          ),
          default_peer: PeerIdField,
          name: Type.String(),
        },
        strict,
      ),
    ),
    preferences: Type.Object(
      {
        output_format: Type.Optional(oneOf('table', 'json', 'yaml')),
        timeout: Type.Optional(Type.String()),
        backup_retention: Type.Optional(Count),
      },
      strict,
    ),
  },
  strict,
);

/** `agent --cleanup`. */
export const CLEANED = Type.Object({ done: Texts }, strict);
/** `agent install`, `upgrade` and `uninstall`. */
export const INSTALLATION = Type.Object(
  {
    steps: Type.Array(
      Type.Object(
        { what: Type.String(), done: Type.String({ description: 'written, kept, removed ...' }) },
        strict,
      ),
    ),
    systemd: Type.Array(Type.String(), { description: 'Commands that were run.' }),
    not_done: Type.Array(Type.String(), { description: 'Commands that could not be, and why.' }),
  },
  strict,
);
/** `setup`, at its end. */
export const SETUP = Type.Object(
  {
    did: Texts,
    commands: Type.Array(Type.String(), { description: 'The same by hand.' }),
    cluster_yaml: Type.String({ description: 'The same as a compose file.' }),
    proof: Nullable(Type.Object({ proved: Type.Boolean(), text: Type.String() }, strict)),
  },
  strict,
);

const Severity = oneOf('critical', 'warning', 'info');
export const DOCTOR = Type.Object(
  {
    status: oneOf('ok', 'warning', 'critical'),
    areas: Type.Array(
      Type.Object(
        { area: Type.String(), state: oneOf('ok', 'info', 'warning', 'critical', 'not checked') },
        strict,
      ),
    ),
    findings: Type.Array(
      Type.Object(
        {
          code: Type.String(),
          severity: Severity,
          area: Type.String(),
          subject: Nullable(Type.String()),
          text: Type.String({ description: 'What is the matter.' }),
          remedy: Type.String({ description: 'What to do about it.' }),
          symptoms: Type.Array(Type.String(), {
            description: 'Headings of the troubleshooting page that it answers.',
          }),
        },
        strict,
      ),
    ),
    not_checked: Texts,
  },
  strict,
);
export const BUNDLE = Type.Object({ file: Type.String(), pieces: Texts, gaps: Texts }, strict);
export const BACKUP = Type.Object(
  {
    file: Type.String(),
    format: Type.String(),
    created_at: Time,
    version: Type.String(),
    peer_id: PeerIdField,
    head: Type.Integer({ minimum: 0, description: 'Position of the newest event.' }),
    files: Texts,
  },
  strict,
);
export const RESTORED = Type.Object(
  {
    restored: Type.String(),
    peer_id: PeerIdField,
    head: Count,
    created_at: Time,
    aside: Nullable(Type.String({ description: 'Where what was there was put.' })),
  },
  strict,
);
