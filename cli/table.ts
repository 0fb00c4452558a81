import type { Group } from './command.ts';
import { AGENT, BOOTSTRAP } from './table/agent.ts';
import { CLUSTER } from './table/cluster.ts';
import { CREDENTIALS } from './table/credentials.ts';
import { AUDIT, DRIFT, EVENTS, REPLAY } from './table/history.ts';
import { LICENSE } from './table/license.ts';
import { COMPLETION, CONFIG, DOCTOR, HEALTH, VERSION } from './table/local.ts';
import { PEERS } from './table/peers.ts';
import { ROUTES } from './table/routes.ts';
import { SERVICES } from './table/services.ts';

/** Every command there is, in the order help shows them. */
export const GROUPS: readonly Group[] = [
  BOOTSTRAP,
  PEERS,
  SERVICES,
  ROUTES,
  CLUSTER,
  LICENSE,
  CREDENTIALS,
  EVENTS,
  REPLAY,
  DRIFT,
  AUDIT,
  DOCTOR,
  HEALTH,
  CONFIG,
  AGENT,
  COMPLETION,
  VERSION,
];
