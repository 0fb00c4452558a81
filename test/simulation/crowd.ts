import { deflateRawSync } from 'node:zlib';
import type { ClusterId, PeerId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { createSigner } from '../../events/ed25519.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import { Fold } from '../../projections/fold.ts';
import type { CallResult, Channel } from '../../src/gossip/machine/channel.ts';
import type { Mark } from '../../src/gossip/machine/core.ts';
import { createMachine, type Machine } from '../../src/gossip/machine/machine.ts';
import type { Reply, Request } from '../../src/gossip/messages.ts';
import { DEFLATE_FROM } from '../../src/gossip/parameters.ts';
import { createMemoryLog } from './memory-log.ts';
import { type Ground, SharedLog } from './shared-log.ts';
import { EMPTY, sessionWith, standingSessions } from './standing-sessions.ts';
import { seededRandom, VirtualTime } from './virtual-clock.ts';
import { SYSTEM_CONTEXT, testLicense } from './world.ts';

/** `AG01`, session, counter, time and tag of a sealed body, and a modest HTTP head. */
const OVERHEAD = 52 + 180;

const ulid = (index: number): string => `01JD${String(index).padStart(22, '0')}`;

export interface Member {
  readonly peerId: PeerId;
  log: SharedLog;
  machine: Machine;
  /** Peers it gave up, in order. */
  readonly unreachable: PeerId[];
  /** Beside the log: it survives a lost disk's restored copy. */
  marked: Mark | undefined;
  /** Its wall clock is ahead of the others by this, ms. */
  skew: number;
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
  /** False: nobody asks how many bytes it took. */
  readonly counted?: boolean;
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
  /** Members in different groups cannot reach each other; undefined: one network. */
  groups: ((member: Member) => number) | undefined;
  readonly #ground: Ground;
  #written = 0;
  readonly #byId = new Map<PeerId, Member>();
  readonly #options: Required<CrowdOptions>;

  constructor(count: number, seed: number, options: CrowdOptions = {}) {
    this.random = seededRandom(seed);
    this.#options = { heartbeat: 5_000, loss: 0, minDelay: 1, maxDelay: 20, counted: true, ...options };
    this.loss = this.#options.loss;
    this.#ground = this.#found(count);
    for (const origin of this.#ground.chains.keys()) this.#add(origin);
    // Machines that all start in one instant would beat in step for ever.
    for (const member of this.members)
      this.time.after(this.random.fraction() * this.#options.heartbeat, () => member.machine.start());
    this.time.advance(1.5 * this.#options.heartbeat);
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

  #add(peerId: PeerId): Member {
    const log = this.#logOf(peerId);
    const unreachable: PeerId[] = [];
    log.unreachable = unreachable;
    const member: Member = {
      peerId,
      log,
      machine: this.#machineOf(peerId, log, true),
      unreachable,
      marked: undefined,
      skew: 0,
      delay: () => 0,
      up: true,
      frozenUntil: 0,
    };
    this.members.push(member);
    this.#byId.set(peerId, member);
    return member;
  }

  #logOf(peerId: PeerId): SharedLog {
    return new SharedLog(peerId, this.#ground, (previous, draft) => {
      this.#written += 1;
      return {
        ...previous,
        id: `evt_${ulid(this.#written)}`,
        seq: previous.seq + 1,
        ...draft,
        prev_hash: previous.hash,
        hash: Buffer.from(this.random.bytes(32)).toString('hex'),
        signature: `${'A'.repeat(86)}==`,
      } as unknown as AnyEvent;
    });
  }

  #machineOf(peerId: PeerId, log: SharedLog, resumed: boolean): Machine {
    const { time, random } = this;
    const member = () => this.#byId.get(peerId);
    const own = time.clock(() => member()?.skew ?? 0);
    let machine: Machine;
    const clock: Clock = {
      ...own,
      // A host that went down takes its timers with it.
      after: (ms, run) =>
        clockOf(member(), time).after(ms, () => {
          const at = member();
          if (at === undefined || at.machine === machine) run();
        }),
    };
    machine = createMachine(
      { heartbeat: this.#options.heartbeat, resumed },
      {
        clock,
        random,
        identity: { peerId, publicKey: new Uint8Array(32), sign: () => new Uint8Array(64) },
        verify: () => true,
        log,
        mark: {
          read: () => member()?.marked,
          write: (mark) => {
            const at = member();
            if (at !== undefined) at.marked = mark;
          },
        },
        views: this.#ground.views,
        transport: { post: (_, done) => void time.after(1, () => done({ kind: 'fault', fault: 'refused' })) },
        security: { sessions: standingSessions, channel: this.#channelOf(peerId) },
        profile: () => ({ name: peerId, address: '10.0.0.1:8080', endpoints: [], version: 'v1' }),
        verifyLicense: () => true,
        admit: () => [],
        projectionDigest: () => null,
        report: () => {},
      },
    );
    return machine;
  }

  /** As kill -9. */
  kill(member: Member): void {
    member.up = false;
    member.machine.stop();
  }

  /** The host comes back; without its disk it has the copy that all began with. */
  restart(member: Member, disk: 'kept' | 'lost'): void {
    if (disk === 'lost') {
      member.log = this.#logOf(member.peerId);
      member.log.unreachable = member.unreachable;
    }
    member.up = true;
    member.machine = this.#machineOf(member.peerId, member.log, false);
    member.machine.start();
  }

  /** Views are shared, so everybody knows at once who comes and goes; the events themselves have to travel. */
  leave(member: Member): void {
    const { peerId } = member;
    this.#ground.views.apply(
      member.log.write({ type: 'peer.left', entity: peerId, data: { peer_id: peerId } }),
    );
  }

  /** A member admits a new host, which begins with the copy that all began with. */
  join(by: Member): Member {
    const index = this.members.length;
    const peerId = `peer_${ulid(index + 1)}` as PeerId;
    const address = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}:8080`;
    const data = {
      peer_id: peerId,
      public_key: this.#ground.views.peers.get(by.peerId)?.public_key,
      name: null,
      address,
      endpoints: [`http://${address}`],
    };
    this.#ground.views.apply(by.log.write({ type: 'peer.admitted', entity: peerId, data }));
    const member = this.#add(peerId);
    member.machine = this.#machineOf(peerId, member.log, false);
    member.machine.start();
    return member;
  }

  #delay(a: Member, b: Member): number {
    const { minDelay, maxDelay } = this.#options;
    return minDelay + this.random.fraction() * (maxDelay - minDelay) + a.delay() + b.delay();
  }

  /** Heartbeats that find nothing new are one thing, whatever a change causes another. */
  #count(value: Request | Reply): void {
    if (!this.#options.counted) return;
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
        const cut = () => this.groups !== undefined && this.groups(from) !== this.groups(to);
        if (cut()) return;
        this.#deliver(to, this.#delay(from, to), () => {
          if (!to.up) return;
          const reply = this.#ask(from, to, request);
          if (reply === undefined) return;
          this.#count(reply);
          if (lost() || cut()) return;
          this.#deliver(from, this.#delay(from, to), () =>
            finish({ ok: true, reply, session: sessionWith(peer), skew: to.skew - from.skew }),
          );
        });
      },
      open: () => {
        const letter = this.#letter;
        if (letter === undefined) return 'refused';
        return {
          session: sessionWith(letter.from),
          request: letter.request,
          skew: (this.#byId.get(letter.from)?.skew ?? 0) - (this.#byId.get(peerId)?.skew ?? 0),
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
