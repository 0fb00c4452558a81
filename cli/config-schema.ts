import { isCollection, isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import type { Config, ConfigCluster, ConfigPeer, Preferences } from './config.ts';
import { parseDuration } from './duration.ts';
import { configurationFailure } from './failure.ts';

/** Reads values out of a YAML document and refuses with file and line. */
class Reader {
  readonly path: string;
  readonly lines: LineCounter;

  constructor(path: string, lines: LineCounter) {
    this.path = path;
    this.lines = lines;
  }

  refuse(node: Node | null | undefined, text: string): never {
    const offset = node?.range?.[0];
    const line = offset === undefined ? 1 : this.lines.linePos(offset).line;
    throw configurationFailure(`${this.path}:${line}: ${text}.`);
  }

  map(node: unknown, field: string, parent: Node | null): Map<string, Node | null> {
    const found = new Map<string, Node | null>();
    if (node === null || node === undefined) return found;
    if (!isMap<unknown, Node | null>(node)) {
      if (isScalar(node) && node.value === null) return found;
      return this.refuse(isScalar(node) || isCollection(node) ? node : parent, `${field} must be a mapping`);
    }
    for (const pair of node.items)
      found.set(String(isScalar(pair.key) ? pair.key.value : pair.key), pair.value);
    return found;
  }

  optionalText(node: Node | null | undefined, field: string): string | undefined {
    if (node === undefined || node === null || (isScalar(node) && node.value === null)) return undefined;
    if (!isScalar(node) || typeof node.value === 'object')
      return this.refuse(node, `${field} must be a text`);
    return String(node.value);
  }

  text(from: Map<string, Node | null>, name: string, field: string, parent: Node | null): string {
    return (
      this.optionalText(from.get(name), `${field}.${name}`) ??
      this.refuse(parent, `${field}.${name} is missing`)
    );
  }

  list(node: Node | null | undefined, field: string): readonly Node[] {
    if (node === undefined || node === null || (isScalar(node) && node.value === null)) return [];
    if (!isCollection(node) || isMap(node)) return this.refuse(node, `${field} must be a list`);
    return node.items.filter((item): item is Node => isScalar(item) || isCollection(item));
  }
}

function readPeer(reader: Reader, node: Node, field: string): ConfigPeer {
  const map = reader.map(node, field, node);
  const peerId = reader.text(map, 'peer_id', field, node);
  const endpoints = reader.list(map.get('endpoints'), `${field}.endpoints`).map((item, at) => {
    const text = reader.optionalText(item, `${field}.endpoints[${at}]`) ?? '';
    if (!URL.canParse(text) || !/^https?:/.test(text))
      reader.refuse(item, `${field}.endpoints[${at}] is not an http or https URL`);
    return text;
  });
  return {
    peer_id: peerId,
    name: reader.optionalText(map.get('name'), `${field}.name`) ?? peerId,
    endpoints,
  };
}

function readCluster(reader: Reader, node: Node | null, id: string): ConfigCluster {
  const field = `clusters.${id}`;
  const map = reader.map(node, field, node);
  const peers = reader
    .list(map.get('peers'), `${field}.peers`)
    .map((item, at) => readPeer(reader, item, `${field}.peers[${at}]`));
  return {
    cluster_id: reader.optionalText(map.get('cluster_id'), `${field}.cluster_id`) ?? id,
    customer_id: reader.optionalText(map.get('customer_id'), `${field}.customer_id`) ?? '',
    client_id: reader.text(map, 'client_id', field, node),
    client_secret: reader.text(map, 'client_secret', field, node),
    peers,
    default_peer:
      reader.optionalText(map.get('default_peer'), `${field}.default_peer`) ?? peers[0]?.peer_id ?? '',
    name: reader.optionalText(map.get('name'), `${field}.name`) ?? id,
  };
}

function readPreferences(reader: Reader, node: Node | null | undefined): Preferences {
  const map = reader.map(node, 'preferences', node ?? null);
  const format = reader.optionalText(map.get('output_format'), 'preferences.output_format');
  if (format !== undefined && format !== 'table' && format !== 'json' && format !== 'yaml')
    return reader.refuse(map.get('output_format'), 'preferences.output_format must be table, json or yaml');
  const timeout = reader.optionalText(map.get('timeout'), 'preferences.timeout');
  if (timeout !== undefined && !(Number(parseDuration(timeout)) > 0))
    return reader.refuse(map.get('timeout'), 'preferences.timeout must be a time such as 30s');
  const retention = reader.optionalText(map.get('backup_retention'), 'preferences.backup_retention');
  if (retention !== undefined && (!/^\d+$/.test(retention) || Number(retention) > 100))
    return reader.refuse(map.get('backup_retention'), 'preferences.backup_retention must be 0 to 100');
  return {
    ...(format === undefined ? {} : { output_format: format }),
    ...(timeout === undefined ? {} : { timeout }),
    ...(retention === undefined ? {} : { backup_retention: Number(retention) }),
  };
}

/** @throws Failure (configuration): `FILE:LINE: what is wrong.` */
export function parseConfig(text: string, path: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const fault = document.errors[0];
  if (fault !== undefined) {
    const message = (fault.message.split('\n')[0] ?? '').replace(/[.:]$/, '');
    throw configurationFailure(
      `${path}:${lines.linePos(fault.pos[0]).line}: the configuration is not valid YAML: ${message}.`,
    );
  }
  const reader = new Reader(path, lines);
  const root = document.contents;
  const map = reader.map(root, 'the configuration', root);
  const current = reader.optionalText(map.get('current_cluster'), 'current_cluster');
  // fromEntries makes own properties of every name, `__proto__` included.
  const clusters = Object.fromEntries(
    [...reader.map(map.get('clusters'), 'clusters', root)].map(([id, node]) => [
      id,
      readCluster(reader, node, id),
    ]),
  );
  if (current !== undefined && !Object.hasOwn(clusters, current))
    reader.refuse(
      map.get('current_cluster'),
      `current_cluster names '${current}', which clusters does not have`,
    );
  return {
    ...(current === undefined ? {} : { current_cluster: current }),
    clusters,
    preferences: readPreferences(reader, map.get('preferences')),
  };
}

/** The file's text with the configuration in it; what the configuration does not know of the old text stays. */
export function renderConfig(oldText: string, config: Config): string {
  const document = parseDocument(oldText);
  if (!isMap(document.contents)) document.contents = document.createNode({}) as never;
  if (config.current_cluster === undefined) document.delete('current_cluster');
  else document.set('current_cluster', config.current_cluster);
  if (!isMap(document.get('clusters'))) document.set('clusters', document.createNode({}));
  const old = document.get('clusters');
  // `{}`, as an empty file has it, would draw everything inside it into one flow.
  if (isMap(old) && old.items.length === 0) old.flow = false;
  if (isMap(old))
    for (const pair of [...old.items]) {
      const key = String(isScalar(pair.key) ? pair.key.value : pair.key);
      if (!Object.hasOwn(config.clusters, key)) old.delete(pair.key);
    }
  for (const [id, cluster] of Object.entries(config.clusters)) {
    if (!isMap(document.getIn(['clusters', id]))) document.setIn(['clusters', id], document.createNode({}));
    for (const [field, value] of Object.entries(cluster)) {
      const node = document.getIn(['clusters', id, field], true);
      const same =
        (isScalar(node) || isCollection(node)) &&
        JSON.stringify(node.toJS(document)) === JSON.stringify(value);
      if (!same) document.setIn(['clusters', id, field], document.createNode(value));
    }
  }
  if (!isMap(document.get('preferences'))) document.set('preferences', document.createNode({}));
  return document.toString();
}
