import { parseDocument } from 'yaml';
import type { Fault, Range, Source } from './diagnostic.ts';
import type { Variables } from './interpolation.ts';
import { MOST_FAULTS, type Placed, Reader } from './reader.ts';
import type { ApiAccess, OnFailure } from './spec.ts';

/** A compose file as it is written: every value with its place, nothing filled in. */
export interface ParsedFile {
  readonly license: Placed<string> | undefined;
  readonly peers: readonly ParsedPeer[];
  readonly services: readonly ParsedService[];
}

export interface ParsedPeer {
  readonly at: Range;
  readonly name: Placed<string>;
  readonly address: Placed<string>;
  readonly api_access: ApiAccess;
}

export interface ParsedService {
  readonly at: Range;
  readonly name: Placed<string>;
  readonly source_peer: Placed<string>;
  readonly target_peer: Placed<string>;
  readonly transport_type: Placed<'tcp' | 'kcp' | 'auto'>;
  readonly fully_transparent: Placed<boolean>;
  readonly interface_enabled: boolean;
  readonly interface_ipv4: Placed<string> | undefined;
  readonly interface_ipv6: Placed<string> | undefined;
  readonly bandwidth_limit_mbps: number;
  readonly on_failure: OnFailure;
  readonly routes: readonly ParsedRoute[];
}

export interface ParsedRoute {
  readonly at: Range;
  readonly priority: number;
  readonly source_cidr: Placed<string> | undefined;
  readonly dest_cidr: Placed<string> | undefined;
}

export const TOP_KEYS = ['version', 'license', 'peers', 'services'] as const;
export const PEER_KEYS = ['name', 'address', 'api_access'] as const;
export const SERVICE_KEYS = [
  'name',
  'source_peer',
  'target_peer',
  'transport_type',
  'fully_transparent',
  'interface',
  'qos',
  'on_failure',
  'routes',
] as const;
export const INTERFACE_KEYS = ['enabled', 'ipv4', 'ipv6'] as const;
export const QOS_KEYS = ['bandwidth_limit_mbps'] as const;
export const ROUTE_KEYS = ['priority', 'source_cidr', 'dest_cidr'] as const;

/** The bounds the API has (src/api/schemas/); a file beyond them is refused before anything is asked. */
export const MOST_MBPS = 1_000_000;
export const MOST_PRIORITY = 65_535;
const NAME_LENGTH = 63;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/;
const ADDRESS = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})$/;

/** Larger than any cluster the product is made for, and small enough to be parsed at once. */
export const MOST_BYTES = 8 * 1_048_576;

const WHOLE_START: Range = { start: 0, end: 1 };

/** Reads a compose file's text. Either it has the right shape, or there are faults. */
export function parseFile(
  source: Source,
  variables: Variables,
): { readonly file: ParsedFile } | { readonly faults: readonly Fault[] } {
  let document: ReturnType<typeof parseDocument>;
  try {
    document = parseDocument(source.text, { prettyErrors: false, strict: true, uniqueKeys: true });
  } catch (error) {
    // The parser recurses once a level.
    const reason = error instanceof RangeError ? 'it is nested too deeply' : 'it cannot be parsed';
    return { faults: [{ at: WHOLE_START, message: `not valid YAML: ${reason}` }] };
  }
  const deep = document.errors.find(({ message }) => /call stack/i.test(message));
  if (deep !== undefined)
    return {
      faults: [
        { at: { start: deep.pos[0], end: deep.pos[1] }, message: 'not valid YAML: it is nested too deeply' },
      ],
    };
  if (document.errors.length > 0)
    return {
      faults: document.errors.slice(0, MOST_FAULTS).map(({ message, pos }) => ({
        at: { start: pos[0], end: Math.max(pos[0] + 1, pos[1]) },
        message: `not valid YAML: ${lowerFirst((message.split('\n')[0] ?? '').replace(/[.:]$/, ''))}`,
      })),
    };
  const reader = new Reader(document, variables);
  const file = readTop(reader, document.contents ?? undefined);
  return file !== undefined && reader.faults.length === 0 ? { file } : { faults: reader.faults };
}

const lowerFirst = (text: string): string => text.slice(0, 1).toLowerCase() + text.slice(1);

