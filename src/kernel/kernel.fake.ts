/**
 * A kernel in memory for tests without root: the same refusals, generations and notices as the real one (both are held
 * to `test/kernel/compliance/`), a second process to make drift with, and failures on demand.
 */
import {
  type AddressClaim,
  type AddressConflict,
  type FlowFilter,
  type Flows,
  type Kernel,
  KernelError,
  type KernelFeatures,
  type KernelNotice,
  type Link,
  type Nft,
  type NftCommit,
  type NftTable,
  type Rtnetlink,
} from './contract.ts';
import { createFakeMessages, type FakeMessages } from './messages.fake.ts';
import { canonicalTable } from './nft/canonical.ts';
import { modelChange, modelCompare, modelReplace } from './nft/model.ts';
import { addChanges } from './nft/steps.ts';
import { Transaction } from './nft/transaction.ts';
import { createFakeNetwork } from './rt/rtnetlink.fake.ts';
import { sysctlPath } from './sysctl.ts';

/** `nft.replaceTable`, `rt.addRule`, `sysctl.write`... */
export type KernelOperation =
  | `nft.${keyof Nft}`
  | `rt.${keyof Rtnetlink}`
  | `sysctl.${keyof Kernel['sysctl']}`
  | `flows.${keyof Flows}`
  | `claims.${keyof Kernel['claims']}`
  | 'features';

export interface FakeKernel extends Kernel {
  /** The same kernel through another process's sockets: what it does is foreign to us. */
  readonly other: {
    readonly nft: Nft;
    readonly rt: Rtnetlink;
    readonly sysctl: Pick<Kernel['sysctl'], 'write'>;
    readonly pid: number;
    readonly program: string;
  };
  /** Lets the next `times` calls (1) of an operation fail with this error before they do anything. */
  failNext(operation: KernelOperation, error: KernelError, times?: number): void;
  /** What this process's sockets sent, to refuse single messages; `failNext` refuses whole operations before the first. */
  readonly messages: Pick<FakeMessages, 'sent' | 'refuse'>;
  /** As if notices had been lost. */
  loseNotices(subsystem: KernelNotice['subsystem']): void;
  addDevice(device: Partial<Omit<Link, 'index'>> & { readonly name: string }): Link;
  /** Another host with this hardware address has the IPv4 address; undefined: it has gone. */
  contest(address: string, other: string | undefined, before?: boolean): void;
  /** What was asked to be reset; there are no connections in memory. */
  readonly resets: readonly FlowFilter[];
  /** How often each operation was called, failed calls included. */
  readonly calls: ReadonlyMap<KernelOperation, number>;
}

export interface FakeKernelOptions {
  readonly sysctl?: Readonly<Record<string, string>>;
  readonly features?: Partial<KernelFeatures>;
}

const OTHER = { pid: 4711, program: 'nft' } as const;

const SYSCTL: Readonly<Record<string, string>> = {
  'net.ipv4.ip_forward': '0',
  'net.ipv6.conf.all.forwarding': '0',
  'net.ipv4.conf.all.rp_filter': '0',
  'net.ipv4.conf.default.rp_filter': '0',
  'net.ipv4.conf.all.src_valid_mark': '0',
  'net.ipv4.tcp_available_congestion_control': 'reno bbr cubic',
};

const FEATURES: KernelFeatures = {
  release: '6.18.0-fake',
  nftDestroy: true,
  nftBatchEndAck: true,
  nftOwner: true,
  nftPersist: true,
  tproxy: true,
  macvlan: true,
  tun: true,
  ipv6: true,
  flowReset: true,
  xtables: [],
  congestionControls: ['reno', 'bbr', 'cubic'],
};

type Owner = 'self' | 'other';

interface Held {
  readonly table: NftTable;
  /** Whose socket holds the owner flag. */
  readonly owner: Owner | undefined;
}

