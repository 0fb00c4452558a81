/** The CLI's own file: which clusters there are, how to reach them, and with what credentials (SPEC section 6). */
export interface ConfigPeer {
  readonly peer_id: string;
  readonly name: string;
  readonly endpoints: readonly string[];
}

export interface ConfigCluster {
  readonly cluster_id: string;
  readonly customer_id: string;
  readonly client_id: string;
  readonly client_secret: string;
  readonly peers: readonly ConfigPeer[];
  /** Peer id that is asked first. */
  readonly default_peer: string;
  readonly name: string;
}

export interface Preferences {
  readonly output_format?: 'table' | 'json' | 'yaml';
  /** `30s`, `500ms`, `2m` or a number of seconds. */
  readonly timeout?: string;
  /** How many earlier versions of the file are kept beside it (`config.yaml.1` is the newest). */
  readonly backup_retention?: number;
}

export interface Config {
  readonly current_cluster?: string;
  readonly clusters: Readonly<Record<string, ConfigCluster>>;
  readonly preferences: Preferences;
}

export const EMPTY_CONFIG: Config = { clusters: {}, preferences: {} };
