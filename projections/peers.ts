import type { ClusterId, EventId, PeerId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { listDigest, rowDigest } from './digest.ts';
import { emptyRegisters, type Registers, write } from './registers.ts';
import { dumpRegisters, loadRegisters, type StampReader, type StampWriter } from './snapshot-codec.ts';
import { compareStamps, earlier, type Stamp, timeOf } from './stamp.ts';
import type { Collection, PeerView } from './views.ts';

interface Fields {
  name: string;
  address: string;
  endpoints: string[];
  api_access: 'open' | 'internal';
  version: string;
}
export const PEER_FIELDS = [
  'name',
  'address',
  'endpoints',
  'api_access',
  'version',
] as const satisfies readonly (keyof Fields)[];

/** A leave or a removal. It stands until an admission names it; no clock undoes it. */
interface Departure {
  readonly kind: 'left' | 'removed';
  readonly stamp: Stamp;
  readonly last_seq: number | undefined;
  /** Removals this one only completes with a later `last_seq`: whatever undoes them undoes it. */
  readonly completes: readonly EventId[];
}

interface Entry {
  readonly id: PeerId;
  readonly registers: Registers<Fields>;
  /** The first key bound to this id stands: a later claim must not replace what members have pinned. */
  key: { stamp: Stamp; public_key: string } | undefined;
  registered: Stamp | undefined;
  registeredCluster: string | undefined;
  admitted: Stamp | undefined;
  readonly departures: Map<EventId, Departure>;
  readonly readmitted: Set<EventId>;
  version: number;
}

/** What peers need to know of the rest of the cluster: who founded it and how many it may have. */
export interface PeerContext {
  readonly cluster: ClusterId | undefined;
  readonly maxNodes: number;
  readonly forkOf: (peer: PeerId) => number | undefined;
}

/** Peers. Rows depend on each other (the node cap sets the youngest aside), so they are made together. */
export class Peers implements Collection<PeerId, PeerView> {
  readonly #context: () => PeerContext;
  readonly #all = new Map<PeerId, Entry>();
  #rows: readonly PeerView[] | undefined;
  #byId: ReadonlyMap<PeerId, PeerView> = new Map();

  constructor(context: () => PeerContext) {
    this.#context = context;
  }

  get size(): number {
    return this.list().length;
  }

  get(id: PeerId): PeerView | undefined {
    this.list();
    return this.#byId.get(id);
  }

  list(): readonly PeerView[] {
    if (this.#rows) return this.#rows;
    this.#rows = this.#makeRows();
    this.#byId = new Map(this.#rows.map((row) => [row.id, row]));
    return this.#rows;
  }

  /** The cluster id or the license changed. */
  touch(): void {
    this.#rows = undefined;
  }

  history(id: string): { registers: Registers<Fields>; deleted: Stamp | undefined } | undefined {
    const entry = this.#all.get(id as PeerId);
    return entry && { registers: entry.registers, deleted: undefined };
  }

  apply(event: AnyEvent, stamp: Stamp): void {
    this.#rows = undefined;
    const entry = this.#entry(event.entity as PeerId);
    entry.version += 1;
    if (event.type === 'peer.registered') {
      write(entry.registers, PEER_FIELDS, event.data, stamp);
      pinKey(entry, event.data.public_key, stamp);
      if (entry.registered === undefined || compareStamps(stamp, entry.registered) < 0) {
        entry.registered = stamp;
        entry.registeredCluster = event.data.cluster_id;
      }
    } else if (event.type === 'peer.admitted') {
      this.#admit(entry, event.data, stamp);
    } else if (event.type === 'peer.updated') {
      write(entry.registers, PEER_FIELDS, event.data as Partial<Fields>, stamp);
    } else if (event.type === 'peer.left') {
      entry.departures.set(stamp.id, { kind: 'left', stamp, last_seq: undefined, completes: [] });
    } else if (event.type === 'peer.removed') {
      const { last_seq, extends: completes = [] } = event.data;
      entry.departures.set(stamp.id, {
        kind: 'removed',
        stamp,
        last_seq,
        completes: completes.map((id) => id as EventId),
      });
    }
  }

  #admit(entry: Entry, data: EventData['peer.admitted'], stamp: Stamp): void {
    const { name, address, endpoints } = data;
    write(
      entry.registers,
      PEER_FIELDS,
      name === null ? { address, endpoints } : { name, address, endpoints },
      stamp,
    );
    pinKey(entry, data.public_key, stamp);
    entry.admitted = earlier(entry.admitted, stamp);
    for (const departure of data.readmits ?? []) entry.readmitted.add(departure as EventId);
  }

  digest(): string {
    return listDigest(
      this.list().map((r) =>
        rowDigest([
          r.id,
          r.name,
          r.public_key,
          r.address,
          r.endpoints,
          r.api_access,
          r.membership,
          r.registered,
          r.last_seq ?? null,
          r.agent_version ?? null,
          r.departures,
          r.joined_hlc,
          r.created_at,
          r.version,
          // Nothing for the many that are honest, so that agents which do not know of forks yet agree on those.
          ...(r.forked_at === undefined ? [] : [r.forked_at]),
        ]),
      ),
    );
  }

  dump(stamps: StampWriter): unknown[] {
    const out: unknown[] = [];
    for (const entry of this.#all.values()) {
      const departures = [...entry.departures.values()].map((d) => [
        d.kind,
        stamps.index(d.stamp),
        d.last_seq ?? -1,
        d.completes,
      ]);
      out.push(
        entry.id,
        entry.version,
        stamps.index(entry.key?.stamp),
        entry.key?.public_key ?? null,
        stamps.index(entry.registered),
        entry.registeredCluster ?? null,
        stamps.index(entry.admitted),
        departures,
        [...entry.readmitted],
      );
      dumpRegisters(entry.registers, PEER_FIELDS, stamps, out);
    }
    return out;
  }

  load(from: readonly unknown[], stamps: StampReader): void {
    for (let at = 0; at < from.length; ) {
      const entry = this.#entry(from[at++] as PeerId);
      entry.version = from[at++] as number;
      const keyStamp = stamps.at(from[at++] as number);
      const publicKey = from[at++] as string | null;
      entry.key = keyStamp && publicKey !== null ? { stamp: keyStamp, public_key: publicKey } : undefined;
      entry.registered = stamps.at(from[at++] as number);
      entry.registeredCluster = (from[at++] as string | null) ?? undefined;
      entry.admitted = stamps.at(from[at++] as number);
      type Row = [Departure['kind'], number, number, EventId[]];
      for (const [kind, index, lastSeq, completes] of from[at++] as Row[]) {
        const stamp = stamps.need(index);
        const last_seq = lastSeq < 0 ? undefined : lastSeq;
        entry.departures.set(stamp.id, { kind, stamp, last_seq, completes });
      }
      for (const id of from[at++] as EventId[]) entry.readmitted.add(id);
      at = loadRegisters(entry.registers, PEER_FIELDS, stamps, from, at);
    }
  }

  #entry(id: PeerId): Entry {
    const known = this.#all.get(id);
    if (known) return known;
    const made: Entry = {
      id,
      registers: emptyRegisters(),
      key: undefined,
      registered: undefined,
      registeredCluster: undefined,
      admitted: undefined,
      departures: new Map(),
      readmitted: new Set(),
      version: 0,
    };
    this.#all.set(id, made);
    return made;
  }

  #makeRows(): readonly PeerView[] {
    const { cluster, maxNodes, forkOf } = this.#context();
    const known: { entry: Entry; created: Stamp; joined: Stamp }[] = [];
    for (const entry of this.#all.values()) {
      const created =
        entry.registered && entry.admitted
          ? earlier(entry.registered, entry.admitted)
          : (entry.registered ?? entry.admitted);
      if (created) known.push({ entry, created, joined: joinedAt(entry, cluster) ?? created });
    }
    const members = known
      .filter(({ entry }) => standing(entry).length === 0)
      .sort((a, b) => compareStamps(a.joined, b.joined));
    const setAside = new Set(members.slice(maxNodes).map(({ entry }) => entry));
    return known
      .sort((a, b) => compareStamps(a.created, b.created))
      .map(({ entry, created, joined }) =>
        toRow(entry, created, joined, {
          setAside: setAside.has(entry),
          forkedAt: forkOf(entry.id),
        }),
      );
  }
}

