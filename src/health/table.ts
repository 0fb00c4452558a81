import { AGENT_CONDITIONS } from './conditions/agent.ts';
import { CLUSTER_CONDITIONS } from './conditions/cluster.ts';
import { HOST_CONDITIONS } from './conditions/host.ts';
import { PEER_CONDITIONS } from './conditions/peers.ts';
import type { Condition } from './contract.ts';

/** Every health condition there is: what doctor, readyz, the metrics and the cluster status know. */
export const CONDITIONS: readonly Condition[] = [
  ...HOST_CONDITIONS,
  ...AGENT_CONDITIONS,
  ...PEER_CONDITIONS,
  ...CLUSTER_CONDITIONS,
];
