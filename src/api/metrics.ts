import { Counter, Gauge, Histogram } from 'prom-client';
import { isMember } from '../commands/peers.ts';
import { evaluate } from '../health/evaluate.ts';
import { CONDITIONS } from '../health/table.ts';
import { factsOf } from './conditions.ts';
import type { ApiContext, App } from './context.ts';
import { peerResource } from './resources.ts';

/** Seconds; API answers are expected within 20 ms. */
const BUCKETS = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5];
const STATES = ['pending', 'active', 'unreachable', 'left', 'removed'] as const;

export function metricRoutes(app: App, context: ApiContext): void {
  const { registry, views, log, options } = context;
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });

  new Gauge({
    name: 'arctic_info',
    help: 'Version of this agent.',
    labelNames: ['version', 'peer_id'],
    registers,
  }).set({ version: options.version, peer_id: context.identity.peerId }, 1);
  gauge('arctic_log_head', 'Position of the newest event in the log of this peer.', () => log.head);
  gauge('arctic_services', 'Services of the cluster.', () => views.services.size);
  gauge('arctic_routes', 'Routes of the cluster.', () => views.routes.size);
  gauge('arctic_members', 'Peers that are members.', () => views.peers.list().filter(isMember).length);
  gauge(
    'arctic_license_expiry_seconds',
    'Time of expiry of the license, seconds since the epoch; 0 without one.',
    () => {
      const license = views.license();
      return license === undefined ? 0 : Date.parse(license.expires_at) / 1_000;
    },
  );
  new Gauge({
    name: 'arctic_peers',
    help: 'Peers by state.',
    labelNames: ['state'],
    registers,
    collect() {
      const states = views.peers.list().map((peer) => peerResource(context, peer).state);
      for (const state of STATES) this.set({ state }, states.filter((one) => one === state).length);
    },
  });
  new Gauge({
    name: 'arctic_reconciler_applied',
    help: '1 when the reconciler has applied the desired state, else 0.',
    labelNames: ['reconciler'],
    registers,
    collect() {
      for (const one of context.reconcilers.status()) {
        this.set({ reconciler: one.name }, one.state === 'applied' ? 1 : 0);
      }
    },
  });
  new Gauge({
    name: 'arctic_reconciler_consecutive_failures',
    help: 'Passes of the reconciler that have failed since the last good one.',
    labelNames: ['reconciler'],
    registers,
    collect() {
      for (const one of context.reconcilers.status())
        this.set({ reconciler: one.name }, one.consecutive_failures);
    },
  });
  new Gauge({
    name: 'arctic_condition',
    help: 'Health conditions that this agent judges: how often each holds now, 0 when all is well.',
    labelNames: ['code', 'severity'],
    registers,
    collect() {
      this.reset();
      const { findings, judged } = evaluate(factsOf(context));
      for (const { code, severity } of CONDITIONS) {
        if (judged.has(code))
          this.set({ code, severity }, findings.filter((one) => one.code === code).length);
      }
    },
  });
  const answers = new Counter({
    name: 'arctic_http_requests_total',
    help: 'Requests answered by the API.',
    labelNames: ['method', 'route', 'status'],
    registers,
  });
  const seconds = new Histogram({
    name: 'arctic_http_request_seconds',
    help: 'Time to answer a request.',
    labelNames: ['method', 'route'],
    buckets: BUCKETS,
    registers,
  });

  app.addHook('onResponse', async (request, reply) => {
    // The pattern, not the path: ids would make a series each.
    const route = request.routeOptions.url ?? 'unknown';
    answers.inc({ method: request.method, route, status: String(reply.statusCode) });
    seconds.observe({ method: request.method, route }, reply.elapsedTime / 1_000);
  });

  app.get('/metrics', { schema: {} }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
}