export function createFakeKernel(options: FakeKernelOptions = {}): FakeKernel {
  const tables = new Map<string, Held>();
  const features: KernelFeatures = { ...FEATURES, ...options.features };
  const network = createFakeNetwork();
  const messages = createFakeMessages();
  const parameters = new Map(Object.entries({ ...SYSCTL, ...options.sysctl }));
  const listeners = new Set<(notice: KernelNotice) => void>();
  const failures = new Map<KernelOperation, { error: KernelError; times: number }>();
  const calls = new Map<KernelOperation, number>();
  let generation = 1;
  /** After the last commit of each. */
  const lastCommit: Record<Owner, number> = { self: 0, other: generation };
  let started = false;

  /** Notices arrive after the call that caused them, as from a socket. */
  function notify(notice: KernelNotice): void {
    queueMicrotask(() => {
      for (const listener of [...listeners]) listener(notice);
    });
  }

  /** Counts the call; throws what was ordered for it. Parameters need no socket, so they work without `start`. */
  function enter(operation: KernelOperation): void {
    calls.set(operation, (calls.get(operation) ?? 0) + 1);
    if (!started && !operation.startsWith('sysctl.'))
      throw new KernelError('EBADF', 9, 'kernel', 'not started');
    const failure = failures.get(operation);
    if (failure === undefined) return;
    failure.times -= 1;
    if (failure.times <= 0) failures.delete(operation);
    throw failure.error;
  }

  function nftOf(who: Owner): Nft {
    const subject = (family: string, name: string) => `transaction on table ${family} ${name}`;
    const key = (family: string, name: string) => `${family} ${name}`;
    /** What one process's requests send; the other's are none of ours. */
    const send = (request: string): void => {
      if (who === 'self') messages.message(request);
    };
    const transact = (
      { family, name }: Pick<NftTable, 'family' | 'name'>,
      build: (transaction: Transaction) => void,
    ): void => {
      if (who !== 'self') return;
      const transaction = new Transaction(family, name);
      build(transaction);
      const acknowledge = features.nftBatchEndAck ? 'end' : 'last';
      if (!transaction.isEmpty) messages.datagram(transaction.encode({ generation: undefined, acknowledge }));
    };
    const remove = (transaction: Transaction, { family, name }: Pick<NftTable, 'family' | 'name'>): void => {
      if (features.nftDestroy) transaction.destroyTable();
      else if (tables.has(key(family, name))) transaction.deleteTable();
    };
    const list = (name: string): void => {
      for (const part of ['generation', `table ${name}`, 'sets', 'chains', 'rules']) send(`read ${part}`);
    };

    const isOursSince = (since: number): boolean =>
      since <= generation && lastCommit[who === 'self' ? 'other' : 'self'] <= since;

    function checkLock(family: string, name: string, lock: number | undefined): void {
      if (lock === undefined || isOursSince(lock)) return;
      throw new KernelError('ESTALE', 116, subject(family, name), 'the ruleset changed since it was read');
    }

    function checkOwner(held: Held | undefined, what: string): void {
      if (held?.owner === undefined || held.owner === who) return;
      throw new KernelError('EPERM', 1, what, 'not permitted; another process owns the object');
    }

    function committed(changed: boolean): NftCommit {
      if (changed) {
        generation += 1;
        lastCommit[who] = generation;
        if (who === 'other') notify({ subsystem: 'nftables', own: false, ...OTHER, overrun: false });
      }
      return { generation };
    }

    return {
      generation: async () => {
        send('read generation');
        return generation;
      },
      isOursSince: async (since) => {
        send('read generation');
        return isOursSince(since);
      },
      listTables: async () =>
        [...tables.values()].map(({ table }) => ({ family: table.family, name: table.name })),
      readTable: async (family, name) => {
        list(name);
        return { generation, table: tables.get(key(family, name))?.table };
      },

      compareTable: async (family, name, expected) => {
        const table = tables.get(key(family, name))?.table;
        list(name);
        for (const set of table?.sets ?? []) send(`read elements of set ${set.name}`);
        send('read generation');
        return table === undefined
          ? { generation, table, deviations: [] }
          : { generation, ...modelCompare(table, expected) };
      },
      ownsTable: async (family, name) => tables.get(key(family, name))?.owner === who,

      replaceTable: async (table, lock) => {
        checkLock(table.family, table.name, lock?.generation);
        checkOwner(tables.get(key(table.family, table.name)), `delete table ${table.name}`);
        const next = modelReplace(table);
        transact(table, (transaction) => {
          remove(transaction, table);
          transaction.addTable(table);
          transaction.addContents(table);
        });
        tables.set(key(table.family, table.name), {
          table: next,
          owner: next.owned === true ? who : undefined,
        });
        return committed(true);
      },

      changeTable: async ({ family, name, sets }, changes, lock) => {
        checkLock(family, name, lock?.generation);
        if (changes.length === 0) return { generation };
        const held = tables.get(key(family, name));
        if (held === undefined) {
          throw new KernelError('ENOENT', 2, subject(family, name), 'the kernel knows no such table');
        }
        checkOwner(held, subject(family, name));
        const outcome = modelChange(held.table, changes);
        transact({ family, name }, (transaction) => addChanges(transaction, sets, changes));
        tables.set(key(family, name), { ...held, table: outcome.table });
        return committed(outcome.changed);
      },

      deleteTable: async (family, name) => {
        checkOwner(tables.get(key(family, name)), `delete table ${name}`);
        transact({ family, name }, (transaction) => remove(transaction, { family, name }));
        return committed(tables.delete(key(family, name)));
      },
    };
  }

  let claimed: readonly AddressClaim[] = [];
  const contests = new Map<string, Pick<AddressConflict, 'other' | 'before'>>();
  const hold: Kernel['claims']['hold'] = async (claims, own) => {
    claimed = claims;
    return claims.flatMap((claim) => {
      const found = contests.get(claim.address);
      return found === undefined || own.has(found.other) ? [] : [{ ...claim, ...found }];
    });
  };

  const resets: FlowFilter[] = [];
  const reset: Flows['reset'] = async (filter) => {
    resets.push(filter);
    return 0;
  };

  const other = {
    ...OTHER,
    nft: nftOf('other'),
    rt: network.as((subsystem) =>
      notify({ subsystem, own: false, pid: undefined, program: undefined, overrun: false }),
    ),
    sysctl: {
      write: async (name: string, value: string) => {
        setParameter(name, value);
        notify({ subsystem: 'sysctl', own: false, pid: undefined, program: undefined, overrun: false });
      },
    },
  };
  const setParameter = (name: string, value: string): void => {
    sysctlPath(name);
    if (!parameters.has(name)) {
      throw new KernelError('ENOENT', 2, `sysctl ${name}`, 'the kernel has no such parameter');
    }
    parameters.set(name, value);
  };
  // Who changed a link, the real kernel does not say either.
  const ownRt = network.as((subsystem) => {
    if (subsystem === 'link')
      notify({ subsystem, own: false, pid: undefined, program: undefined, overrun: false });
  }, messages.message);

  return {
    nft: guarded('nft', nftOf('self'), enter),
    rt: guarded('rt', ownRt, enter),
    flows: guarded('flows', { reset }, enter),
    claims: guarded('claims', { hold }, enter),
    resets,
    other,
    calls,
    messages,

    start: async () => {
      started = true;
    },
    stop: async () => {
      started = false;
      listeners.clear();
      // The kernel drops an owned table with its owner's socket, unless it persists.
      for (const [name, { table, owner }] of tables) {
        if (owner !== 'self') continue;
        if (table.persist === true)
          tables.set(name, { table: canonicalTable({ ...table, owned: false }), owner: undefined });
        else tables.delete(name);
      }
    },
    features: async () => {
      enter('features');
      return features;
    },
    watch: (listener) => {
      if (!started) throw new KernelError('EBADF', 9, 'kernel', 'not started');
      const own = (notice: KernelNotice) => listener(notice);
      listeners.add(own);
      return () => {
        listeners.delete(own);
      };
    },
    sysctl: {
      read: async (name) => {
        enter('sysctl.read');
        sysctlPath(name);
        return parameters.get(name);
      },
      write: async (name, value) => {
        enter('sysctl.write');
        setParameter(name, value);
      },
    },

    failNext: (operation, error, times = 1) => {
      failures.set(operation, { error, times });
    },
    contest: (address, other, before = true) => {
      if (other === undefined) contests.delete(address);
      else contests.set(address, { other, before });
      if (claimed.some((claim) => claim.address === address))
        notify({ subsystem: 'address', own: false, pid: undefined, program: undefined, overrun: false });
    },
    loseNotices: (subsystem) => {
      notify({ subsystem, own: false, pid: undefined, program: undefined, overrun: true });
    },
    addDevice: (device) => {
      const link = network.addDevice(device);
      notify({ subsystem: 'link', own: false, pid: undefined, program: undefined, overrun: false });
      return link;
    },
  };
}

/** The same object with `enter` before each of its methods. */
function guarded<T extends object>(
  room: 'nft' | 'rt' | 'flows' | 'claims',
  target: T,
  enter: (operation: KernelOperation) => void,
): T {
  return new Proxy(target, {
    get: (object, name, receiver) => {
      const method: unknown = Reflect.get(object, name, receiver);
      if (typeof method !== 'function' || typeof name !== 'string') return method;
      return async (...args: readonly unknown[]) => {
        enter(`${room}.${name}` as KernelOperation);
        return Reflect.apply(method, object, args);
      };
    },
  });
}
