import { deflateRawSync } from 'node:zlib';
import type { ClusterId, PeerId, Position } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { createSigner } from '../../events/ed25519.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import { Fold } from '../../projections/fold.ts';
import type { CallResult, Channel } from '../../src/gossip/machine/channel.ts';
import type { GossipLog } from '../../src/gossip/machine/core.ts';
import { createMachine, type Machine } from '../../src/gossip/machine/machine.ts';
import type { Reply, Request } from '../../src/gossip/messages.ts';
import { DEFLATE_FROM } from '../../src/gossip/parameters.ts';
import { newSession, type Session, type Sessions } from '../../src/gossip/sessions.ts';
import { createMemoryLog } from './memory-log.ts';
import { seededRandom, VirtualTime } from './virtual-clock.ts';
import { SYSTEM_CONTEXT, testLicense } from './world.ts';

/** `AG01`, session, counter, time and tag of a sealed body, and a modest HTTP head. */
const OVERHEAD = 52 + 180;

const ulid = (index: number): string => `01JD${String(index).padStart(22, '0')}`;

/** The history every host starts with: kept once, however many hosts there are. */
interface Ground {
  readonly views: Fold;
  readonly chains: ReadonlyMap<PeerId, readonly AnyEvent[]>;
  readonly size: number;
}

/** A log that shares its beginning with all others. Signatures are not looked at: nobody in the crowd lies. */
class SharedLog implements GossipLog {
  readonly origin: PeerId;
  readonly meta: GossipLog['meta'];
  readonly #ground: Ground;
  readonly #own = new Map<PeerId, AnyEvent[]>();
  readonly #listeners = new Set<(events: readonly AnyEvent[]) => void>();
  readonly #make: (previous: AnyEvent, label: string) => AnyEvent;
  #head: number;
  /** Local events are counted, not kept. */
  readonly local = new Map<string, number>();
  /** Peers this host gave up, in order. */
  readonly unreachable: PeerId[] = [];

  constructor(origin: PeerId, ground: Ground, make: (previous: AnyEvent, label: string) => AnyEvent) {
    this.origin = origin;
    this.#ground = ground;
    this.#head = ground.size;
    this.#make = make;
    const values = new Map<string, string>();
    this.meta = { get: (key) => values.get(key), set: (key, value) => void values.set(key, value) };
  }

  get head(): Position {
    return this.#head as Position;
  }

  #length(origin: PeerId): number {
    return (this.#ground.chains.get(origin)?.length ?? 0) + (this.#own.get(origin)?.length ?? 0);
  }

  #store(origin: PeerId, events: readonly AnyEvent[]): void {
    const list = this.#own.get(origin) ?? [];
    list.push(...events);
    this.#own.set(origin, list);
    this.#head += events.length;
    for (const listener of this.#listeners) listener(events);
  }

