/** The TCP engine this host gets: sockets and relay put together. */
import type { NativeAddon } from '../../native/addon.ts';
import type { TproxyEngine } from './contract.ts';
import { createTypescriptRelay, type RelayDependencies, type RelayOptions } from './relay.ts';
import { createTransparentSockets, type TransparentSocketsOptions } from './transparent-sockets.ts';

export { DEFAULT_LISTEN_PORT } from './relay.ts';

export interface TproxyEngineOptions extends RelayOptions {
  readonly sockets: TransparentSocketsOptions;
}

export interface TproxyEngineDependencies extends Omit<RelayDependencies, 'sockets'> {
  readonly addon: NativeAddon;
}

export function createTproxyEngine(
  options: TproxyEngineOptions,
  { addon, ...deps }: TproxyEngineDependencies,
): TproxyEngine {
  return createTypescriptRelay(options, {
    ...deps,
    sockets: createTransparentSockets(addon, options.sockets),
  });
}
