import { ArcticError } from '../../events/errors.ts';
import { decideBootstrap } from '../commands/bootstrap.ts';
import { decideReplaceLicense } from '../commands/license.ts';
import { verifyLicense } from '../identity/license.ts';
import { createSecret, hashSecret } from '../identity/secrets.ts';
import { type ApiContext, type App, commandOf, documented } from './context.ts';
import { licenseResource } from './resources.ts';
import { BootstrapAnswer, BootstrapBody, License, ReplaceLicenseBody } from './schemas/license.ts';

/** Of `NameField` in the catalogue. */
const MAX_NAME_LENGTH = 63;

/** A host name is longer than a peer name may be, or empty, on the odd host. */
const defaultName = (hostName: string): string => {
  const name = hostName.replaceAll(/\p{Cc}/gu, '').slice(0, MAX_NAME_LENGTH);
  return name === '' ? 'peer' : name;
};

/** A license and two names; the sender has proved nothing yet. */
const BODY_LIMIT_BYTES = 65_536;

export function bootstrapRoutes(app: App, context: ApiContext): void {
  const { executor, identity, random, options } = context;

  app.post(
    '/v1/bootstrap',
    {
      bodyLimit: BODY_LIMIT_BYTES,
      // Before the body is read: who may not bootstrap has nothing to send.
      onRequest: async () => refuseIfBootstrapped(context),
      schema: documented({ body: BootstrapBody }, { 201: BootstrapAnswer }),
    },
    (request, reply) => {
      const { license: document, name, description } = request.body;
      refuseIfBootstrapped(context);
      const license = verifyLicense(document, context.trustRoots());
      const publicKey = Buffer.from(identity.publicKey).toString('base64');
      const secret = createSecret(random);
      const { result } = executor.execute(commandOf(request), (now, at) =>
        decideBootstrap(
          now,
          {
            license,
            name: name ?? defaultName(options.hostName),
            description: description ?? null,
            peer: { publicKey, ...context.advertise(), agentVersion: options.version },
            secretHash: hashSecret(secret),
          },
          at,
        ),
      );
      if (result === undefined)
        throw new ArcticError('ALREADY_BOOTSTRAPPED', 'this agent was bootstrapped by an earlier request.');
      return reply.code(201).send({
        peer_id: result.peerId,
        peer_public_key: publicKey,
        client_id: result.clientId,
        client_secret: secret,
        license_id: result.licenseId,
        cluster_id: result.clusterId,
        expires_at: license.expires_at,
        max_nodes: license.max_nodes,
        max_services: license.max_services,
      });
    },
  );

  app.get('/v1/license', { schema: documented({}, { 200: License }) }, () => licenseResource(context));

  app.put(
    '/v1/license',
    { schema: documented({ body: ReplaceLicenseBody }, { 200: License }) },
    (request) => {
      const license = verifyLicense(request.body, context.trustRoots());
      executor.execute(commandOf(request), (now, at) => decideReplaceLicense(now, license, at));
      return licenseResource(context);
    },
  );
}

/** Said before the license is looked at: on an agent with a cluster that is the answer, whatever the license. */
function refuseIfBootstrapped({ views }: ApiContext): void {
  const id = views.cluster().cluster_id;
  if (id === undefined) return;
  throw new ArcticError(
    'ALREADY_BOOTSTRAPPED',
    `this agent belongs to cluster ${id} already; to start over, stop it, delete its database and bootstrap again.`,
  );
}