type YamlNode = Parameters<Reader['mapping']>[0];

function readTop(reader: Reader, root: YamlNode): ParsedFile | undefined {
  if (root === undefined) return reader.refuse(WHOLE_START, 'the file is empty; it begins with version: v1');
  const top = reader.mapping(root, 'the file', WHOLE_START, TOP_KEYS);
  if (top === undefined) return undefined;
  const start: Range = { start: top.at.start, end: top.at.start + 1 };
  const version = reader.text(top, 'version', 'the file');
  if (!top.entries.has('version')) reader.refuse(start, "version is missing; this is 'version: v1'");
  else if (version !== undefined && version.value !== 'v1')
    reader.refuse(version.at, `version '${version.value}' is not known to this CLI, which reads v1`);
  if (!top.entries.has('peers')) reader.refuse(start, 'peers is missing');
  const peerItems = reader.list(top.entries.get('peers'), 'peers');
  const peers = peerItems.flatMap(
    ({ node, at }, index) => readPeer(reader, node, at, `peers[${index}]`) ?? [],
  );
  const peersEntry = top.entries.get('peers');
  if (peersEntry !== undefined && peerItems.length === 0 && reader.faults.length === 0)
    reader.refuse(peersEntry.key, 'peers has no entry; a cluster has at least one peer');
  const services = reader
    .list(top.entries.get('services'), 'services')
    .flatMap(({ node, at }, index) => readService(reader, node, at, `services[${index}]`) ?? []);
  return { license: reader.text(top, 'license', 'the file'), peers, services };
}

/** What people call a thing (NameField of the catalogue). */
function readName(
  reader: Reader,
  name: Placed<string> | undefined,
  what: string,
): Placed<string> | undefined {
  if (name === undefined) return undefined;
  const length = name.value.length;
  const fits = length >= 1 && length <= NAME_LENGTH && !CONTROL.test(name.value);
  if (fits) return name;
  return reader.refuse(name.at, `${what} must have 1 to ${NAME_LENGTH} characters and no control characters`);
}

function missing(reader: Reader, mapping: MappingOf, what: string, keys: readonly string[]) {
  for (const key of keys) {
    if (!mapping.entries.has(key) && !mapping.meant.has(key))
      reader.refuse({ start: mapping.at.start, end: mapping.at.start + 1 }, `${what} lacks '${key}'`);
  }
}

/** A required value: absent was reported by `missing`, empty is reported here. */
function needed<T>(
  reader: Reader,
  mapping: { entries: ReadonlyMap<string, { key: Range }> },
  key: string,
  what: string,
  read: () => Placed<T> | undefined,
): Placed<T> | undefined {
  const before = reader.faults.length;
  const value = read();
  const entry = mapping.entries.get(key);
  if (value === undefined && entry !== undefined && reader.faults.length === before)
    reader.refuse(entry.key, `${what}.${key} has no value`);
  return value;
}

function readPeer(reader: Reader, node: YamlNode, at: Range, what: string): ParsedPeer | undefined {
  const mapping = reader.mapping(node, what, at, PEER_KEYS);
  if (mapping === undefined) return undefined;
  missing(reader, mapping, what, ['name', 'address']);
  const name = readName(
    reader,
    needed(reader, mapping, 'name', what, () => reader.text(mapping, 'name', what)),
    `${what}.name`,
  );
  const address = readAddress(
    reader,
    needed(reader, mapping, 'address', what, () => reader.text(mapping, 'address', what)),
    what,
  );
  const access = reader.choice(mapping, 'api_access', what, ['open', 'internal']);
  if (name === undefined || address === undefined) return undefined;
  return { at: mapping.at, name, address, api_access: access?.value ?? 'open' };
}

