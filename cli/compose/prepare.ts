import { dirname, resolve } from 'node:path';
import { EXIT } from '../../events/errors.ts';
import { readLicenseFile } from '../commands/bootstrap.ts';
import type { Context } from '../context.ts';
import { parseTimeout } from '../duration.ts';
import { createExchange } from '../exchange.ts';
import { configurationFailure, connectionFailure, Failure, usageFailure } from '../failure.ts';
import { asRow, type Row, show } from '../fields.ts';
import type { Input } from '../input.ts';
import { type ClusterState, EMPTY_STATE } from './cluster-state.ts';
import { type Asked, askAll, type Contacts, createContacts } from './contact.ts';
import { type Coordinator, findCoordinator, reasons } from './coordinator.ts';
import { type Credentials, readCredentials } from './credentials-file.ts';
import { loadSpec } from './load.ts';
import { type Contact, type Plan, planChanges } from './plan.ts';
import { readCluster } from './run.ts';
import type { ClusterSpec } from './spec.ts';

/** A file held against its cluster. */
export interface Prepared {
  readonly path: string;
  readonly spec: ClusterSpec;
  readonly plan: Plan;
  readonly replan: (state: ClusterState) => Plan;
  readonly state: ClusterState;
  readonly coordinator: Coordinator;
  readonly credentials: Credentials | undefined;
  readonly asked: ReadonlyMap<string, Asked>;
  readonly contacts: Contacts;
  /** Peers of the file that cannot be brought in or waited for, with the reason. */
  readonly unreachable: readonly string[];
  /** The license document, read when first asked for. */
  readonly license: () => Promise<Row>;
  close(): Promise<void>;
}

/** A peer that is asked who it is answers at once, or is far from well. */
const ASK_MS = 5_000;

/** What speaks to agents before there is a cluster to speak for. */
export function openContacts(context: Context, input: Input) {
  const given = input.text('timeout');
  const timeoutMs = given === undefined ? ASK_MS : parseTimeout(given, '--timeout');
  const exchange = createExchange(
    { timeoutMs, debug: input.flag('debug'), trace: input.flag('trace') },
    { terminal: context.terminal, clock: context.clock },
  );
  return { contacts: createContacts(exchange, context.version), close: () => exchange.close() };
}

export const refuseForwarding = (input: Input): void => {
  if (input.text('peer') !== undefined)
    throw usageFailure(
      '--peer does not go with compose, which speaks for the whole cluster; name the agent to ask with --url.',
    );
};

/** Whether the command line or the environment brings its own proof of who asks. */
export const hasAuthority = (context: Context, input: Input): boolean =>
  ['token', 'recovery-token', 'recovery-token-file'].some((name) => input.text(name) !== undefined) ||
  Boolean(context.env['ARCTIC_TOKEN']) ||
  Boolean(context.env['ARCTIC_RECOVERY_TOKEN']);

export const credentialsOf = (context: Context, input: Input): Credentials | undefined => {
  const path = input.text('credentials-file');
  return path === undefined ? undefined : readCredentials(path, (text) => context.terminal.note(text));
};

/**
 * Reads the file, asks its peers, finds the cluster and compares. Changes nothing.
 * @param licenseFile instead of the file's own
 */
