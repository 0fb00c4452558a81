import type { Group } from './command.ts';
import { AGENT, BOOTSTRAP } from './table/agent.ts';
import { CLUSTER } from './table/cluster.ts';
import { COMPOSE } from './table/compose.ts';
import { CREDENTIALS } from './table/credentials.ts';
import { AUDIT, DRIFT, EVENTS, REPLAY } from './table/history.ts';
import { LICENSE } from './table/license.ts';
import { COMPLETION, CONFIG, DOCTOR, HEALTH, VERSION } from './table/local.ts';
import { LOG } from './table/log.ts';
import { PEERS } from './table/peers.ts';
import { BACKUP, DEBUG, RESTORE } from './table/rescue.ts';
import { ROUTES } from './table/routes.ts';
import { SERVICES } from './table/services.ts';
import { SETUP } from './table/setup.ts';

/** Every command there is, in the order help shows them. */
export const GROUPS: readonly Group[] = [
  SETUP,
  BOOTSTRAP,
  PEERS,
  SERVICES,
  ROUTES,
  CLUSTER,
  COMPOSE,
  LICENSE,
  CREDENTIALS,
  EVENTS,
  REPLAY,
  DRIFT,
  AUDIT,
  LOG,
  DOCTOR,
  DEBUG,
  BACKUP,
  RESTORE,
  HEALTH,
  CONFIG,
  AGENT,
  COMPLETION,
  VERSION,
];