function readAddress(
  reader: Reader,
  address: Placed<string> | undefined,
  what: string,
): Placed<string> | undefined {
  if (address === undefined) return undefined;
  const port = Number(ADDRESS.exec(address.value)?.[1] ?? 0);
  if (port >= 1 && port <= 65_535 && address.value.length <= 261) return address;
  const bare = address.value.replace(/^https?:\/\//i, '').replace(/\/$/, '');
  const better = ADDRESS.test(bare) ? bare : ADDRESS.test(`${bare}:8080`) ? `${bare}:8080` : undefined;
  const hint = better === undefined ? 'such as 10.0.0.2:8080 or [2001:db8::2]:8080' : `so write ${better}`;
  return reader.refuse(address.at, `${what}.address must be HOST:PORT, ${hint}`);
}

function readService(reader: Reader, node: YamlNode, at: Range, what: string): ParsedService | undefined {
  const mapping = reader.mapping(node, what, at, SERVICE_KEYS);
  if (mapping === undefined) return undefined;
  missing(reader, mapping, what, ['name', 'source_peer', 'target_peer']);
  const textOf = (key: string) => needed(reader, mapping, key, what, () => reader.text(mapping, key, what));
  const name = readName(reader, textOf('name'), `${what}.name`);
  const source = textOf('source_peer');
  const target = textOf('target_peer');
  const transport = reader.choice(mapping, 'transport_type', what, ['tcp', 'kcp', 'auto']);
  const transparent = reader.boolean(mapping, 'fully_transparent', what);
  const own = readInterface(reader, mapping, what);
  const onFailure = reader.choice(mapping, 'on_failure', what, ['direct', 'reject']);
  const limit = readLimit(reader, mapping, what);
  const routes = reader
    .list(mapping.entries.get('routes'), `${what}.routes`)
    .flatMap((item, index) => readRoute(reader, item.node, item.at, `${what}.routes[${index}]`) ?? []);
  if (name === undefined || source === undefined || target === undefined) return undefined;
  const otherwise = mapping.at;
  return {
    at: mapping.at,
    name,
    source_peer: source,
    target_peer: target,
    transport_type: transport ?? { value: 'tcp', at: otherwise },
    fully_transparent: transparent ?? { value: false, at: otherwise },
    ...own,
    bandwidth_limit_mbps: limit,
    on_failure: onFailure?.value ?? 'direct',
    routes,
  };
}

type MappingOf = NonNullable<ReturnType<Reader['mapping']>>;

/** A nested mapping, or undefined when the key is not there or has nothing behind it. */
function nested(reader: Reader, from: MappingOf, key: string, what: string, keys: readonly string[]) {
  const entry = from.entries.get(key);
  if (entry?.value === undefined || isEmpty(entry.value)) return undefined;
  return reader.mapping(entry.value, `${what}.${key}`, entry.key, keys);
}

const isEmpty = (node: NonNullable<YamlNode>): boolean => 'value' in node && node.value === null;

function readInterface(reader: Reader, service: MappingOf, what: string) {
  const mapping = nested(reader, service, 'interface', what, INTERFACE_KEYS);
  const none = { interface_enabled: false, interface_ipv4: undefined, interface_ipv6: undefined };
  if (mapping === undefined) return none;
  const inner = `${what}.interface`;
  missing(reader, mapping, inner, ['enabled']);
  const enabled = needed(reader, mapping, 'enabled', inner, () => reader.boolean(mapping, 'enabled', inner));
  return {
    interface_enabled: enabled?.value ?? false,
    interface_ipv4: reader.text(mapping, 'ipv4', inner),
    interface_ipv6: reader.text(mapping, 'ipv6', inner),
  };
}

function readLimit(reader: Reader, service: MappingOf, what: string): number {
  const mapping = nested(reader, service, 'qos', what, QOS_KEYS);
  if (mapping === undefined) return 0;
  const bounds = { min: 0, max: MOST_MBPS, whole: false };
  return reader.number(mapping, 'bandwidth_limit_mbps', `${what}.qos`, bounds)?.value ?? 0;
}

function readRoute(reader: Reader, node: YamlNode, at: Range, what: string): ParsedRoute | undefined {
  const mapping = reader.mapping(node, what, at, ROUTE_KEYS);
  if (mapping === undefined) return undefined;
  missing(reader, mapping, what, ['priority']);
  const bounds = { min: 0, max: MOST_PRIORITY, whole: true };
  const priority = needed(reader, mapping, 'priority', what, () =>
    reader.number(mapping, 'priority', what, bounds),
  );
  const source = reader.text(mapping, 'source_cidr', what);
  const dest = reader.text(mapping, 'dest_cidr', what);
  if (priority === undefined) return undefined;
  return { at: mapping.at, priority: priority.value, source_cidr: source, dest_cidr: dest };
}