export async function prepare(
  context: Context,
  input: Input,
  licenseFile?: string | undefined,
): Promise<Prepared> {
  refuseForwarding(input);
  const { path, spec } = await loadSpec(context, input);
  const credentials = credentialsOf(context, input);
  const { contacts, close } = openContacts(context, input);
  try {
    context.terminal.status(`asking ${spec.peers.length} peers ...`);
    const [asked, given] = await Promise.all([
      askAll(contacts, spec.peers),
      context.url === undefined ? undefined : contacts.askUrl(context.url),
    ]);
    context.terminal.status('');
    const coordinator = await findCoordinator(context, {
      peers: spec.peers,
      asked,
      given,
      credentials,
      explicitAuthority: hasAuthority(context, input),
    });
    const state = coordinator.kind === 'member' ? await readCluster(coordinator.client) : EMPTY_STATE;
    const ignore = input.flag('ignore-unreachable');
    const known = new Map<string, Contact>([...asked].map(([name, { contact }]) => [name, contact]));
    if (coordinator.kind === 'bare') known.set(coordinator.peer.name, { kind: 'bare' });
    const whole = planOf(spec, state, known, input.flag('prune'), spec);
    const missing = new Set(
      whole.changes.flatMap((change) =>
        change.kind === 'peer' && change.action === 'add' && change.contact.kind === 'unreachable'
          ? [change.name]
          : [],
      ),
    );
    const reduced = ignore && missing.size > 0 ? without(spec, missing) : spec;
    const replan = (now: ClusterState, approved?: Plan) =>
      planOf(reduced, now, known, input.flag('prune'), spec, approved);
    const plan = reduced === spec ? whole : replan(state);
    const left = spec.services.length - reduced.services.length;
    const silent = state.members.filter(
      (member) => member.unreachable && spec.peers.some(({ name }) => name === member.name),
    );
    const file = licenseFile ?? (spec.license && resolve(dirname(path), spec.license));
    let license: Promise<Row> | undefined;
    return {
      path,
      spec: reduced,
      plan: {
        ...plan,
        warnings: [
          ...(missing.size > 0 && ignore
            ? [
                `${reasons(
                  spec.peers.filter(({ name }) => missing.has(name)),
                  asked,
                )}: left out` +
                  (left > 0 ? `, with ${left} service${left === 1 ? '' : 's'} that lead there` : ''),
              ]
            : []),
          ...plan.warnings,
        ],
      },
      replan: (now) => replan(now, plan),
      state,
      coordinator,
      credentials,
      asked,
      contacts,
      unreachable: ignore
        ? []
        : [
            ...spec.peers
              .filter(({ name }) => missing.has(name))
              .map(
                ({ name }) =>
                  reasons(
                    spec.peers.filter((peer) => peer.name === name),
                    asked,
                  ) || `'${name}'`,
              ),
            ...silent.map(
              ({ name, address }) => `'${name}' (${address}): the cluster has no contact with it`,
            ),
          ],
      license() {
        if (file === undefined)
          throw configurationFailure(
            `peers have to be bootstrapped, and there is no license for it: name one with 'license:' in ${path} or with --license-file.`,
          );
        license ??= readLicenseFile(context, file);
        return license;
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The file without some peers and the services that lead from or to them. */
const without = (spec: ClusterSpec, names: ReadonlySet<string>): ClusterSpec => ({
  ...spec,
  peers: spec.peers.filter(({ name }) => !names.has(name)),
  services: spec.services.filter(
    ({ source_peer, target_peer }) => !names.has(source_peer) && !names.has(target_peer),
  ),
});

/** @param approved a plan a person has agreed to; nothing else may be removed than what it removes */
function planOf(
  spec: ClusterSpec,
  state: ClusterState,
  contacts: ReadonlyMap<string, Contact>,
  prune: boolean,
  whole: ClusterSpec,
  approved?: Plan,
): Plan {
  const written = new Set(whole.services.map(({ name }) => name));
  const agreed = new Set(
    approved?.changes.flatMap((change) => (change.action === 'remove' ? [change.service.id] : [])),
  );
  return planChanges({
    peers: spec.peers,
    services: spec.services,
    state,
    contacts,
    // What the file names is wanted, also where its peer is left out this time.
    removable: ({ id, name }) => prune && !written.has(name) && (approved === undefined || agreed.has(id)),
  });
}

/**
 * What would end an apply in the middle, found before it begins: peers that do not answer, a license that does not exist or
 * allows too little. @throws Failure
 */
export async function checkFeasible(prepared: Prepared): Promise<void> {
  const { plan, unreachable, coordinator, state } = prepared;
  if (unreachable.length > 0)
    throw connectionFailure(
      `nothing was changed, because not every peer can be reached: ${unreachable.join('; ')}. ` +
        '--ignore-unreachable goes on without.',
    );
  const added = plan.changes.filter(({ kind, action }) => kind === 'peer' && action === 'add').length;
  const more = plan.changes.filter(({ kind, action }) => kind === 'service' && action === 'add').length;
  const fewer = plan.changes.filter(({ action }) => action === 'remove').length;
  const bootstraps = plan.changes.some(
    (change) => change.kind === 'peer' && change.action === 'add' && change.contact.kind === 'bare',
  );
  const offered = bootstraps ? await prepared.license() : undefined;
  if (added + more === 0) return;
  const license =
    coordinator.kind === 'member'
      ? asRow(await coordinator.client.get('/v1/license'), 'license')
      : (offered ?? {});
  requireRoom(license, 'max_nodes', state.members.length + added, 'peers');
  requireRoom(license, 'max_services', state.services.length + more - fewer, 'services');
}

function requireRoom(license: Row, cap: string, wanted: number, what: string): void {
  const most = license[cap];
  if (typeof most !== 'number' || wanted <= most) return;
  throw new Failure(
    EXIT.general,
    `nothing was changed: the cluster would have ${wanted} ${what}, and license ${show(license, 'license_id')} allows ${most}.`,
  );
}
