import type { ClusterId, CustomerId, LicenseId, PeerId } from '../../events/brand.ts';
import type { Clock, Random } from '../../events/clock.ts';
import { createSigner, type Signer } from '../../events/ed25519.ts';
import type { AnyEvent, AnyNewEvent } from '../../events/envelope.ts';
import { createIds } from '../../events/ids.ts';
import { Fold } from '../../projections/fold.ts';
import { settled } from '../../projections/replay.ts';
import type { LicenseDocumentView, Views } from '../../projections/views.ts';
import { createAdmission } from '../../src/gossip/admission.ts';
import type {
  HistoryMark,
  Mark,
  PostOptions,
  PostOutcome,
  Transport,
} from '../../src/gossip/machine/core.ts';
import type { DataPlane } from '../../src/gossip/machine/data-plane.ts';
import { createMachine, type Machine } from '../../src/gossip/machine/machine.ts';
import { PUSH_ALL_LIMIT } from '../../src/gossip/parameters.ts';
import { createSessions } from '../../src/gossip/sessions.ts';
import type { Identity } from '../../src/identity/contract.ts';
import { verifyRaw } from '../../src/identity/handshake-keys.ts';
import { createLightChannel, lightAgreement, lightSigner, lightVerify, type Post } from './light.ts';
import { createMemoryLog, type MemoryLog } from './memory-log.ts';
import type { VirtualTime } from './virtual-clock.ts';

export const SYSTEM_CONTEXT = {
  actor: { kind: 'system', id: null, address: null },
  correlationId: 'cor_simulation',
} as const;

/** Key generation is the slowest part of a small run, and the keys themselves do not matter. */
const signers: Signer[] = [];
function signerOf(index: number): Signer {
  const signer = signers[index] ?? createSigner(new Uint8Array(32).fill(index + 1));
  signers[index] = signer;
  return signer;
}

const ulid = (index: number): string => `01JD${String(index).padStart(22, '0')}`;

export function testLicense(fields: Partial<LicenseDocumentView> = {}): LicenseDocumentView {
  return {
    license_id: 'lic_sim' as LicenseId,
    customer_id: 'cust_sim' as CustomerId,
    issued_at: '2025-01-01T00:00:00.000Z',
    expires_at: '2036-01-01T00:00:00.000Z',
    max_nodes: 2_000,
    max_services: 1_000,
    features: [],
    signature: `${'A'.repeat(86)}==`,
    ...fields,
  };
}

export interface NodeOptions {
  readonly license?: LicenseDocumentView;
  readonly heartbeat?: number;
  readonly pushAllLimit?: number;
  /** Has this host's key, and its log as it is now: a cloned machine. */
  readonly twinOf?: Node;
}

/** Views that stay the same object while the fold behind them is made anew, as the agent's do. */
const following = (fold: () => Fold): Views => ({
  cluster: () => fold().cluster(),
  license: () => fold().license(),
  get peers() {
    return fold().peers;
  },
  get services() {
    return fold().services;
  },
  get routes() {
    return fold().routes;
  },
  get credentials() {
    return fold().credentials;
  },
});

/** What a host needs of the world it lives in. */
interface Surroundings {
  readonly time: VirtualTime;
  readonly random: Random;
  /** Set when the costly parts are stood in for (light.ts). */
  readonly light: Post | undefined;
  post(from: Node, options: PostOptions, done: (outcome: PostOutcome) => void): void;
}

