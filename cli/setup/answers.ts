import type { Row } from '../fields.ts';

/** What setup was told. Written to the state file after every answer, so it holds no secret. */
export interface Answers {
  readonly license?: LicenseAnswer;
  readonly name?: string;
  readonly parent?: string;
  /** HOST:PORT of a member; null: this is the first peer. */
  readonly join?: string | null;
  /** The plan was agreed to. */
  readonly agreed?: true;
  /** Null: no service. */
  readonly service?: ServiceAnswer | null;
  /** HOST:PORT behind the exit; null: not to be tried. */
  readonly prove?: string | null;
}

export type LicenseAnswer =
  /** A document on this host, and the public root it is signed with if that is not trusted here yet. */
  | { readonly kind: 'file'; readonly path: string; readonly rootFile?: string }
  /** Issued here, by a root that is made when there is none in the directory. */
  | { readonly kind: 'issue'; readonly customer: string; readonly directory: string };

export interface ServiceAnswer {
  readonly name: string;
  /** Peer id. */
  readonly target: string;
  readonly targetName: string;
  readonly destination: string;
}

/** What the plan depends on. */
export interface PlanInput {
  readonly answers: Answers;
  readonly unit: boolean;
  readonly configDir: string;
  readonly dataDir: string;
  readonly running: boolean;
  readonly bootstrapped: boolean;
}

/** What will be done, as it is shown before the operator agrees. */
export function planLines(input: PlanInput): readonly string[] {
  const { answers, unit, configDir, dataDir, running, bootstrapped } = input;
  const { license, name, parent, join } = answers;
  const lines: string[] = [];
  if (license?.kind === 'issue') {
    lines.push(`License root    ${license.directory} (root.key stays there; keep it secret)`);
    lines.push(`License         issued for ${license.customer}, 365 days, 10 nodes, 100 services`);
  } else if (license !== undefined) {
    lines.push(`License         ${license.path}`);
    if (license.rootFile !== undefined) lines.push(`Trust           ${license.rootFile}`);
  }
  lines.push(`Settings        ${configDir}/arctic.env (PARENT_INTERFACE=${parent})`);
  lines.push(`Event log       ${dataDir}`);
  lines.push(
    running
      ? 'Agent           runs already'
      : unit
        ? 'Agent           systemd unit arctic.service, enabled and started'
        : 'Agent           started in the background, without a unit',
  );
  lines.push(bootstrapped ? 'Bootstrap       done already' : `Bootstrap       as ${name}`);
  lines.push(
    join ? `Join            the cluster of ${join}` : 'Cluster         a new one, this is its first peer',
  );
  return lines;
}

const quote = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** The same by hand, one command a line. */
export function equivalentCommands(
  answers: Answers,
  url: string,
  configDir: string,
  unit: boolean,
): readonly string[] {
  const { license, name, parent, join, service } = answers;
  const licensePath = license?.kind === 'file' ? license.path : `${configDir}/license.json`;
  const commands: string[] = [];
  if (license?.kind === 'issue') {
    const { directory, customer } = license;
    commands.push(
      `arctic license root create --out ${quote(directory)}`,
      `install -D -m 0644 ${quote(`${directory}/root.pub`)} ${configDir}/trust-roots/root.pub`,
      `arctic license issue --root ${quote(`${directory}/root.key`)} --customer ${quote(customer)} > ${licensePath}`,
    );
  } else if (license?.rootFile !== undefined) {
    commands.push(`install -D -m 0644 ${quote(license.rootFile)} ${configDir}/trust-roots/root.pub`);
  }
  const setting = `PARENT_INTERFACE=${quote(parent ?? '')}`;
  commands.push(unit ? `arctic agent install --set ${setting}` : `${setting} arctic agent &`);
  commands.push(
    `arctic bootstrap --url ${url} --license-file ${quote(licensePath)} --name ${quote(name ?? '')}`,
  );
  if (join) commands.push(`arctic peers add ${join}`);
  if (service) {
    const { name: serviceName, targetName, destination } = service;
    commands.push(
      `arctic services create --name ${quote(serviceName)} --target-peer ${quote(targetName)}`,
      `arctic routes add --service ${quote(serviceName)} --priority 100 --dest-cidr ${destination}`,
    );
  }
  return commands;
}

/** The cluster as a compose file (SPEC section 7). `peers` are the agent's own rows. */
export async function clusterYaml(
  answers: Answers,
  peers: readonly Row[],
  licensePath: string,
): Promise<string> {
  const { stringify } = await import('../yaml-writer.ts');
  const self = peers.find((row) => row['is_local'] === true);
  const { service } = answers;
  return stringify({
    version: 'v1',
    license: licensePath,
    peers: peers
      .filter((row) => row['state'] !== 'left' && row['state'] !== 'removed')
      .map((row) => ({ name: row['name'], address: row['address'] })),
    services: service
      ? [
          {
            name: service.name,
            source_peer: self?.['name'],
            target_peer: service.targetName,
            transport_type: 'tcp',
            routes: [{ priority: 100, dest_cidr: service.destination }],
          },
        ]
      : [],
  });
}
