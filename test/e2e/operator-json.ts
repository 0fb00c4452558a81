/** Every command of the table with `--json`, in an order in which each has something to show. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { World } from './operator-world.ts';

/** What earlier runs have given, by name. */
export type Memory = Record<string, string>;

export interface JsonRun {
  readonly command: string;
  /** What stands behind the words of the command. */
  readonly argv?: (memory: Memory, world: World) => readonly string[];
  /** The entry unless said. */
  readonly host?: string;
  /** 0 unless said. */
  readonly exit?: number | readonly number[];
  readonly before?: (world: World) => Promise<unknown>;
  readonly keep?: (value: never, memory: Memory) => void;
}

const at = (world: World, name: string): string => join(world.lab.directory, name);
const put =
  (...argv: readonly string[]) =>
  () =>
    argv;
const file =
  (name: string, ...more: readonly string[]) =>
  (_: Memory, world: World) => [at(world, name), ...more];
const compose =
  (name: string, ...more: readonly string[]) =>
  (_: Memory, world: World) => [...more, at(world, name)];
const addExit = (_: Memory, world: World) => [world.agent('exit').address];

interface Named {
  readonly id: string;
  readonly client_id: string;
  readonly license_id: string;
}

const PEERS: readonly JsonRun[] = [
  { command: 'peers list' },
  { command: 'peers get', argv: put('exit') },
  { command: 'peers update', argv: put('exit', '--name', 'far') },
  { command: 'peers update', argv: put('far', '--name', 'exit') },
  { command: 'peers delete', argv: put('exit', '--yes') },
  { command: 'peers add', argv: addExit },
  { command: 'peers remove-self', argv: put('--yes', '--url', 'http://localhost:8080'), host: 'exit' },
  { command: 'peers add', argv: addExit },
];

const SERVICES: readonly JsonRun[] = [
  {
    command: 'services create',
    argv: put(
      '--target-peer',
      'exit',
      '--name',
      'web',
      '--requires-interface',
      '--desired-ipv4',
      '10.91.20.77/24',
    ),
    keep: ({ id }: Named, memory) => {
      memory['service'] = id;
    },
  },
  {
    command: 'routes add',
    argv: put('--service', 'web', '--priority', '100', '--dest-cidr', '192.168.7.0/24'),
  },
  { command: 'routes update', argv: put('1', '--service', 'web', '--priority', '200') },
  { command: 'routes list', argv: put('--service', 'web') },
  { command: 'services update', argv: put('web', '--bandwidth-limit', '50') },
  { command: 'services get', argv: put('web') },
  { command: 'services list' },
  { command: 'services top', argv: put('--interval', '1') },
  { command: 'services flows', argv: put('web') },
];

const COMPOSE: readonly JsonRun[] = [
  { command: 'compose init', argv: file('init.yaml') },
  { command: 'compose validate', argv: file('init.yaml') },
  {
    command: 'compose validate',
    argv: file('bad.yaml'),
    exit: 3,
    before: async (world) => world.file('bad.yaml', 'version: v1\npeers: [{ name: a, adress: x }]\n'),
  },
  { command: 'compose fmt', argv: file('init.yaml', '--check') },
  { command: 'compose fmt', argv: file('init.yaml') },
  {
    command: 'compose export',
    keep: (value: unknown, memory) => {
      memory['file'] = JSON.stringify(value);
    },
  },
  {
    command: 'compose diff',
    argv: (memory, world) => [world.file('same.yaml', memory['file'] ?? '')],
  },
  {
    command: 'compose diff',
    argv: (memory, world) => [
      world.file('other.yaml', (memory['file'] ?? '').replace('"priority":200', '"priority":300')),
    ],
    exit: 7,
  },
  { command: 'compose apply', argv: compose('other.yaml', '--dry-run') },
  { command: 'compose apply', argv: compose('other.yaml', '--yes') },
  { command: 'compose rollback', argv: put('--yes') },
  { command: 'routes delete', argv: put('1', '--service', 'web', '--yes') },
  { command: 'services delete', argv: put('web', '--yes') },
];

