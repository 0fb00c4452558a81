import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { LicenseId } from '../../../events/brand.ts';
import { createIds } from '../../../events/ids.ts';
import { openLog } from '../../../events/log.ts';
import { createProjections } from '../../../projections/runner.ts';
import { createExecutor } from '../../../src/commands/execute.ts';
import { createLicenseWatch } from '../../../src/commands/license-watch.ts';
import { createLicensedDesire } from '../../../src/licensed-desire.ts';
import { seededRandom, VirtualTime } from '../../simulation/virtual-clock.ts';
import { SYSTEM_CONTEXT, testLicense, World } from '../../simulation/world.ts';

const DAY = 86_400_000;

t.test(
  'a suspended license stops what the services of this host need; a new one brings it back',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'arctic-license-'));
    const time = new VirtualTime();
    let skew = 0;
    const clock = time.clock(() => skew);
    const random = seededRandom(4);
    const node = new World(1).add();
    const log = openLog(
      { path: join(directory, 'arctic.db'), origin: node.peerId },
      {
        signer: node.signer,
        clock,
        random,
        onError: (error) => {
          throw error;
        },
      },
    );
    const projections = createProjections({ localPeer: node.peerId }, { log, clock });
    projections.start();
    const { views } = projections;
    const ids = createIds({ clock, random });
    const executor = createExecutor({ log, views, clock, ids, random, localPeer: node.peerId });
    const watch = createLicenseWatch({
      clock,
      ids,
      log,
      views,
      executor,
      onError: (error) => {
        throw error;
      },
    });
    t.teardown(() => {
      watch.stop();
      projections.stop();
      log.close();
      rmSync(directory, { recursive: true, force: true });
    });

    const install = (id: string, days: number): void => {
      const license = testLicense({
        license_id: id as LicenseId,
        issued_at: new Date(clock.now()).toISOString(),
        expires_at: new Date(clock.now() + days * DAY).toISOString(),
      });
      log.append(
        [
          {
            type: 'license.installed',
            entity: id,
            data: { license: { ...license, features: [] } },
          },
        ],
        SYSTEM_CONTEXT,
      );
    };
    node.bootstrap();
    log.append(
      node.log.events.map(({ type, entity, data }) => ({ type, entity, data }) as never),
      SYSTEM_CONTEXT,
    );
    install('lic_short', 10);
    const service = 'svc_01JD0000000000000000000001';
    const exit = 'peer_01JD0000000000000000000099';
    log.append(
      [
        {
          type: 'peer.admitted',
          entity: exit,
          data: {
            peer_id: exit,
            public_key: Buffer.alloc(32, 7).toString('base64'),
            name: 'exit',
            address: '192.0.2.9:8080',
            endpoints: ['http://192.0.2.9:8080'],
          },
        },
        {
          type: 'service.created',
          entity: service,
          data: {
            name: 'to-exit',
            source_peer_id: node.peerId,
            target_peer_id: exit,
            transport_type: 'tcp',
            requires_interface: true,
            desired_ipv4_cidr: '10.9.9.1/32',
            desired_ipv6_cidr: null,
            fully_transparent: false,
            bandwidth_limit_mbps: 0,
          },
        },
      ],
      SYSTEM_CONTEXT,
    );
    const desire = createLicensedDesire({ clock, log, localPeer: node.peerId, projections });
    const woken: string[] = [];
    const end = desire.onChanged((name) => woken.push(name));
    watch.start();
    const empty = (): boolean => JSON.stringify(desire.desired('tproxy').entries) === '[]';
    t.notOk(empty(), 'valid');
    const working = desire.digest('tproxy');
    for (const [days, state] of [
      [5, 'warning'],
      [10, 'grace'],
      [15, 'read_only'],
    ] as const) {
      skew += days * DAY;
      t.equal(watch.check(), state);
      t.notOk(empty(), `${state}: the data plane runs`);
      t.equal(desire.digest('tproxy'), working);
    }
    woken.length = 0;
    skew += 30 * DAY;
    t.equal(watch.check(), 'suspended');
    t.ok(woken.includes('cluster'), 'every reconciler is woken');
    t.ok(empty(), 'suspended: nothing is desired');
    t.not(desire.digest('tproxy'), working);
    t.equal(desire.desired('firewall'), desire.desired('firewall'), 'one object while nothing changes');
    t.equal(desire.firewallChanges(1).changes, undefined);
    woken.length = 0;
    install('lic_new', 400);
    time.advance(1_000);
    t.ok(woken.includes('cluster'));
    t.notOk(empty(), 'back');
    t.equal(desire.digest('tproxy'), working);
    end();
  },
);
