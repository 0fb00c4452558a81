import { readiness } from '../health/evaluate.ts';
import { factsOf } from './conditions.ts';
import { type ApiContext, type App, documented, isoTime } from './context.ts';
import { Health, LogLevelAnswer, LogLevelBody, Readiness } from './schemas/health.ts';

export function healthRoutes(app: App, context: ApiContext): void {
  const { clock } = context;

  app.get('/livez', { schema: documented({}, { 200: Health }) }, () => ({
    status: 'ok',
    timestamp: isoTime(clock.now()),
  }));

  app.get('/readyz', { schema: documented({}, { 200: Readiness, 503: Readiness }) }, (_request, reply) => {
    const checks = readiness(factsOf(context));
    const ready = checks.every((check) => check.ok);
    return reply.code(ready ? 200 : 503).send({
      status: ready ? 'ok' : 'unavailable',
      timestamp: isoTime(clock.now()),
      checks,
    });
  });

  app.put(
    '/v1/log-level',
    { schema: documented({ body: LogLevelBody }, { 200: LogLevelAnswer }) },
    (request) => {
      const { level, seconds } = request.body;
      return { level, until: isoTime(context.setLogLevel(level, seconds * 1_000)) };
    },
  );
}
