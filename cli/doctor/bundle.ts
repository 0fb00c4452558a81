import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { AgentSettings } from '../agent-settings.ts';
import { cachePath } from '../cache.ts';
import type { Client } from '../client.ts';
import type { Context } from '../context.ts';
import { createExchange } from '../exchange.ts';
import { toFailure } from '../failure.ts';
import { isRow, show } from '../fields.ts';
import { backgroundLog } from '../setup/background.ts';
import { runProgram } from '../setup/systemd.ts';

/** One file of a bundle, before secrets are taken out. */
export interface Piece {
  readonly name: string;
  readonly text: string;
}

interface Program {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
}

/** The commands of the troubleshooting page, as it has them. */
export const PROGRAMS: readonly Program[] = [
  { name: 'systemctl-status', argv: ['systemctl', 'status', 'arctic', '--no-pager', '--full'] },
  { name: 'ip-addr', argv: ['ip', 'addr', 'show'] },
  { name: 'ip-link', argv: ['ip', '-details', 'link', 'show'] },
  { name: 'ip-route', argv: ['ip', 'route', 'show'] },
  { name: 'ip-route-all', argv: ['ip', 'route', 'show', 'table', 'all'] },
  { name: 'ip-6-route', argv: ['ip', '-6', 'route', 'show'] },
  { name: 'ip-rule', argv: ['ip', 'rule', 'show'] },
  { name: 'nft-arctic', argv: ['nft', 'list', 'table', 'inet', 'arctic'] },
  { name: 'nft-arctic_iptun', argv: ['nft', 'list', 'table', 'inet', 'arctic_iptun'] },
  { name: 'ss-listening', argv: ['ss', '-tulnp'] },
];

const JOURNAL_LINES = 5_000;
const LOG_TAIL_BYTES = 2 * 1024 * 1024;
/** Reports of an agent, by the name of the file they go into. */
const REPORTS: readonly (readonly [name: string, path: string])[] = [
  ['identity', '/v1/cluster/identity'],
  ['readyz', '/readyz'],
  ['cluster-status', '/v1/cluster/status'],
  ['peers', '/v1/peers?limit=500'],
  ['services', '/v1/services?limit=500'],
  ['license', '/v1/license'],
  ['reconcilers', '/v1/reconcilers'],
  ['drift', '/v1/drift'],
];
const EVENTS = 500;

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** What the host says. A program that is not there leaves a line that says so. */
export async function hostPieces(
  context: Context,
  { dataDir, file }: AgentSettings,
): Promise<readonly Piece[]> {
  const pieces: Piece[] = [
    {
      name: 'version.txt',
      text: `arctic ${context.version}\nnode ${process.version}\n${process.platform} ${release()} ${process.arch}\n`,
    },
  ];
  for (const { name, argv } of PROGRAMS) {
    const [program, ...rest] = argv;
    const { code, output } = await runProgram(program, rest, { timeoutMs: 15_000 });
    pieces.push({ name: `${name}.txt`, text: `$ ${argv.join(' ')}\n${output}\n(exit code ${code})\n` });
  }
  pieces.push({ name: 'journal.txt', text: await journal(dataDir) });
  for (const name of ['/proc/meminfo', '/proc/loadavg', '/proc/net/snmp', '/proc/net/netstat'])
    pieces.push({ name: `${name.slice(1).replaceAll('/', '-')}.txt`, text: readOrReason(name) });
  pieces.push({ name: 'arctic.env', text: readOrReason(file) });
  return pieces;
}

function readOrReason(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    return `${path}: ${toFailure(error).message}\n`;
  }
}

/** The journal of the unit; where no unit runs the agent, the log of the one in the background. */
async function journal(dataDir: string): Promise<string> {
  const argv = ['-u', 'arctic', '-n', String(JOURNAL_LINES), '--no-pager', '-o', 'short-iso'];
  const { code, output } = await runProgram('journalctl', argv, { timeoutMs: 30_000 });
  const own = backgroundLog(dataDir);
  const background = existsSync(own)
    ? `\n$ tail ${own}\n${readFileSync(own, 'utf8').slice(-LOG_TAIL_BYTES)}`
    : '';
  return `$ journalctl ${argv.join(' ')}\n${output}\n(exit code ${code})\n${background}`;
}