const LICENSE_AND_CREDENTIALS: readonly JsonRun[] = [
  { command: 'license status' },
  {
    command: 'license status',
    argv: (_, world) => ['--url', `http://${world.lab.host('bare').address.ipv4}:8080`],
  },
  { command: 'license install', argv: file('license.json') },
  { command: 'license root create', argv: (_, world) => ['--out', at(world, 'root')] },
  {
    command: 'license issue',
    argv: (_, world) => ['--root', at(world, 'root/root.key'), '--customer', 'acme'],
  },
  {
    command: 'credentials create',
    argv: put('--scopes', 'peers.read'),
    keep: ({ client_id }: Named, memory) => {
      memory['client'] = client_id;
    },
  },
  { command: 'credentials list' },
  { command: 'credentials revoke', argv: ({ client = '' }) => [client, '--yes'] },
  { command: 'credentials rotate' },
  { command: 'credentials rotate', argv: put('--update-config') },
];

const HISTORY: readonly JsonRun[] = [
  {
    command: 'events list',
    argv: put('--type', 'service.created'),
    keep: ([first]: readonly Named[], memory) => {
      memory['event'] = first?.id ?? '';
    },
  },
  { command: 'events list' },
  { command: 'events get', argv: ({ event = '' }) => [event] },
  { command: 'events tail', argv: put('-n', '5') },
  { command: 'replay' },
  { command: 'replay', argv: put('--diff-with', '1') },
  { command: 'replay', argv: put('--verify') },
  { command: 'replay', argv: put('--rebuild') },
  { command: 'drift' },
  { command: 'drift', argv: () => ['--at', new Date().toISOString()] },
  { command: 'backup', argv: file('exit.tar.gz'), host: 'exit' },
  {
    command: 'restore',
    argv: file('exit.tar.gz', '--yes'),
    host: 'exit',
    before: (world) => world.agent('exit').stop(),
  },
  {
    command: 'log verify',
    argv: (_, world) => ['--db', at(world, 'copy.db')],
    async before(world) {
      copyFileSync(join(world.agent('exit').dataDir, 'arctic.db'), at(world, 'copy.db'));
      await world.start('exit');
    },
  },
  { command: 'log verify', argv: (_, world) => ['--full', '--db', at(world, 'copy.db')] },
  { command: 'replay', argv: (_, world) => ['--db', at(world, 'copy.db')] },
  { command: 'replay', argv: (_, world) => ['--verify', '--db', at(world, 'copy.db')] },
  {
    command: 'audit verify',
    argv: file('history.jsonl'),
    before: (world) => world.arctic('entry', ['audit', 'export', '--file', at(world, 'history.jsonl')]),
  },
  {
    command: 'audit verify',
    argv: file('cut.jsonl'),
    exit: 1,
    before: async (world) =>
      writeFileSync(
        at(world, 'cut.jsonl'),
        readFileSync(at(world, 'history.jsonl'), 'utf8').replace(/^.*"kind":"event".*\n/m, ''),
      ),
  },
];

const HOST: readonly JsonRun[] = [
  { command: 'version' },
  { command: 'health' },
  { command: 'health', argv: put('--readyz') },
  { command: 'cluster identity' },
  { command: 'cluster status' },
  { command: 'cluster sync' },
  { command: 'cluster lock' },
  { command: 'cluster unlock', argv: put('--yes') },
  { command: 'cluster init', argv: put('--force', '--yes') },
  // The exit was stopped a moment ago: it may be missed, or back.
  { command: 'doctor', exit: [0, 1] },
  { command: 'debug bundle', argv: (_, world) => ['--file', at(world, 'bundle.tar.gz')] },
  { command: 'agent', argv: put('--cleanup'), host: 'client' },
  { command: 'agent install', argv: (_, world) => ['--root', at(world, 'image')] },
  { command: 'agent upgrade', argv: (_, world) => ['--root', at(world, 'image')] },
  { command: 'agent uninstall', argv: (_, world) => ['--root', at(world, 'image'), '--yes'] },
  { command: 'config view' },
  {
    command: 'config use',
    argv: put('entry'),
  },
  { command: 'config rename', argv: put('entry', 'production') },
  { command: 'config delete-peer', argv: put('exit', '--yes') },
];

export const JSON_RUNS: readonly JsonRun[] = [
  {
    command: 'setup',
    argv: put('--yes', '--no-unit', '--customer', 'acme', '--first', '--name', 'bare', '--no-service'),
    host: 'bare',
  },
  {
    command: 'bootstrap',
    argv: (_, world) => ['--license-file', at(world, 'license.json')],
    host: 'third',
  },
  ...PEERS,
  ...SERVICES,
  ...COMPOSE,
  ...LICENSE_AND_CREDENTIALS,
  ...HISTORY,
  ...HOST,
];