  write(label: string): AnyEvent {
    const previous = this.range(this.origin, this.#length(this.origin), 1)[0];
    if (previous === undefined) throw new Error('an empty log writes nothing');
    const event = this.#make(previous, label);
    this.#store(this.origin, [event]);
    return event;
  }

  append: GossipLog['append'] = (drafts) => {
    for (const { type, entity } of drafts) {
      this.local.set(type, (this.local.get(type) ?? 0) + 1);
      if (type === 'peer.unreachable') this.unreachable.push(entity as PeerId);
    }
    return [];
  };

  receive: GossipLog['receive'] = (from, _key, batch) => {
    const have = this.#length(from);
    const first = batch[0];
    if (first !== undefined && first.seq > have + 1) return { kind: 'gap', have };
    const fresh = batch.filter((event) => event.seq > have);
    if (fresh.length > 0) this.#store(from, fresh);
    return { kind: 'appended', events: fresh, duplicates: batch.length - fresh.length, ignored: 0 };
  };

  versionVector: GossipLog['versionVector'] = () =>
    Object.fromEntries([...this.#ground.chains.keys()].map((origin) => [origin, this.#length(origin)]));

  range: GossipLog['range'] = (origin, fromSeq, most) => {
    const ground = this.#ground.chains.get(origin) ?? [];
    const own = this.#own.get(origin) ?? [];
    const after = Math.max(0, fromSeq - 1 - ground.length);
    return [...ground.slice(fromSeq - 1, fromSeq - 1 + most), ...own.slice(after, after + most)].slice(
      0,
      most,
    );
  };

  read: GossipLog['read'] = () => [];

  subscribe: GossipLog['subscribe'] = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

export interface Member {
  readonly peerId: PeerId;
  readonly log: SharedLog;
  readonly machine: Machine;
  /** Peers it gave up, in order. */
  readonly unreachable: readonly PeerId[];
  /** Added to every way to and from this host, ms: an overloaded or far host. */
  delay: () => number;
  up: boolean;
  /** Until then it stands still: its timers and whatever reaches it wait (virtual ms). */
  frozenUntil: number;
}

export interface CrowdOptions {
  readonly heartbeat?: number;
  readonly loss?: number;
  readonly minDelay?: number;
  readonly maxDelay?: number;
}

/**
 * Many hosts that are one cluster already. The protocol's own code decides everything; what is left out is what does not matter
 * for its speed: keys are not agreed on, bodies are not sealed (their size is reckoned), views and the first events are shared.
 */
export class Crowd {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly members: Member[] = [];
  idleBytes = 0;
  changeBytes = 0;
  pushes = 0;
  loss: number;
  readonly #byId = new Map<PeerId, Member>();
  readonly #options: Required<CrowdOptions>;

  constructor(count: number, seed: number, options: CrowdOptions = {}) {
    this.random = seededRandom(seed);
    this.#options = { heartbeat: 5_000, loss: 0, minDelay: 1, maxDelay: 20, ...options };
    this.loss = this.#options.loss;
    const ground = this.#found(count);
    for (const origin of ground.chains.keys()) this.#add(origin, ground);
    // Machines that all start in one instant would beat in step for ever.
    for (const member of this.members)
      this.time.after(this.random.fraction() * this.#options.heartbeat, () => member.machine.start());
    this.time.advance(3 * this.#options.heartbeat);
  }

  #found(count: number): Ground {
    const clock = this.time.clock();
    const { random } = this;
    const signer = createSigner(new Uint8Array(32).fill(1));
    const key = Buffer.from(signer.publicKey).toString('base64');
    const license = testLicense({ max_nodes: count });
    const views = new Fold();
    const chains = new Map<PeerId, readonly AnyEvent[]>();
    const ids = Array.from({ length: count }, (_, i) => `peer_${ulid(i + 1)}` as PeerId);
    const cluster_id = `clu_${ulid(1)}` as ClusterId;
    let size = 0;
    for (const [index, peer_id] of ids.entries()) {
      const log = createMemoryLog({ origin: peer_id }, { signer, clock, random });
      const address = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}:8080`;
      const place = { address, endpoints: [`http://${address}`], public_key: key };
      const founding =
        index === 0
          ? ([
              {
                type: 'cluster.created',
                entity: cluster_id,
                data: { cluster_id, customer_id: license.customer_id, name: null, description: null },
              },
              {
                type: 'license.installed',
                entity: license.license_id,
                data: { license: { ...license, features: [] as string[] } },
              },
              ...ids.slice(1).map(
                (other) =>
                  ({
                    type: 'peer.admitted',
                    entity: other,
                    data: { peer_id: other, name: null, ...place },
                  }) as const,
              ),
            ] as const)
          : [];
      log.append(
        [
          ...founding,
          {
            type: 'peer.registered',
            entity: peer_id,
            data: {
              peer_id,
              name: `host-${index}`,
              ...place,
              api_access: 'open',
              cluster_id,
              license_id: license.license_id,
              version: 'v1',
            },
          },
        ],
        SYSTEM_CONTEXT,
      );
      for (const event of log.events) views.apply(event);
      chains.set(peer_id, log.events);
      size += log.events.length;
    }
    return { views, chains, size };
  }

  #add(peerId: PeerId, ground: Ground): void {
    const { time, random } = this;
    const clock: Clock = {
      ...time.clock(),
      after: (ms, run) => clockOf(this.#byId.get(peerId), time).after(ms, run),
    };
    let written = 0;
    const log = new SharedLog(peerId, ground, (previous, label) => {
      written += 1;
      return {
        ...previous,
        id: `evt_${ulid(written)}`,
        seq: previous.seq + 1,
        type: 'peer.updated',
        entity: peerId,
        data: { version: label },
        prev_hash: previous.hash,
        hash: Buffer.from(random.bytes(32)).toString('hex'),
        signature: `${'A'.repeat(86)}==`,
      } as unknown as AnyEvent;
    });
    const machine = createMachine(
      { heartbeat: this.#options.heartbeat, resumed: true },
      {
        clock,
        random,
        identity: { peerId, publicKey: new Uint8Array(32), sign: () => new Uint8Array(64) },
        verify: () => true,
        log,
        views: ground.views,
        transport: { post: (_, done) => void time.after(1, () => done({ kind: 'fault', fault: 'refused' })) },
        security: { sessions: standingSessions, channel: this.#channelOf(peerId) },
        profile: () => ({ name: peerId, address: '10.0.0.1:8080', endpoints: [], version: 'v1' }),
        verifyLicense: () => true,
        admit: () => [],
        projectionDigest: () => null,
        report: () => {},
      },
    );
    const member: Member = {
      peerId,
      log,
      machine,
      unreachable: log.unreachable,
      delay: () => 0,
      up: true,
      frozenUntil: 0,
    };
    this.members.push(member);
    this.#byId.set(peerId, member);
  }

  #delay(a: Member, b: Member): number {
    const { minDelay, maxDelay } = this.#options;
    return minDelay + this.random.fraction() * (maxDelay - minDelay) + a.delay() + b.delay();
  }

  /** Heartbeats that find nothing new are one thing, whatever a change causes another. */
  #count(value: Request | Reply): void {
    const text = Buffer.from(JSON.stringify(value));
    const size = OVERHEAD + (text.length < DEFLATE_FROM ? text.length : deflateRawSync(text).length);
    const idle =
      value.kind === 'ping' || (value.kind === 'pong' && value.vector === undefined) || value.kind === 'ok';
    if (idle) this.idleBytes += size;
    else this.changeBytes += size;
    if (value.kind === 'push') this.pushes += 1;
  }

  /** Hands requests over as they are, after the delay of the way, and says how many bytes they would have had. */
  #channelOf(peerId: PeerId): Channel {
    const { time, random } = this;
    const lost = () => this.loss > 0 && random.fraction() < this.loss;
    return {
      call: (peer, _endpoints, request, timeoutMs, done) => {
        const from = this.#byId.get(peerId);
        const to = this.#byId.get(peer);
        let over = false;
        const finish = (result: CallResult): void => {
          if (over || from?.up !== true) return;
          over = true;
          cancel();
          done(result);
        };
        const cancel = clockOf(from, time).after(timeoutMs, () =>
          finish({ ok: false, fault: 'timeout', session: sessionWith(peer) }),
        );
        this.#count(request);
        if (from === undefined || to === undefined || !from.up || lost()) return;
        this.#deliver(to, this.#delay(from, to), () => {
          if (!to.up) return;
          const reply = this.#ask(from, to, request);
          if (reply === undefined) return;
          this.#count(reply);
          if (lost()) return;
          this.#deliver(from, this.#delay(from, to), () =>
            finish({ ok: true, reply, session: sessionWith(peer), skew: 0 }),
          );
        });
      },
      open: () => {
        const letter = this.#letter;
        if (letter === undefined) return 'refused';
        return {
          session: sessionWith(letter.from),
          request: letter.request,
          skew: 0,
          answer: (reply) => {
            this.#reply = reply;
            return EMPTY;
          },
        };
      },
    };
  }

