/** The IP tunnel's reconciler; its parts are in `iptun/`. */
export { type DesiredTunnels, tunnelDigest } from './iptun/desired.ts';
export { createIptunReconciler, type IptunDeps, removeTunnels } from './iptun/reconciler.ts';
