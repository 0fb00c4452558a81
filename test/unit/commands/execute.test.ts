import t from 'tap';
import type { ServiceId } from '../../../events/brand.ts';
import { decideReplaceLicense } from '../../../src/commands/license.ts';
import { createLicenseWatch } from '../../../src/commands/license-watch.ts';
import { decideAdmitPeer } from '../../../src/commands/peers.ts';
import { decideCreateService, decideUpdateService, interfaceNameOf } from '../../../src/commands/services.ts';
import { newIdentity } from '../local-peer.ts';
import { createGiven, OPERATOR } from './given.ts';

const DAY = 86_400_000;

const withPeer = (t: import('tap').Test, terms = {}) => {
  const given = createGiven(t, terms);
  given.bootstrap();
  const peer = newIdentity(given.clock);
  given.run((now, at) =>
    decideAdmitPeer(
      now,
      {
        peer_id: peer.peerId,
        public_key: Buffer.from(peer.publicKey).toString('base64'),
        name: 'exit',
        address: '192.0.2.2:8080',
        endpoints: [],
        invited: true,
      },
      at,
    ),
  );
  return { ...given, target: peer.peerId };
};

t.test('a key makes a command happen once, also when it would be refused the second time', async (t) => {
  const { executor, log, target } = withPeer(t);
  const request = { actor: OPERATOR, correlationId: 'c1', idempotencyKey: 'key' };
  const create = () =>
    executor.execute(request, (now, at) =>
      decideCreateService(now, { name: 'one', target_peer_id: target }, at),
    );
  const first = create();
  const { head } = log;
  const second = create();
  t.same(second.events, first.events);
  t.equal(second.result, undefined);
  t.equal(log.head, head);
});

t.test('a stale version is a conflict before anything is decided', async (t) => {
  const { executor, run, target } = withPeer(t);
  const { result } = run((now, at) => decideCreateService(now, { target_peer_id: target }, at));
  const entity = result as ServiceId;
  const at = (version: number) => ({ actor: OPERATOR, correlationId: 'c', expected: { entity, version } });
  t.throws(
    () =>
      executor.execute(at(2), () => {
        throw new Error('decided all the same');
      }),
    { code: 'CONFLICT' },
  );
  const rename = (version: number, name: string) =>
    executor.execute(at(version), (now, context) => decideUpdateService(now, entity, { name }, context));
  t.equal(rename(1, 'a').events.length, 1);
  t.throws(() => rename(1, 'b'), { code: 'CONFLICT' });
  t.equal(rename(2, 'b').events.length, 1);
});

t.test('services of one millisecond have interfaces of different names', async (t) => {
  const { run, views, target } = withPeer(t, { services: 100 });
  for (let i = 0; i < 20; i += 1) {
    run((now, at) => decideCreateService(now, { target_peer_id: target }, { ...at, now: 1_800_000_000_000 }));
  }
  t.equal(new Set(views.services.list().map((service) => interfaceNameOf(service.id))).size, 20);
});

t.test('changes of state of the license are recorded once each, with time and with a new one', async (t) => {
  const { executor, log, views, clock, ids, run, license } = withPeer(t, { days: 60 });
  const faults: unknown[] = [];
  const watch = createLicenseWatch({
    clock,
    ids,
    log,
    views,
    executor,
    onError: (error) => faults.push(error),
  });
  const recorded = () =>
    log.read({ types: ['license.state_changed'] }).map((event) => {
      const data = event.data as { from: string | null; to: string };
      return [data.from, data.to];
    });
  t.equal(watch.check(), 'valid');
  t.equal(watch.check(), 'valid');
  t.same(recorded(), [[null, 'valid']]);
  clock.advance(31 * DAY);
  t.equal(watch.check(), 'warning');
  clock.advance(30 * DAY);
  t.equal(watch.check(), 'grace');
  clock.advance(50 * DAY);
  t.equal(watch.check(), 'suspended');
  t.same(recorded().slice(1), [
    ['valid', 'warning'],
    ['warning', 'grace'],
    ['grace', 'suspended'],
  ]);
  run((now, at) => decideReplaceLicense(now, license(365), at));
  watch.start();
  t.same(recorded().at(-1), [null, 'valid']);
  watch.stop();
  t.same(faults, []);
});