  #deliver(to: Member, delay: number, run: () => void): void {
    this.time.after(delay, () => {
      const wait = to.frozenUntil - this.time.now;
      if (wait > 0) this.time.after(wait, run);
      else run();
    });
  }

  #letter: { readonly from: PeerId; readonly request: Request } | undefined;
  #reply: Reply | undefined;

  #ask(from: Member, to: Member, request: Request): Reply | undefined {
    this.#letter = { from: from.peerId, request };
    this.#reply = undefined;
    to.machine.handle({
      method: 'POST',
      path: '/v1/peer/gossip',
      headers: {},
      body: EMPTY,
      remoteAddress: '',
    });
    this.#letter = undefined;
    return this.#reply;
  }

  member(index: number): Member {
    const found = this.members[index];
    if (found === undefined) throw new Error(`no member ${index}`);
    return found;
  }
}

/** The timers of a host that may stand still. */
const clockOf = (member: Member | undefined, time: VirtualTime) => ({
  after(ms: number, run: () => void): () => void {
    let cancel = (): void => {};
    const wake = (): void => {
      const wait = (member?.frozenUntil ?? 0) - time.now;
      if (wait > 0) cancel = time.after(wait, wake);
      else run();
    };
    cancel = time.after(ms, wake);
    return () => cancel();
  },
});