function pinKey(entry: Entry, publicKey: string, stamp: Stamp): void {
  if (entry.key === undefined || compareStamps(stamp, entry.key.stamp) < 0)
    entry.key = { stamp, public_key: publicKey };
}

/** Departures no admission has undone, earliest first. What only completes others goes with them. */
function standing(entry: Entry): readonly Departure[] {
  const undone = new Set(entry.readmitted);
  for (let before = -1; before !== undone.size; ) {
    before = undone.size;
    for (const [id, { completes }] of entry.departures)
      if (completes.length > 0 && completes.every((one) => undone.has(one))) undone.add(id);
  }
  return [...entry.departures]
    .filter(([id]) => !undone.has(id))
    .map(([, departure]) => departure)
    .sort((a, b) => compareStamps(a.stamp, b.stamp));
}

/**
 * Since when a peer counts against the node cap. The founder of the cluster in force joined by its own registration; everyone
 * else (bootstrapped alone, perhaps long ago) joined when a member admitted it.
 */
const joinedAt = (entry: Entry, cluster: ClusterId | undefined): Stamp | undefined =>
  entry.registeredCluster === cluster ? entry.registered : (entry.admitted ?? entry.registered);

function toRow(
  entry: Entry,
  created: Stamp,
  joined: Stamp,
  { setAside, forkedAt }: { readonly setAside: boolean; readonly forkedAt: number | undefined },
): PeerView {
  const values = entry.registers.values;
  const departures = standing(entry);
  const removals = departures.filter((departure) => departure.kind === 'removed');
  return {
    id: entry.id,
    name: values.name ?? values.address ?? entry.id,
    public_key: entry.key?.public_key ?? '',
    address: values.address ?? '',
    endpoints: values.endpoints ?? [],
    api_access: values.api_access ?? 'open',
    membership:
      removals.length > 0 ? 'removed' : departures.length > 0 ? 'left' : setAside ? 'set_aside' : 'member',
    registered: entry.registered !== undefined,
    // Of removals made at once the most generous stands: what one member has accepted, all may have.
    last_seq: removals.length > 0 ? Math.max(...removals.map((removal) => removal.last_seq ?? 0)) : undefined,
    departures: departures.map((departure) => departure.stamp.id),
    ...(forkedAt === undefined ? {} : { forked_at: forkedAt }),
    agent_version: values.version,
    created_at: timeOf(created.hlc),
    joined_hlc: joined.hlc,
    version: entry.version,
  };
}
