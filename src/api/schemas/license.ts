import { Type } from 'typebox';
import {
  ClientIdField,
  ClusterIdField,
  LicenseIdField,
  NameField,
  PeerIdField,
  PublicKeyField,
} from '../../../events/catalogue/fields.ts';
import { LicenseDocument, LicenseState } from '../../../events/catalogue/license.ts';
import { Nullable, SecretText, strict, Time } from './fields.ts';

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
