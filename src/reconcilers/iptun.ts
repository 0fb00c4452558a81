/** The IP tunnel's reconciler; its parts are in `iptun/`. */
export { type DesiredTunnels, tunnelDigest } from './iptun/desired.ts';
export { createIptunReconciler, type IptunDeps } from './iptun/reconciler.ts';
