import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Random } from '../../events/clock.ts';
import { EXIT } from '../../events/errors.ts';
import { createIds } from '../../events/ids.ts';
import { createLicenseRoot, formatRootKey, issueLicense, parseRootKey } from '../../src/identity/license.ts';
import { writePrivateFile } from '../../src/identity/private-file.ts';
import { formatPublicRoot } from '../../src/identity/trust-roots.ts';
import type { Client } from '../client.ts';
import { bootstrapAgent, readLicenseFile } from '../commands/bootstrap.ts';
import type { Context } from '../context.ts';
import { Failure, toFailure } from '../failure.ts';
import { asRow, isRow, type Row, show, textOf } from '../fields.ts';
import { rememberPeers } from '../known-peers.ts';
import { overallStatus, readStatus } from '../service-status.ts';
import type { Answers, LicenseAnswer, ServiceAnswer } from './answers.ts';
import { startInBackground, untilTrue } from './background.ts';
import { installAgent, installFiles, systemctl } from './install.ts';
import { issuedLicense } from './interview.ts';
import { UNIT_NAME } from './unit.ts';

const YEAR_MS = 365 * 86_400_000;
const START_LIMIT_MS = 30_000;
const JOIN_LIMIT_MS = 30_000;
const APPLY_LIMIT_MS = 30_000;

export interface Work {
  readonly context: Context;
  readonly random: Random;
  readonly url: string;
  readonly configDir: string;
  readonly dataDir: string;
  /** What the agent is to be started with. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Settings to write into arctic.env. */
  readonly settings: Readonly<Record<string, string>>;
  readonly unit: boolean;
  /** Tells what was done, for the summary and for whoever watches. */
  readonly did: (text: string) => void;
}

/** Every step looks first whether it was done already, so that a second run only does what is left. */
export async function installHost(work: Work, answers: Answers): Promise<string> {
  const { context, settings, did } = work;
  const options = { root: '', settings: { ...settings, PARENT_INTERFACE: answers.parent ?? '' } };
  const steps = work.unit
    ? installAgent({ ...options, manPage: await context.manPage() })
    : installFiles(options);
  const changed = steps.filter(({ done }) => done !== 'unchanged');
  if (changed.length > 0) did(`wrote ${changed.map(({ what }) => what).join(', ')}`);
  const { license } = answers;
  if (license === undefined) throw new TypeError('setup has no license');
  return license.kind === 'issue' ? issue(work, license) : trust(work, license);
}

function trustRoot(work: Work, from: string): void {
  const directory = join(work.configDir, 'trust-roots');
  const to = join(directory, basename(from));
  if (existsSync(to) && readFileSync(to, 'utf8') === readFileSync(from, 'utf8')) return;
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const free = existsSync(to) ? join(directory, `root-${Date.now()}.pub`) : to;
  copyFileSync(from, free);
  chmodSync(free, 0o644);
  work.did(`trusts licenses signed by ${from} (${free})`);
}

function trust(work: Work, license: Extract<LicenseAnswer, { kind: 'file' }>): string {
  if (license.rootFile !== undefined) trustRoot(work, license.rootFile);
  return license.path;
}

function issue(work: Work, { customer, directory }: Extract<LicenseAnswer, { kind: 'issue' }>): string {
  const { context, did } = work;
  const keyPath = join(directory, 'root.key');
  const publicPath = join(directory, 'root.pub');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (!existsSync(keyPath)) {
    writePrivateFile(keyPath, formatRootKey(createLicenseRoot(work.random)), { replace: false });
    did(`made the license root ${keyPath}; keep it secret, and a copy of it offline`);
  }
  const root = parseRootKey(readFileSync(keyPath, 'utf8'), keyPath);
  if (!existsSync(publicPath)) writeFileSync(publicPath, formatPublicRoot(root.publicKey), { mode: 0o644 });
  trustRoot(work, publicPath);
  const path = issuedLicense(work.configDir);
  if (existsSync(path) && customerOf(path) === customer) return path;
  const license = issueLicense(
    root,
    {
      customerId: customer,
      maxNodes: 10,
      maxServices: 100,
      features: [],
      expiresAt: context.clock.now() + YEAR_MS,
    },
    { clock: context.clock, ids: createIds({ clock: context.clock, random: work.random }) },
  );
  writePrivateFile(path, `${JSON.stringify(license, null, 2)}\n`, { replace: true });
  did(`issued license ${license.license_id} for ${customer} (${path})`);
  return path;
}

function customerOf(path: string): string | undefined {
  try {
    const found: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return isRow(found) ? textOf(found, 'customer_id') : undefined;
  } catch {
    return undefined;
  }
}

export async function answers(client: Client): Promise<boolean> {
  try {
    await client.get('/livez', { open: true });
    return true;
  } catch {
    return false;
  }
}

export async function startAgent(work: Work): Promise<void> {
  const { context, url, unit, did } = work;
  const client = await context.clientFor(url);
  if (await answers(client)) return;
  context.terminal.status('starting the agent ...');
  if (unit) {
    await systemctl('daemon-reload');
    await systemctl('enable', '--now', UNIT_NAME);
    await untilTrue('the agent does not start', START_LIMIT_MS, () => answers(client));
    did('enabled and started the unit arctic.service');
  } else {
    const started = startInBackground(work.dataDir, work.env);
    await untilTrue('the agent does not start', START_LIMIT_MS, () => answers(client), started.ended);
    did(`started the agent in the background (process ${started.pid}, log ${started.log})`);
  }
  context.terminal.status('');
}

