import { licenseStateAt } from '../commands/license-state.ts';
import { type ApiContext, type App, documented, isoTime } from './context.ts';
import type { ReadinessCheck } from './ports.ts';
import { Health, Readiness } from './schemas.ts';

export function healthRoutes(app: App, context: ApiContext): void {
  const { clock } = context;

  app.get('/livez', { schema: documented({}, { 200: Health }) }, () => ({
    status: 'ok',
    timestamp: isoTime(clock.now()),
  }));

  app.get('/readyz', { schema: documented({}, { 200: Readiness, 503: Readiness }) }, (_request, reply) => {
    const checks = [...ownChecks(context), ...context.readiness()];
    const ready = checks.every((check) => check.ok);
    return reply.code(ready ? 200 : 503).send({
      status: ready ? 'ok' : 'unavailable',
      timestamp: isoTime(clock.now()),
      checks,
    });
  });
}

function ownChecks({ views, projections, clock }: ApiContext): readonly ReadinessCheck[] {
  const { cluster_id } = views.cluster();
  const license = views.license();
  const state = license && licenseStateAt(license.expires_at, clock.now());
  return [
    {
      name: 'projections',
      ok: projections.caughtUp,
      detail: projections.caughtUp ? `at position ${projections.position}` : 'the event log is being read',
    },
    {
      name: 'bootstrap',
      ok: cluster_id !== undefined,
      detail: cluster_id ?? 'not bootstrapped; run: arctic bootstrap --license-file FILE',
    },
    {
      name: 'license',
      ok: state !== undefined && state !== 'suspended',
      detail: license === undefined ? 'no license is installed' : `${license.license_id} is ${state}`,
    },
  ];
}
