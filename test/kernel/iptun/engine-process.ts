/** A tunnel engine in a process of its own, inside its namespace, led by its parent over IPC. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceId } from '../../../events/brand.ts';
import { systemClock } from '../../../events/clock.ts';
import { watchLoop } from '../../../ops/bench/idle-loop.ts';
import { MARK } from '../../../projections/desired/contract.ts';
import type { TunnelConfig, TunnelEngine } from '../../../src/engines/iptun/contract.ts';
import { createTunnelEngine } from '../../../src/engines/iptun/engine.ts';
import { type Direction, derivePairKeys, type PairKeys } from '../../../src/identity/key-schedule.ts';
import { createKernel } from '../../../src/kernel/kernel.ts';
import { loadAddon } from '../../../src/native/addon.ts';
import type { DesiredTunnels } from '../../../src/reconcilers/iptun/desired.ts';
import { createIptunReconciler } from '../../../src/reconcilers/iptun/reconciler.ts';

export type HostCall =
  | {
      readonly verb: 'start';
      readonly port: number;
      readonly rekeyAfterMs?: number | undefined;
      readonly aegis?: boolean | undefined;
    }
  | { readonly verb: 'configure'; readonly config: TunnelConfig }
  /** A session with a peer, made of a shared secret (hex); answers its id. */
  | {
      readonly verb: 'session';
      readonly peerId: string;
      readonly secret: string;
      readonly side: Direction;
    }
  | { readonly verb: 'retire'; readonly sessionId: string }
  | { readonly verb: 'stats' }
  | { readonly verb: 'devices' }
  | { readonly verb: 'usage' }
  /** 99th percentile of the event loop delay since the last call, ms; the first begins. */
  | { readonly verb: 'loopDelay' }
  /** One pass of the reconciler, answered with what differed. */
  | {
      readonly verb: 'reconcile';
      readonly desired: DesiredTunnels;
      readonly endpoint: string;
      /** Of the first pass. */
      readonly firewallOwner?: boolean;
    }
  | { readonly verb: 'serviceStatus'; readonly service: string }
  | { readonly verb: 'cleanup'; readonly scope: 'shutdown' | 'all' }
  | { readonly verb: 'stop' };

export interface HostReply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

// From the first question on: the timer that measures costs an idle process something.
let takeLoopDelay: (() => number) | undefined;
const addon = loadAddon();
const kernel = createKernel({ addon });
const sessions = new Map<
  string,
  { readonly peerId: string; readonly side: Direction; readonly keys: PairKeys }
>();
const newest = new Map<string, string>();
const listeners = new Set<(sessionId: string) => void>();
let engine: TunnelEngine | undefined;
let desired: DesiredTunnels | undefined;
let endpoint = '';
const memory = new Map<string, string>();
let reconciler: ReturnType<typeof createIptunReconciler> | undefined;

function requireReconciler(firewallOwner = false): ReturnType<typeof createIptunReconciler> {
  if (engine === undefined) throw new Error('the engine is not started');
  reconciler ??= createIptunReconciler({
    kernel,
    engine,
    firewallOwner,
    desired: () => desired ?? raise('nothing is desired yet'),
    endpointOf: () => ({ host: endpoint, port: 51_840 }),
    memory: {
      get: (key) => memory.get(key),
      set: (key, value) => {
        memory.set(key, value);
      },
    },
    pause: sleep,
  });
  return reconciler;
}

function raise(text: string): never {
  throw new Error(text);
}

const write = (level: string) => (fields: object, text: string) => {
  if (process.env['ENGINE_LOG'] !== undefined) console.error(level, text, fields);
};

async function answer(call: HostCall): Promise<unknown> {
  switch (call.verb) {
    case 'start':
      await kernel.start();
      engine = createTunnelEngine(
        {
          port: call.port,
          ownMark: MARK.own,
          ...(call.rekeyAfterMs === undefined ? {} : { rekeyAfterMs: call.rekeyAfterMs }),
          ...(call.aegis === undefined ? {} : { aegis: call.aegis }),
        },
        {
          addon,
          rt: kernel.rt,
          clock: systemClock,
          logger: { info: write('info'), warn: write('warn') },
          keys: {
            current: (peerId) => {
              const sessionId = newest.get(peerId);
              return sessionId === undefined ? undefined : { sessionId };
            },
            tunnelKeys: (peerId, epoch) => {
              const sessionId = newest.get(peerId);
              const session = sessionId === undefined ? undefined : sessions.get(sessionId);
              if (sessionId === undefined || session === undefined) return undefined;
              const other = session.side === 'initiator' ? 'responder' : 'initiator';
              return {
                sessionId,
                send: session.keys.tunnel(session.side, epoch),
                receive: session.keys.tunnel(other, epoch),
              };
            },
            onRetired: (listener) => {
              listeners.add(listener);
              return () => listeners.delete(listener);
            },
          },
        },
      );
      await engine.start();
      return undefined;
    case 'session': {
      const keys = derivePairKeys(Buffer.from(call.secret, 'hex'), Buffer.alloc(32, 7));
      sessions.set(keys.sessionId, { peerId: call.peerId, side: call.side, keys });
      newest.set(call.peerId, keys.sessionId);
      return keys.sessionId;
    }
    case 'retire': {
      const session = sessions.get(call.sessionId);
      sessions.delete(call.sessionId);
      if (session !== undefined && newest.get(session.peerId) === call.sessionId)
        newest.delete(session.peerId);
      for (const listener of listeners) listener(call.sessionId);
      return undefined;
    }
    case 'configure':
      return engine?.configure(call.config);
    case 'stats':
      return engine?.stats();
    case 'devices':
      return [...(engine?.devices() ?? [])];
    case 'loopDelay':
      takeLoopDelay ??= watchLoop();
      return takeLoopDelay();
    case 'usage':
      return process.resourceUsage();
    case 'reconcile': {
      const one = requireReconciler(call.firewallOwner);
      if (JSON.stringify(desired) !== JSON.stringify(call.desired)) desired = call.desired;
      endpoint = call.endpoint;
      const observed = await one.observe();
      const plan = one.plan(one.desired(), observed);
      if (plan.differences.length > 0) await one.apply(plan);
      return plan.differences.map((difference) => difference.item);
    }
    case 'serviceStatus':
      return requireReconciler().serviceStatus?.(call.service as ServiceId);
    case 'cleanup':
      return requireReconciler().cleanup(call.scope);
    case 'stop':
      await engine?.stop();
      await kernel.stop();
      return undefined;
  }
}

process.on('message', ({ id, call }: { id: number; call: HostCall }) => {
  answer(call).then(
    (result) => process.send?.({ id, result } satisfies HostReply),
    (error: unknown) =>
      process.send?.({
        id,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      } satisfies HostReply),
  );
});
process.on('disconnect', () => process.exit());