/** Bootstraps, or makes credentials anew where a bootstrap was cut short before they were saved. */
export async function makeMember(work: Work, name: string, licensePath: string): Promise<Client> {
  const { context, url, did } = work;
  let client = await context.clientFor(url);
  const { status, body } = await client.call('GET', '/v1/cluster/identity', { open: true, accept: [412] });
  if (status === 412) {
    const license = await readLicenseFile(context, licensePath);
    const { cluster } = await bootstrapAgent(context, { url, license, name, description: undefined });
    did(`bootstrapped this host as ${name}, first in cluster ${cluster.cluster_id}`);
    return context.clientFor(url);
  }
  const identity = asRow(body, 'cluster identity');
  try {
    await client.get('/v1/license');
    return client;
  } catch (error) {
    if (toFailure(error).exit !== EXIT.authentication) throw error;
  }
  await recoverCredentials(work, client, identity, name);
  client = await context.clientFor(url);
  did('made new client credentials with the recovery token');
  return client;
}

async function recoverCredentials(work: Work, client: Client, identity: Row, name: string): Promise<void> {
  const path = join(work.configDir, 'recovery.token');
  const token = readFileSync(path, 'utf8').trim();
  const made = asRow(
    await client.post('/v1/credentials', {
      open: true,
      body: { scopes: ['admin'] },
      headers: { 'x-arctic-recovery': token },
    }),
    'credentials create',
  );
  const license = asRow(
    await client.get('/v1/license', { open: true, headers: { 'x-arctic-recovery': token } }),
    'license status',
  );
  const clusterId = show(identity, 'cluster_id');
  const peerId = show(identity, 'peer_id');
  await work.context.changeConfig((config) => ({
    ...config,
    current_cluster: clusterId,
    clusters: {
      ...config.clusters,
      [clusterId]: {
        cluster_id: clusterId,
        customer_id: show(license, 'customer_id'),
        client_id: show(made, 'client_id'),
        client_secret: show(made, 'client_secret'),
        peers: [{ peer_id: peerId, name, endpoints: [work.url] }],
        default_peer: peerId,
        name,
      },
    },
  }));
}

const isMember = (row: Row): boolean => row['state'] !== 'left' && row['state'] !== 'removed';

export async function peersOf(client: Client): Promise<readonly Row[]> {
  return (await client.list('/v1/peers', 'peers')).filter(isMember);
}

/** Joins through a member, unless this host knows it already. */
export async function joinCluster(work: Work, client: Client, address: string): Promise<void> {
  const { context, did } = work;
  const known = (await peersOf(client)).find((row) => row['address'] === address);
  if (known === undefined) {
    const row = asRow(await client.post('/v1/peers', { body: { address } }), 'peers add');
    did(`joined the cluster of ${show(row, 'name')} (${address})`);
  }
  context.terminal.status('waiting for the cluster ...');
  await untilTrue('the cluster did not become one', JOIN_LIMIT_MS, async () =>
    (await peersOf(client)).some((row) => row['address'] === address && row['state'] === 'active'),
  );
  context.terminal.status('');
  await rememberPeers(context, client, await client.list('/v1/peers', 'peers'));
}

async function serviceNamed(client: Client, name: string): Promise<Row | undefined> {
  return (await client.list('/v1/services', 'services')).find((row) => row['name'] === name);
}

/** Makes the service and its route, each unless it is there, and waits until the host has applied them. */
export async function makeService(work: Work, client: Client, service: ServiceAnswer): Promise<Row> {
  const { context, did } = work;
  const { name, target, targetName, destination } = service;
  let row = await serviceNamed(client, name);
  if (row === undefined) {
    row = asRow(
      await client.post('/v1/services', { body: { name, target_peer_id: target } }),
      'services create',
    );
    did(`made service ${name} to ${targetName}`);
  }
  const id = show(row, 'id');
  const routes = Array.isArray(row['routes']) ? row['routes'].filter(isRow) : [];
  if (!routes.some((route) => route['dest_cidr'] === destination)) {
    const body = { routes: [{ priority: 100, dest_cidr: destination }] };
    await client.post(`/v1/services/${id}/routes`, { body });
    did(`routed ${destination} into it`);
  }
  context.terminal.status('waiting for the kernel ...');
  const state = async (forwarded?: string): Promise<string> => {
    const headers = forwarded === undefined ? {} : { 'x-arctic-peer': forwarded };
    const now = asRow(await client.get(`/v1/services/${id}`, { headers }), 'services get');
    // The tunnel carries everything but TCP; a connection does not wait for it.
    return overallStatus(readStatus(now['status']).filter(({ reconciler }) => reconciler !== 'iptun'));
  };
  await untilTrue(`service ${name} is not applied`, APPLY_LIMIT_MS, async () => {
    if ((await state()) !== 'applied') return false;
    return (await state(target).catch((error: unknown) => fatal(error))) === 'applied';
  });
  context.terminal.status('');
  return asRow(await client.get(`/v1/services/${id}`), 'services get');
}

/** The other peer may not know the service yet: that is waited for. */
function fatal(error: unknown): string {
  if (error instanceof Failure && 'status' in error && error.status === 404) return 'pending';
  throw error;
}
