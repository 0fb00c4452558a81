import type { SwaggerOptions } from '@fastify/swagger';
import { ERRORS, type ErrorCode } from '../../events/errors.ts';
import { accessOf } from './access.ts';
import { ErrorAnswer } from './schemas/fields.ts';

/** What a route can answer besides its own; the texts are the catalogue's. */
const errorsBy = (status: number): string =>
  (Object.keys(ERRORS) as ErrorCode[])
    .filter((code) => ERRORS[code].status === status)
    .map((code) => `\`${code}\`: ${ERRORS[code].meaning}`)
    .join('\n\n');

const STATUSES = [...new Set(Object.values(ERRORS).map((row) => row.status))].sort((a, b) => a - b);

/** The OpenAPI 3.1 document: routes and schemas as they are registered, security from the access table. */
export const openApiOptions = (version: string): SwaggerOptions => ({
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'Arctic',
      description:
        'Operator API of the Arctic agent. Any request may name another member with `X-Arctic-Peer`.',
      version,
    },
    components: {
      securitySchemes: {
        oauth2: {
          type: 'oauth2',
          flows: { clientCredentials: { tokenUrl: '/v1/oauth/token', scopes: {} } },
        },
        recovery: { type: 'apiKey', in: 'header', name: 'X-Arctic-Recovery' },
      },
    },
  },
  transform: ({ schema, url, route }) => {
    const [method] = [route.method].flat();
    const access = accessOf(method ?? 'GET', url);
    const scope = access?.scope;
    const security =
      scope === undefined || scope === 'none' || scope === 'peer'
        ? []
        : [{ oauth2: scope === 'any' ? [] : [scope] }, { recovery: [] }];
    const own = (schema?.response ?? {}) as Readonly<Record<string, unknown>>;
    const refusals = Object.fromEntries(
      STATUSES.filter((status) => !(String(status) in own)).map((status) => [
        status,
        { description: errorsBy(status), ...ErrorAnswer },
      ]),
    );
    return {
      url,
      schema: {
        ...schema,
        tags: [url.split('/')[2] ?? 'health'],
        security,
        response: { ...own, ...refusals },
      },
    };
  },
});
