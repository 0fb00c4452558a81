import { EXIT } from '../../events/errors.ts';
import { certificateFacts } from '../../src/health/certificate.ts';
import type { Facts, KernelFacts } from '../../src/health/facts.ts';
import { readAgentSettings } from '../agent-settings.ts';
import type { Client } from '../client.ts';
import type { Run } from '../command.ts';
import type { Context } from '../context.ts';
import { askAgent, askReadiness, triedOf } from '../doctor/agent-facts.ts';
import {
  clockSynchronised,
  databaseFacts,
  hasNetAdmin,
  hostFacts,
  installFacts,
  portFacts,
  trustFacts,
} from '../doctor/host-facts.ts';
import { type PeerPorts, tryPeers } from '../doctor/peer-facts.ts';
import { type Report, renderReport, report } from '../doctor/report.ts';
import { toFailure } from '../failure.ts';
import { currentCluster } from '../target.ts';
import { isThisHost } from '../this-host.ts';
import { inspect } from './agent.ts';

/** Carriers of a cluster share one port, and so do tunnels; these are the ones where nothing else is known. */
const DEFAULT_PORTS: PeerPorts = { carrier: 61_000, tunnel: 51_840 };

/** The kernel and what of the agent's files can be seen; says what could not be looked at. */
async function hostSide(
  context: Context,
  full: boolean,
  gaps: string[],
): Promise<{ facts: Partial<Facts>; apiPort: number; ports: PeerPorts }> {
  const read = readAgentSettings(context.env);
  const { settings } = read;
  const apiPort = settings?.apiPort ?? 8080;
  const ports: PeerPorts =
    settings === undefined ? DEFAULT_PORTS : { carrier: settings.tproxyPort, tunnel: settings.tunnelPort };
  let kernel: KernelFacts | undefined;
  if (process.platform === 'linux' && hasNetAdmin()) {
    try {
      const inspected = await inspect({
        parentInterface: settings?.parentInterface,
        ports: [apiPort, ports.carrier, ports.tunnel],
      });
      kernel = inspected.kernel;
    } catch (error) {
      gaps.push(`kernel: ${toFailure(error).message}`);
    }
  }
  const database = await databaseFacts(read, full);
  if (database === undefined) gaps.push(`database: ${read.dataDir} cannot be read by this user`);
  const host = { ...hostFacts(read.dataDir), clockSynchronised: await clockSynchronised() };
  return {
    apiPort,
    ports,
    facts: {
      host,
      settings: { fault: read.fault, file: read.file },
      install: installFacts(read),
      trust: trustFacts(read),
      ...(kernel === undefined ? {} : { kernel }),
      ...(database === undefined ? {} : { database }),
      ...(settings === undefined
        ? {}
        : {
            api: {
              bind: settings.apiBind,
              tls: settings.tls !== undefined,
              certificate: settings.tls && certificateFacts(settings.tls.cert),
            },
          }),
    },
  };
}

/** Without the agent: the peers the configuration remembers, to tell whether the path and the clock are right. */
async function rememberedPeers(context: Context, ports: PeerPorts): Promise<Facts['peers']> {
  const cluster = currentCluster(await context.config());
  const peers = (cluster?.peers ?? []).filter(({ endpoints }) => !endpoints.some(isThisHost));
  const bases = peers.map(({ endpoints }) => endpoints[0] ?? '');
  const tried = await tryPeers(
    context,
    bases.map((base) => ({ address: new URL(base).host, base })),
    ports,
  );
  return peers.map(({ peer_id, name }, at) => ({
    id: peer_id,
    name,
    address: new URL(bases[at] ?? '').host,
    state: 'unknown',
    reason: null,
    closedPorts: [],
    lag: 0,
    clockSkewMs: tried[at]?.clockSkewMs ?? null,
    version: null,
    ...triedOf(tried[at], false),
  }));
}

async function connect(
  context: Context,
  local: boolean,
  apiPort: number,
): Promise<{ client: Client; url: string }> {
  if (!local || context.url !== undefined) {
    const client = await context.client();
    return { client, url: client.endpoint().base };
  }
  const scheme = readAgentSettings(context.env).settings?.tls === undefined ? 'http' : 'https';
  const url = `${scheme}://localhost:${apiPort}`;
  return { client: await context.clientFor(url), url };
}

/** Looks at everything there is to look at from here. */
export async function examine(
  context: Context,
  options: { readonly full: boolean; readonly forwarded: boolean },
): Promise<Report> {
  const gaps: string[] = [];
  const elsewhere = (context.url !== undefined && !isThisHost(context.url)) || options.forwarded;
  const side = elsewhere ? undefined : await hostSide(context, options.full, gaps);
  const peerPorts = side?.ports ?? DEFAULT_PORTS;
  const { client, url } = await connect(context, !elsewhere, side?.apiPort ?? 8080);
  const agent = await askReadiness(client, url);
  const ports = side && portFacts(readAgentSettings(context.env), agent.silence === undefined);

  let facts: Facts = {
    now: context.clock.now(),
    ...side?.facts,
    ...(ports === undefined ? {} : { ports }),
    agent,
  };
  let reported: Parameters<typeof report>[1] = [];
  if (agent.silence !== undefined) {
    const peers = await rememberedPeers(context, peerPorts);
    facts = { ...facts, ...(peers === undefined || peers.length === 0 ? {} : { peers }) };
    gaps.push('license, reconcilers, services and drift: the agent does not answer');
  } else if (agent.bootstrapped === true) {
    const asked = await askAgent(context, client, agent, peerPorts);
    facts = { ...facts, ...asked.facts };
    reported = asked.reported;
    gaps.push(...asked.gaps);
  }
  return report(facts, reported, gaps);
}

/** The report as machines read it. */
export const reportResource = (result: Report) => ({
  status: result.status,
  areas: result.areas.map(({ area, state }) => ({ area, state })),
  findings: result.findings.map(({ code, severity, area, subject, text, remedy, symptoms }) => ({
    code,
    severity,
    area,
    subject: subject ?? null,
    text,
    remedy,
    symptoms,
  })),
  not_checked: result.gaps,
});

export const doctor: Run = async (context, input) => {
  const result = await examine(context, {
    full: input.flag('full'),
    forwarded: input.text('peer') !== undefined,
  });
  await context.output.either(reportResource(result), () =>
    renderReport(result, context.output.style, context.output.width),
  );
  return result.status === 'critical' ? EXIT.general : EXIT.success;
};
