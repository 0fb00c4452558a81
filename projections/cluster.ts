import type { ClusterId, CustomerId, PeerId } from '../events/brand.ts';
import type { EventData } from '../events/catalogue.ts';
import type { AnyEvent } from '../events/envelope.ts';
import { sha256 } from './digest.ts';
import type { StampReader, StampWriter } from './snapshot-codec.ts';
import { compareStamps, type Stamp, timeOf } from './stamp.ts';
import type { ClusterView } from './views.ts';

type Created = EventData['cluster.created'];
type Acquired = EventData['cluster.lock_acquired'];

/** All that is known about the highest fence: who claimed it (the earliest holds it), and who gave it back. */
interface Fence {
  readonly fence: number;
  holder: { readonly stamp: Stamp; readonly data: Acquired } | undefined;
  readonly claimants: Set<PeerId>;
  readonly releasedBy: Set<PeerId>;
  broken: boolean;
}

/** The cluster record (the smallest id wins when halves meet) and the lease that compose holds. */
export class Cluster {
  #created: { stamp: Stamp; data: Created } | undefined;
  #top: Fence = freshFence(0);
  #view: ClusterView | undefined;

  get id(): ClusterId | undefined {
    return this.#created?.data.cluster_id as ClusterId | undefined;
  }

  /** Expiry of the lock is for the reader's clock to judge. */
  view(): ClusterView {
    this.#view ??= this.#makeView();
    return this.#view;
  }

  apply(event: AnyEvent, stamp: Stamp): void {
    this.#view = undefined;
    if (event.type === 'cluster.created') this.#create(event.data, stamp);
    else if (event.type === 'cluster.lock_acquired') {
      const top = this.#at(event.data.fence);
      if (!top) return;
      top.claimants.add(stamp.origin);
      if (!top.holder || compareStamps(stamp, top.holder.stamp) < 0) top.holder = { stamp, data: event.data };
    } else if (event.type === 'cluster.lock_released') {
      const top = this.#at(event.data.fence);
      if (!top) return;
      top.releasedBy.add(stamp.origin);
      if (event.data.broken) top.broken = true;
    }
  }

  #create(data: Created, stamp: Stamp): void {
    const held = this.#created;
    const wins =
      held === undefined ||
      data.cluster_id < held.data.cluster_id ||
      (data.cluster_id === held.data.cluster_id && compareStamps(stamp, held.stamp) < 0);
    if (wins) this.#created = { stamp, data };
  }

  /** The record of this fence, or undefined when a higher one has made it history. */
  #at(fence: number): Fence | undefined {
    if (fence < this.#top.fence) return undefined;
    if (fence > this.#top.fence) this.#top = freshFence(fence);
    return this.#top;
  }

  #makeView(): ClusterView {
    const created = this.#created;
    const { fence, holder, claimants, releasedBy, broken } = this.#top;
    // Who claimed the fence and lost gives back only its own claim, not the winner's lock.
    const released =
      broken || [...releasedBy].some((origin) => origin === holder?.stamp.origin || !claimants.has(origin));
    return {
      cluster_id: created?.data.cluster_id as ClusterId | undefined,
      customer_id: created?.data.customer_id as CustomerId | undefined,
      name: created?.data.name ?? null,
      description: created?.data.description ?? null,
      created_at: created && timeOf(created.stamp.hlc),
      lock:
        holder && !released
          ? {
              fence,
              holder: holder.data.holder,
              purpose: holder.data.purpose,
              expires_at_ms: holder.data.expires_at_ms,
              peer_id: holder.stamp.origin,
            }
          : undefined,
      last_fence: fence,
    };
  }

  digest(): string {
    const v = this.view();
    const lock = v.lock && [
      v.lock.fence,
      v.lock.holder,
      v.lock.purpose,
      v.lock.expires_at_ms,
      v.lock.peer_id,
    ];
    return sha256(
      JSON.stringify([
        v.cluster_id ?? null,
        v.customer_id ?? null,
        v.name,
        v.description,
        v.created_at ?? null,
        lock ?? null,
        v.last_fence,
      ]),
    );
  }

  dump(stamps: StampWriter): unknown {
    const top = this.#top;
    return [
      stamps.index(this.#created?.stamp),
      this.#created?.data ?? null,
      top.fence,
      stamps.index(top.holder?.stamp),
      top.holder?.data ?? null,
      [...top.claimants],
      [...top.releasedBy],
      top.broken,
    ];
  }

  load(from: unknown, stamps: StampReader): void {
    type Row = [number, Created | null, number, number, Acquired | null, PeerId[], PeerId[], boolean];
    const [created, data, fence, holder, acquired, claimants, releasedBy, broken] = from as Row;
    this.#created = data ? { stamp: stamps.need(created), data } : undefined;
    this.#top = {
      fence,
      holder: acquired ? { stamp: stamps.need(holder), data: acquired } : undefined,
      claimants: new Set(claimants),
      releasedBy: new Set(releasedBy),
      broken,
    };
    this.#view = undefined;
  }
}

const freshFence = (fence: number): Fence => ({
  fence,
  holder: undefined,
  claimants: new Set(),
  releasedBy: new Set(),
  broken: false,
});
