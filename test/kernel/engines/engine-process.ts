/** An engine in a process of its own, led by its parent over IPC. Started as `node engine-process.ts <implementation>`. */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../../../events/clock.ts';
import type { TproxyConfig, TproxyEngine } from '../../../src/engines/tproxy/contract.ts';
import { createTproxyEngine } from '../../../src/engines/tproxy/engine.ts';
import type { RelayOptions } from '../../../src/engines/tproxy/relay-options.ts';
import { loadAddon } from '../../../src/native/addon.ts';
import { loadRelayAddon } from '../../../src/native/relay/addon.ts';
import { createTestKeys } from '../../unit/engines/tproxy/loopback.ts';

export type Implementation = 'typescript' | 'native';

export type HostCall =
  | {
      readonly verb: 'start';
      readonly config: TproxyConfig;
      readonly listenPort: number;
      readonly carrierPort: number;
      /** What differs from the defaults. */
      readonly options?: Partial<RelayOptions>;
    }
  | { readonly verb: 'configure'; readonly config: TproxyConfig }
  | { readonly verb: 'configured' }
  | {
      readonly verb: 'session';
      readonly sessionId: string;
      readonly key: string;
      readonly peerId: string;
      readonly initiator: boolean;
    }
  | { readonly verb: 'retire'; readonly sessionId: string; readonly reason: 'renewed' | 'removed' }
  | { readonly verb: 'stats' }
  | { readonly verb: 'flows'; readonly serviceId?: string }
  | { readonly verb: 'stop'; readonly graceMs: number };

export interface HostReply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

const write = (level: string) => (fields: object, text: string) => {
  if (process.env['ENGINE_LOG'] !== undefined) console.error(level, text, fields);
};
const logger = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
const keys = createTestKeys();
let engine: TproxyEngine | undefined;

function create(implementation: Implementation, options: RelayOptions): TproxyEngine {
  const relay =
    implementation === 'native'
      ? loadRelayAddon(process.env['ARCTIC_RELAY_ADDON'])
      : { addon: undefined, reason: 'the test wants it so' };
  if (implementation === 'native' && relay.addon === undefined) throw new Error(relay.reason);
  return createTproxyEngine(
    { ...options, sockets: { ownMark: 0x41f0_0001 } },
    {
      addon: loadAddon(),
      relay,
      keys,
      clock: systemClock,
      random: { bytes: (count) => randomBytes(count) },
      logger,
    },
  );
}

async function handle(call: HostCall): Promise<unknown> {
  switch (call.verb) {
    case 'start':
      engine = create((process.argv[2] ?? 'typescript') as Implementation, {
        listenPort: call.listenPort,
        carrierPort: call.carrierPort,
        ...call.options,
      });
      engine.configure(call.config);
      await engine.start();
      return engine.listenPort;
    case 'configure':
      return engine?.configure(call.config);
    case 'configured':
      return engine?.configured();
    case 'session':
      return keys.set({ ...call, key: Buffer.from(call.key, 'hex') });
    case 'retire':
      return keys.retire(call.sessionId, call.reason);
    case 'stats':
      return engine?.stats();
    case 'flows':
      return engine?.flows(call.serviceId);
    case 'stop':
      return engine?.stop(call.graceMs);
  }
}

process.on('message', (call: HostCall & { id: number }) => {
  handle(call).then(
    (result) => process.send?.({ id: call.id, result }),
    (error: unknown) =>
      process.send?.({ id: call.id, error: error instanceof Error ? error.message : String(error) }),
  );
});
// The test is gone.
process.on('disconnect', () => process.exit(1));
