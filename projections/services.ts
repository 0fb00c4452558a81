import type { ServiceId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { listDigest, rowDigest } from './digest.ts';
import { OldestFirst } from './oldest-first.ts';
import { emptyRegisters, type Registers, write } from './registers.ts';
import { dumpRegisters, loadRegisters, type StampReader, type StampWriter } from './snapshot-codec.ts';
import { earlier, later, type Stamp, timeOf } from './stamp.ts';
import type { Collection, ServiceView } from './views.ts';

type Fields = EventData['service.created'];
export const SERVICE_FIELDS = [
  'name',
  'source_peer_id',
  'target_peer_id',
  'transport_type',
  'requires_interface',
  'desired_ipv4_cidr',
  'desired_ipv6_cidr',
  'fully_transparent',
  'bandwidth_limit_mbps',
  'on_failure',
] as const satisfies readonly (keyof Fields)[];

interface Entry {
  readonly id: ServiceId;
  registers: Registers<Fields>;
  /** Earliest creation; undefined while only an update has arrived. */
  created: Stamp | undefined;
  latest: Stamp | undefined;
  deleted: Stamp | undefined;
  version: number;
  row: ServiceView | undefined;
  digest: string | undefined;
}

/** Services: registers a field, and a tombstone that nothing written later undoes. */
export class Services implements Collection<ServiceId, ServiceView> {
  readonly #all = new Map<ServiceId, Entry>();
  readonly #live = new OldestFirst<Entry, ServiceView>(
    (entry) => entry.created as Stamp,
    (entry) => row(entry),
  );

  get size(): number {
    return this.#live.size;
  }

  get(id: ServiceId): ServiceView | undefined {
    const entry = this.#all.get(id);
    return entry && isLive(entry) ? row(entry) : undefined;
  }

  list(): readonly ServiceView[] {
    return this.#live.rows;
  }

  /** The stamp that made each field what it is, and the tombstone: what explains a lost write. */
  history(id: string): { registers: Registers<Fields>; deleted: Stamp | undefined } | undefined {
    return this.#all.get(id as ServiceId);
  }

  /** True when the service was deleted, whether or not its creation has arrived. */
  isDeleted(id: ServiceId): boolean {
    return this.#all.get(id)?.deleted !== undefined;
  }

  apply(event: AnyEvent, stamp: Stamp): void {
    const id = event.entity as ServiceId;
    const entry = this.#entry(id);
    const wasLive = isLive(entry);
    if (wasLive && event.type === 'service.created') this.#live.remove(entry);
    entry.version += 1;
    entry.latest = later(entry.latest, stamp);
    entry.row = undefined;
    entry.digest = undefined;
    if (event.type === 'service.created') {
      entry.created = earlier(entry.created, stamp);
      if (entry.deleted === undefined) write(entry.registers, SERVICE_FIELDS, event.data, stamp);
    } else if (event.type === 'service.updated') {
      if (entry.deleted === undefined) write(entry.registers, SERVICE_FIELDS, event.data, stamp);
    } else if (event.type === 'service.deleted') {
      if (wasLive) this.#live.remove(entry);
      entry.deleted = earlier(entry.deleted, stamp);
      // What a dead service looked like stays in the log; here it would only take room.
      entry.registers = emptyRegisters();
    }
    if (!isLive(entry)) return;
    if (wasLive && event.type !== 'service.created') this.#live.touch();
    else this.#live.add(entry);
  }

  digest(): string {
    return listDigest(
      this.#live.entries.map((entry) => {
        const r = row(entry);
        entry.digest ??= rowDigest([
          r.id,
          ...SERVICE_FIELDS.map((field) => r[field]),
          r.created_hlc,
          r.updated_at,
          r.version,
        ]);
        return entry.digest;
      }),
    );
  }

  dump(stamps: StampWriter): unknown[] {
    const out: unknown[] = [];
    for (const entry of this.#all.values()) {
      out.push(
        entry.id,
        entry.version,
        stamps.index(entry.created),
        stamps.index(entry.latest),
        stamps.index(entry.deleted),
      );
      dumpRegisters(entry.registers, SERVICE_FIELDS, stamps, out);
    }
    return out;
  }

  load(from: readonly unknown[], stamps: StampReader): void {
    for (let at = 0; at < from.length; ) {
      const entry = this.#entry(from[at++] as ServiceId);
      entry.version = from[at++] as number;
      entry.created = stamps.at(from[at++] as number);
      entry.latest = stamps.at(from[at++] as number);
      entry.deleted = stamps.at(from[at++] as number);
      at = loadRegisters(entry.registers, SERVICE_FIELDS, stamps, from, at);
      if (isLive(entry)) this.#live.add(entry);
    }
  }

  #entry(id: ServiceId): Entry {
    const known = this.#all.get(id);
    if (known) return known;
    const made: Entry = {
      id,
      registers: emptyRegisters(),
      created: undefined,
      latest: undefined,
      deleted: undefined,
      version: 0,
      row: undefined,
      digest: undefined,
    };
    this.#all.set(id, made);
    return made;
  }
}

const isLive = (entry: Entry): boolean => entry.created !== undefined && entry.deleted === undefined;

/** The row of a live entry: its creation has written every field but those of later versions. Spelt out, so that every row has one shape and order. */
function row(entry: Entry): ServiceView {
  if (entry.row) return entry.row;
  const created = entry.created as Stamp;
  const values = entry.registers.values as Omit<
    ServiceView,
    'id' | 'on_failure' | 'created_at' | 'updated_at' | 'created_hlc' | 'version'
  > &
    Pick<Fields, 'on_failure'>;
  entry.row = {
    id: entry.id,
    name: values.name,
    source_peer_id: values.source_peer_id,
    target_peer_id: values.target_peer_id,
    transport_type: values.transport_type,
    requires_interface: values.requires_interface,
    desired_ipv4_cidr: values.desired_ipv4_cidr,
    desired_ipv6_cidr: values.desired_ipv6_cidr,
    fully_transparent: values.fully_transparent,
    bandwidth_limit_mbps: values.bandwidth_limit_mbps,
    on_failure: values.on_failure ?? 'direct',
    created_at: timeOf(created.hlc),
    updated_at: timeOf((entry.latest ?? created).hlc),
    created_hlc: created.hlc,
    version: entry.version,
  };
  return entry.row;
}
