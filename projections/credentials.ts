import type { ClientId, LicenseId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { listDigest, rowDigest } from './digest.ts';
import { OldestFirst } from './oldest-first.ts';
import type { StampReader, StampWriter } from './snapshot-codec.ts';
import { compareStamps, earlier, type Stamp, timeOf } from './stamp.ts';
import type { Collection, CredentialView } from './views.ts';

interface Secret {
  readonly stamp: Stamp;
  readonly hash: string;
  /** How long the secret before this one is still taken; undefined for the first secret. */
  readonly previousUntil: number | undefined;
}

type Fixed = Pick<EventData['credential.created'], 'scopes' | 'license_id' | 'shared'>;

interface Entry {
  readonly id: ClientId;
  created: Stamp | undefined;
  fixed: Fixed | undefined;
  /** The newest two, newest first: the one in force and the one in its grace period. */
  secrets: readonly Secret[];
  revoked: Stamp | undefined;
  version: number;
  row: CredentialView | undefined;
}

/** OAuth2 clients. Revoked ones stay, so that their tokens can be refused by name. */
export class Credentials implements Collection<ClientId, CredentialView> {
  readonly #all = new Map<ClientId, Entry>();
  readonly #known = new OldestFirst<Entry, CredentialView>(
    (entry) => entry.created as Stamp,
    (entry) => row(entry),
  );

  get size(): number {
    return this.#known.size;
  }

  get(id: ClientId): CredentialView | undefined {
    const entry = this.#all.get(id);
    return entry?.created && row(entry);
  }

  list(): readonly CredentialView[] {
    return this.#known.rows;
  }

  apply(event: AnyEvent, stamp: Stamp): void {
    const entry = this.#entry(event.entity as ClientId);
    const known = entry.created !== undefined;
    if (known && event.type === 'credential.created') this.#known.remove(entry);
    entry.version += 1;
    entry.row = undefined;
    if (event.type === 'credential.created') {
      const { scopes, license_id, shared, secret_hash } = event.data;
      if (entry.created === undefined || compareStamps(stamp, entry.created) < 0) {
        entry.created = stamp;
        entry.fixed = { scopes, license_id, shared };
      }
      addSecret(entry, { stamp, hash: secret_hash, previousUntil: undefined });
    } else if (event.type === 'credential.rotated') {
      addSecret(entry, {
        stamp,
        hash: event.data.secret_hash,
        previousUntil: event.data.previous_valid_until_ms,
      });
    } else if (event.type === 'credential.revoked') {
      entry.revoked = earlier(entry.revoked, stamp);
    }
    if (entry.created === undefined) return;
    if (known && event.type !== 'credential.created') this.#known.touch();
    else this.#known.add(entry);
  }

  digest(): string {
    return listDigest(
      this.list().map((r) =>
        rowDigest([
          r.client_id,
          r.secret_hash,
          r.previous ? [r.previous.secret_hash, r.previous.valid_until_ms] : null,
          r.scopes,
          r.license_id,
          r.shared,
          r.revoked_hlc ?? null,
          r.created_hlc,
          r.version,
        ]),
      ),
    );
  }

  dump(stamps: StampWriter): unknown[] {
    return [...this.#all.values()].map((entry) => [
      entry.id,
      entry.version,
      stamps.index(entry.created),
      entry.fixed ?? null,
      entry.secrets.map((s) => [stamps.index(s.stamp), s.hash, s.previousUntil ?? null]),
      stamps.index(entry.revoked),
    ]);
  }

  load(from: readonly unknown[], stamps: StampReader): void {
    type Row = [ClientId, number, number, Fixed | null, [number, string, number | null][], number];
    for (const [id, version, created, fixed, secrets, revoked] of from as readonly Row[]) {
      const entry = this.#entry(id);
      entry.version = version;
      entry.created = stamps.at(created);
      entry.fixed = fixed ?? undefined;
      entry.secrets = secrets.map(([stamp, hash, until]) => ({
        stamp: stamps.need(stamp),
        hash,
        previousUntil: until ?? undefined,
      }));
      entry.revoked = stamps.at(revoked);
      if (entry.created) this.#known.add(entry);
    }
  }

  #entry(id: ClientId): Entry {
    const known = this.#all.get(id);
    if (known) return known;
    const made: Entry = {
      id,
      created: undefined,
      fixed: undefined,
      secrets: [],
      revoked: undefined,
      version: 0,
      row: undefined,
    };
    this.#all.set(id, made);
    return made;
  }
}

function addSecret(entry: Entry, secret: Secret): void {
  entry.secrets = [...entry.secrets, secret].sort((a, b) => compareStamps(b.stamp, a.stamp)).slice(0, 2);
}

function row(entry: Entry): CredentialView {
  if (entry.row) return entry.row;
  const created = entry.created as Stamp;
  const [current, previous] = entry.secrets;
  entry.row = {
    client_id: entry.id,
    secret_hash: current?.hash ?? '',
    previous:
      previous && current?.previousUntil !== undefined
        ? { secret_hash: previous.hash, valid_until_ms: current.previousUntil }
        : undefined,
    scopes: entry.fixed?.scopes ?? [],
    license_id: (entry.fixed?.license_id ?? '') as LicenseId,
    shared: entry.fixed?.shared ?? false,
    revoked: entry.revoked !== undefined,
    revoked_hlc: entry.revoked?.hlc,
    created_at: timeOf(created.hlc),
    created_hlc: created.hlc,
    version: entry.version,
  };
  return entry.row;
}
