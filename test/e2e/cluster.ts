/** A lab whose agents form a cluster, as the end-to-end tests need it. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock, systemRandom } from '../../events/clock.ts';
import { createIds } from '../../events/ids.ts';
import { createLab, type Lab, type LabAgent, type LabHost, type LabOptions } from '../../ops/lab/lab.ts';
import { createLicenseRoot, issueLicense } from '../../src/identity/license.ts';
import { formatPublicRoot } from '../../src/identity/trust-roots.ts';

export interface Bootstrapped {
  readonly peer_id: string;
  readonly client_id: string;
  readonly client_secret: string;
  readonly cluster_id: string;
}

export interface Member {
  readonly agent: LabAgent;
  readonly identity: Bootstrapped;
  readonly token: string;
}

export interface LicenseTerms {
  readonly customer?: string;
  readonly maxNodes?: number;
  readonly maxServices?: number;
  /** Days until it expires; 90 unless given. */
  readonly days?: number;
}

/** An issuer of its own for one test: its root goes onto every host it is trusted on. */
export interface Issuer {
  trustOn(configDir: string): void;
  issue(terms?: LicenseTerms): unknown;
}

export function createIssuer(directory: string): Issuer {
  mkdirSync(directory, { recursive: true });
  const root = createLicenseRoot(systemRandom);
  const ids = createIds({ clock: systemClock, random: systemRandom });
  const rootFile = join(directory, 'root.pub');
  writeFileSync(rootFile, formatPublicRoot(root.publicKey), { mode: 0o644 });
  return {
    trustOn(configDir) {
      const roots = join(configDir, 'trust-roots');
      mkdirSync(roots, { recursive: true, mode: 0o755 });
      copyFileSync(rootFile, join(roots, 'root.pub'));
    },
    issue: (terms = {}) =>
      issueLicense(
        root,
        {
          customerId: terms.customer ?? 'cust_lab',
          maxNodes: terms.maxNodes ?? 10,
          maxServices: terms.maxServices ?? 100,
          features: [],
          expiresAt: Date.now() + (terms.days ?? 90) * 86_400_000,
        },
        { clock: systemClock, ids },
      ),
  };
}

export async function obtainToken(agent: LabAgent, clientId: string, clientSecret: string): Promise<string> {
  const answer = await agent.request('POST', '/v1/oauth/token', {
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: clientSecret,
    }),
  });
  if (answer.status !== 200) throw new Error(`no token: ${answer.status} ${answer.text}`);
  return answer.json<{ access_token: string }>().access_token;
}

export async function bootstrap(agent: LabAgent, license: unknown, name: string): Promise<Member> {
  const answer = await agent.request('POST', '/v1/bootstrap', { body: { license, name } });
  if (answer.status !== 201) throw new Error(`bootstrap of ${name}: ${answer.status} ${answer.text}`);
  const identity = answer.json<Bootstrapped>();
  return { agent, identity, token: await obtainToken(agent, identity.client_id, identity.client_secret) };
}

/** Repeats the probe every 20 ms until it gives a value; an error after `limit` ms. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false>,
  limit = 15_000,
): Promise<T> {
  const deadline = Date.now() + limit;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what}: not within ${limit} ms${last instanceof Error ? ` (${last.message})` : ''}`);
    }
    await sleep(20);
  }
}

export interface TestCluster {
  readonly lab: Lab;
  readonly members: readonly Member[];
  readonly issuer: Issuer;
  member(index: number): Member;
}

export interface ClusterOptions extends LabOptions {
  /** False: everybody stays a cluster of its own. */
  readonly join?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  /** Settings of one host beside those. */
  readonly envOf?: (host: LabHost) => Promise<Readonly<Record<string, string>>>;
  readonly license?: LicenseTerms;
}

/** Starts one agent a host, bootstraps one after the other, so that the first has the oldest id, and joins each further one to it. */
export async function createCluster(options: ClusterOptions = {}): Promise<TestCluster> {
  const lab = await createLab(options);
  try {
    const issuer = createIssuer(join(lab.directory, 'issuer'));
    const names = options.agents ?? ['entry', 'exit'];
    const agents = await Promise.all(
      names.map(async (name) => {
        const host = lab.host(name);
        issuer.trustOn(join(host.directory, 'config'));
        return lab.startAgent(name, { env: { ...options.env, ...(await options.envOf?.(host)) } });
      }),
    );
    const members: Member[] = [];
    for (const agent of agents)
      members.push(await bootstrap(agent, issuer.issue(options.license), agent.host.name));
    const member = (index: number): Member => {
      const found = members[index];
      if (found === undefined) throw new Error(`no member ${index}`);
      return found;
    };
    if (options.join !== false) {
      for (const other of members.slice(1)) {
        const answer = await member(0).agent.request('POST', '/v1/peers', {
          body: { address: other.agent.address },
          token: member(0).token,
        });
        if (answer.status !== 201) throw new Error(`join: ${answer.status} ${answer.text}`);
      }
    }
    return { lab, members, issuer, member };
  } catch (error) {
    await lab.destroy();
    throw error;
  }
}