/** Lets a share of the members stand still again and again, as an overloaded host does. */
export function slowDown(
  crowd: { readonly time: VirtualTime; readonly random: Random },
  members: readonly { frozenUntil: number }[],
  share: number,
): void {
  const { time, random } = crowd;
  const between = (low: number, high: number) => low + random.fraction() * (high - low);
  for (const member of members.slice(0, Math.round(members.length * share))) {
    const freeze = (): void => {
      const length = between(500, 16_000);
      member.frozenUntil = time.now + length;
      time.after(length + between(500, 6_000), freeze);
    };
    time.after(between(0, 10_000), freeze);
  }
}

const EMPTY = new Uint8Array(0);

const keys = {
  sessionId: '0'.repeat(32),
  handshake: { initiator: EMPTY, responder: EMPTY },
  gossip: { initiator: EMPTY, responder: EMPTY },
  carrier: EMPTY,
  tunnel: () => EMPTY,
  erase: () => {},
};

const made = new Map<PeerId, Session>();
/** One session with each peer, for ever young and the same for all. */
function sessionWith(peerId: PeerId): Session {
  let session = made.get(peerId);
  if (session === undefined) {
    session = newSession({
      peerId,
      side: 'initiator',
      keys,
      establishedAt: Number.MAX_SAFE_INTEGER,
      offset: 0,
      confirmed: true,
      endsAt: undefined,
    });
    made.set(peerId, session);
  }
  return session;
}

const standingSessions: Sessions = {
  current: () => undefined,
  byId: () => undefined,
  onRetired: () => () => {},
  add: () => {},
  forSending: sessionWith,
  find: () => undefined,
  confirm: () => {},
  end: () => {},
  endAll: () => {},
  sweep: () => {},
  tunnel: () => undefined,
  size: 0,
};

/** Times from a change to its arrival at each other member, ms of virtual time, and what it cost. */
export interface Spread {
  readonly arrivals: readonly number[];
  /** Those that never arrived within the limit. */
  readonly missing: number;
  /** Bytes on the wire because of one change, divided by the number of members. */
  readonly bytesPerPeer: number;
  readonly pushesPerPeer: number;
  /** Bytes a second and member for heartbeats. */
  readonly heartbeatBytes: number;
}

/** Writes `changes` at random members, `pause` ms apart, and watches them spread. */
export function measureSpread(crowd: Crowd, changes: number, pause = 5_000): Spread {
  const { time, members, random } = crowd;
  const arrivals: number[] = [];
  let at = 0;
  let watched = '';
  const unsubscribe = members.map((member) =>
    member.log.subscribe((events) => {
      if (events.some((event) => event.hash === watched)) arrivals.push(time.now - at);
    }),
  );
  const before = { idle: crowd.idleBytes, change: crowd.changeBytes, pushes: crowd.pushes };
  for (let change = 0; change < changes; change += 1) {
    at = time.now;
    const author = members[Math.floor(random.fraction() * members.length)];
    watched = author?.log.write(`change-${change}`).hash ?? '';
    time.advance(pause);
  }
  for (const stop of unsubscribe) stop();
  return {
    arrivals: arrivals.sort((a, b) => a - b),
    missing: changes * (members.length - 1) - arrivals.length,
    bytesPerPeer: (crowd.changeBytes - before.change) / changes / members.length,
    pushesPerPeer: (crowd.pushes - before.pushes) / changes / members.length,
    heartbeatBytes: ((crowd.idleBytes - before.idle) * 1_000) / (changes * pause) / members.length,
  };
}

/** The value below which this share of an ascending list lies. */
export const quantile = (ascending: readonly number[], share: number): number =>
  ascending[Math.min(ascending.length - 1, Math.ceil(share * ascending.length) - 1)] ?? Number.NaN;