/** One host: a log, its fold and its machine. Killing it loses everything but the log. */
export class Node {
  readonly index: number;
  readonly address: string;
  readonly peerId: PeerId;
  readonly signer: Signer;
  readonly license: LicenseDocumentView;
  readonly heartbeat: number;
  readonly pushAllLimit: number;
  /** Given before a start. */
  dataPlane: DataPlane | undefined;
  skew = 0;
  /** Added to each message to and from it, ms. */
  slowness = 0;
  /** Out of the cluster, or its disk is lost: it never comes back. */
  gone = false;
  log: MemoryLog;
  views = new Fold();
  machine: Machine | undefined;
  reports: string[] = [];
  /** Beside the log: a restored copy of the log leaves it as it is. */
  marked: Mark | undefined;
  readonly #mark: HistoryMark = {
    read: () => this.marked,
    write: (mark) => {
      this.marked = mark;
    },
  };
  readonly #world: Surroundings;
  readonly #clock: Clock;
  #generation = 0;

  constructor(world: Surroundings, index: number, options: NodeOptions) {
    this.#world = world;
    this.index = index;
    this.peerId = options.twinOf?.peerId ?? (`peer_${ulid(index + 1)}` as PeerId);
    this.address = `10.0.${index >> 8}.${index & 255}:8080`;
    this.signer =
      options.twinOf?.signer ?? (world.light === undefined ? signerOf(index) : lightSigner(index));
    this.license = options.license ?? testLicense();
    this.heartbeat = options.heartbeat ?? 1_000;
    this.pushAllLimit = options.pushAllLimit ?? PUSH_ALL_LIMIT;
    this.#clock = world.time.clock(() => this.skew);
    this.log = this.#openLog(options.twinOf?.log.before(options.twinOf.log.head) ?? []);
  }

  get running(): Machine {
    if (this.machine === undefined) throw new Error(`node ${this.index} is down`);
    return this.machine;
  }

  #openLog(restored: readonly AnyEvent[]): MemoryLog {
    const deps = { signer: this.signer, clock: this.#clock, random: this.#world.random };
    const log = createMemoryLog(
      { origin: this.peerId, restored, light: this.#world.light !== undefined },
      deps,
    );
    this.views = new Fold();
    const fold = (events: readonly AnyEvent[]): void => {
      for (const event of events) this.views.apply(event);
      this.views = settled(this.views, () => [log.events]);
    };
    fold(log.events);
    log.subscribe(fold);
    return log;
  }

  bootstrap(): void {
    const cluster_id = `clu_${ulid(this.index + 1)}` as ClusterId;
    const { license } = this;
    this.append(
      {
        type: 'cluster.created',
        entity: cluster_id,
        data: { cluster_id, customer_id: license.customer_id, name: null, description: null },
      },
      {
        type: 'license.installed',
        entity: license.license_id,
        data: { license: { ...license, features: [...license.features] } },
      },
      {
        type: 'peer.registered',
        entity: this.peerId,
        data: {
          peer_id: this.peerId,
          public_key: Buffer.from(this.signer.publicKey).toString('base64'),
          name: `host-${this.index}`,
          address: this.address,
          endpoints: [`http://${this.address}`],
          api_access: 'open',
          cluster_id,
          license_id: license.license_id,
          version: 'v1.4.0',
        },
      },
    );
  }

  append(...events: AnyNewEvent[]): readonly AnyEvent[] {
    return this.log.append(events, SYSTEM_CONTEXT);
  }

  /** A small change of configuration. */
  write(label: string): void {
    this.append({ type: 'peer.updated', entity: this.peerId, data: { version: label } });
  }

  start(): void {
    const generation = ++this.#generation;
    const world = this.#world;
    const alive = () => this.#generation === generation && this.machine !== undefined;
    const clock: Clock = {
      now: () => this.#clock.now(),
      monotonic: () => this.#clock.monotonic(),
      after: (ms, run) => this.#clock.after(ms, () => alive() && run()),
    };
    const identity: Identity = {
      peerId: this.peerId,
      publicKey: this.signer.publicKey,
      sign: (message) => this.signer.sign(message),
    };
    const ids = createIds({ clock, random: world.random });
    const views = following(() => this.views);
    const transport: Transport = {
      post: (options, done) => world.post(this, options, (outcome) => alive() && done(outcome)),
    };
    const lightSecurity = (post: Post) => {
      const sessions = createSessions({ local: this.peerId, monotonic: () => clock.monotonic() });
      const channel = createLightChannel({ clock, transport }, sessions, post);
      return { sessions, channel, agreement: lightAgreement };
    };
    this.machine = createMachine(
      { heartbeat: this.heartbeat, pushAllLimit: this.pushAllLimit },
      {
        clock,
        random: world.random,
        identity,
        verify: world.light === undefined ? verifyRaw : lightVerify,
        log: this.log,
        mark: this.#mark,
        views,
        transport,
        ...(world.light === undefined ? {} : { security: lightSecurity(world.light) }),
        profile: () => ({
          name: `host-${this.index}`,
          address: this.address,
          endpoints: [`http://${this.address}`],
          version: 'v1.4.0',
        }),
        verifyLicense: (license) => license.signature !== FORGED_SIGNATURE,
        admit: createAdmission({
          views,
          localPeer: this.peerId,
          ids,
          now: () => clock.now(),
          fraction: () => world.random.fraction(),
        }),
        ...(this.dataPlane === undefined ? {} : { dataPlane: this.dataPlane }),
        projectionDigest: () => this.digest(),
        report: (_level, message) => this.reports.push(message),
      },
    );
    this.machine.start();
  }

  /** As kill -9: nothing is said to anybody. */
  kill(): void {
    this.machine?.stop();
    this.machine = undefined;
  }

  /** The host comes back with the log as it was at `position`. */
  restore(position: number): void {
    this.kill();
    this.log = this.#openLog(this.log.before(position));
    this.#digest = undefined;
  }

  #digest: { readonly head: number; readonly text: string } | undefined;
  /** Of the views; computed once for each state of the log. */
  digest(): string {
    if (this.#digest?.head !== this.log.head)
      this.#digest = { head: this.log.head, text: this.views.digest() };
    return this.#digest.text;
  }

  /** How much of each origin counts here, in order of the origins. */
  standing(): readonly (readonly [string, number, string])[] {
    return Object.entries(this.log.versionVector())
      .map(([origin, held]): [string, number, string] => {
        const peer = this.views.peers.get(origin as PeerId);
        const removed = peer?.membership === 'removed' ? (peer.last_seq ?? held) : held;
        const seq = Math.min(held, removed, (this.views.forks.get(origin as PeerId) ?? held + 1) - 1);
        return [origin, seq, this.log.range(origin as PeerId, seq, 1)[0]?.hash ?? ''];
      })
      .filter(([, seq]) => seq > 0)
      .sort(([a], [b]) => (a < b ? -1 : 1));
  }

  config(): readonly AnyEvent[] {
    return this.log.events.filter((event) => event.stream === 'config');
  }

  local(type: AnyEvent['type']): readonly AnyEvent[] {
    return this.log.events.filter((event) => event.type === type);
  }
}

export const FORGED_SIGNATURE = `${'B'.repeat(86)}==`;