/** What the agent says, each report by itself: what cannot be had leaves the reason. */
export async function agentPieces(context: Context, client: Client): Promise<readonly Piece[]> {
  const ask = async (path: string): Promise<unknown> => {
    try {
      return (await client.call('GET', path, { accept: [503] })).body;
    } catch (error) {
      return { error: toFailure(error).message };
    }
  };
  const pieces: Piece[] = [];
  for (const [name, path] of REPORTS) pieces.push({ name: `${name}.json`, text: json(await ask(path)) });
  const services = await ask('/v1/services?limit=500');
  const rows =
    isRow(services) && Array.isArray(services['services']) ? services['services'].filter(isRow) : [];
  const routes = await Promise.all(
    rows.map(async (row) => [show(row, 'id'), await ask(`/v1/services/${show(row, 'id')}/routes?limit=500`)]),
  );
  pieces.push({ name: 'routes.json', text: json(Object.fromEntries(routes)) });
  pieces.push({ name: 'events.json', text: json(await newestEvents(client)) });
  pieces.push({ name: 'metrics.txt', text: await metrics(context, client) });
  return pieces;
}

async function newestEvents(client: Client): Promise<unknown> {
  try {
    const status = await client.get('/v1/cluster/status');
    const head = isRow(status) && typeof status['log_head'] === 'number' ? status['log_head'] : 0;
    const query = { after: Math.max(0, head - EVENTS), limit: EVENTS };
    return await client.get('/v1/events', { query });
  } catch (error) {
    return { error: toFailure(error).message };
  }
}

async function metrics(context: Context, client: Client): Promise<string> {
  const exchange = createExchange(
    { timeoutMs: 10_000, debug: false, trace: false },
    { terminal: context.terminal, clock: context.clock },
  );
  try {
    const base = client.endpoint().base;
    return (await exchange.send({ method: 'GET', base, path: '/metrics', headers: {} })).text;
  } catch (error) {
    return `${error instanceof Error ? error.message : String(error)}\n`;
  } finally {
    await exchange.close();
  }
}

/** Every secret this host has and this user can read, so that none leaves it in a bundle. */
export async function secretsOfHost(
  context: Context,
  { dataDir, configDir, env }: AgentSettings,
): Promise<readonly string[]> {
  const found: string[] = [];
  const lines = (path: string): void => {
    try {
      for (const line of readFileSync(path, 'utf8').split('\n'))
        if (
          line.trim() !== '' &&
          !line.startsWith('#') &&
          !/^peer_[0-9A-Z]{26}$|^arctic-peer-key-v\d+$/.test(line)
        )
          found.push(line);
    } catch {
      // Not there, or not this user's to read; then it cannot get into the bundle from there either.
    }
  };
  lines(join(configDir, 'recovery.token'));
  for (const directory of [dataDir, configDir]) {
    try {
      for (const name of readdirSync(directory))
        if (/\.key(\.retired-.*)?$/.test(name)) lines(join(directory, name));
    } catch {
      // As above.
    }
  }
  if (env['API_TLS_KEY']) lines(env['API_TLS_KEY']);
  for (const name of ['ARCTIC_TOKEN', 'ARCTIC_RECOVERY_TOKEN']) {
    const value = context.env[name];
    if (value) found.push(value);
  }
  for (const { client_secret } of Object.values((await context.config()).clusters)) found.push(client_secret);
  try {
    // Tokens until they expire: every text in there that is as long as one.
    found.push(...(readFileSync(cachePath(context.configPath), 'utf8').match(/[\w.-]{40,}/g) ?? []));
  } catch {
    // No cache yet.
  }
  return found;
}
