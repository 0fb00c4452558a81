/** The TCP engine this host gets: the native relay where it is built and loads, otherwise the TypeScript one. */
import type { NativeAddon } from '../../native/addon.ts';
import type { LoadedRelay } from '../../native/relay/addon.ts';
import type { TproxyEngine } from './contract.ts';
import { createNativeRelay } from './native-relay.ts';
import { createTypescriptRelay, type RelayDependencies } from './relay.ts';
import type { RelayOptions } from './relay-options.ts';
import { createTransparentSockets, type TransparentSocketsOptions } from './transparent-sockets.ts';

export { DEFAULT_LISTEN_PORT } from './relay-options.ts';

export interface TproxyEngineOptions extends RelayOptions {
  readonly sockets: TransparentSocketsOptions;
}

export interface TproxyEngineDependencies extends Omit<RelayDependencies, 'sockets'> {
  readonly addon: NativeAddon;
  /** What `loadRelayAddon` found; without `addon` the reason is logged. */
  readonly relay: LoadedRelay;
}

export function createTproxyEngine(
  options: TproxyEngineOptions,
  { addon, relay, ...deps }: TproxyEngineDependencies,
): TproxyEngine {
  if (relay.addon !== undefined) {
    return createNativeRelay(options, { ...deps, addon, relay: relay.addon });
  }
  deps.logger.warn(
    { reason: relay.reason },
    'the TCP engine falls back to TypeScript: slower, without KCP, without bounds for one service or one peer, without ' +
      'idle time-outs, and without figures of paths and of how long connections take to open',
  );
  return createTypescriptRelay(options, {
    ...deps,
    sockets: createTransparentSockets(addon, options.sockets),
  });
}
