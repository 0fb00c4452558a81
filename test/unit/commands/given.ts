/** given(events).when(decision).then(events): decisions over a real log, with who, when and where fixed. */
import { rmSync } from 'node:fs';
import type { Test } from 'tap';
import type { Actor, AnyNewEvent } from '../../../events/envelope.ts';
import { ArcticError } from '../../../events/errors.ts';
import type { Views } from '../../../projections/views.ts';
import { decideBootstrap } from '../../../src/commands/bootstrap.ts';
import type { Decision, DecisionContext } from '../../../src/commands/decision.ts';
import { createLicenseRoot, issueLicense } from '../../../src/identity/license.ts';
import { openLocalPeer, random } from '../local-peer.ts';

const DAY = 86_400_000;
export const OPERATOR: Actor = { kind: 'client', id: 'cli_01JD0000000000000000000000', address: '192.0.2.9' };

export function createGiven(
  t: Test,
  terms: { readonly nodes?: number; readonly services?: number; readonly days?: number } = {},
) {
  const { directory, clock, ids, identity, log, projections, views, executor } =
    openLocalPeer('arctic-commands-');
  t.teardown(() => {
    projections.stop();
    log.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const root = createLicenseRoot(random);
  const license = (days = terms.days ?? 365) =>
    issueLicense(
      root,
      {
        customerId: 'cust_test',
        maxNodes: terms.nodes ?? 3,
        maxServices: terms.services ?? 10,
        features: [],
        expiresAt: clock.now() + days * DAY,
      },
      { clock, ids },
    );
  const run = <R>(decide: (views: Views, context: DecisionContext) => Decision<R>, actor = OPERATOR) =>
    executor.execute({ actor, correlationId: 'test' }, decide);

  return {
    log,
    views,
    clock,
    ids,
    identity,
    executor,
    license,
    run,
    bootstrap: () =>
      run((now, at) =>
        decideBootstrap(
          now,
          {
            license: license(),
            name: 'first',
            description: null,
            peer: {
              publicKey: Buffer.from(identity.publicKey).toString('base64'),
              address: '192.0.2.1:8080',
              endpoints: ['http://192.0.2.1:8080'],
              agentVersion: '1.4.0',
            },
            secretHash: `sha256:${'A'.repeat(43)}`,
          },
          at,
        ),
      ),
    /** Puts events in the log as they are. */
    given: (...events: readonly AnyNewEvent[]) => run(() => ({ events, result: null })),
    /** The types of what a decision appends. */
    types: <R>(decide: (views: Views, context: DecisionContext) => Decision<R>, actor = OPERATOR) =>
      run(decide, actor).events.map((event) => event.type),
    /** The refusal of a decision, which must leave the log as it is. */
    refusal<R>(
      decide: (views: Views, context: DecisionContext) => Decision<R>,
      actor = OPERATOR,
    ): ArcticError {
      const { head } = log;
      try {
        run(decide, actor);
      } catch (error) {
        if (!(error instanceof ArcticError)) throw error;
        t.equal(log.head, head, `${error.code} appends nothing`);
        return error;
      }
      throw new Error('the decision was not refused');
    },
  };
}
