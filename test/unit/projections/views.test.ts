import t from 'tap';
import type { ClientId, RouteKey, ServiceId } from '../../../events/brand.ts';
import { given, id, peer, serviceSettings } from './history.ts';

const hash = (letter: string): string => `sha256:${letter.repeat(43)}`;

t.test('services', async (t) => {
  t.test('each field keeps its last writer', async (t) => {
    given((h) => {
      h.member(1);
      h.member(2);
      const service = h.service(peer(1), 1, peer(1), peer(2));
      h.add(
        peer(1),
        'service.updated',
        service,
        { name: 'one', bandwidth_limit_mbps: 10 },
        1_800_000_000_000,
      );
      h.add(peer(2), 'service.updated', service, { name: 'two' }, 1_800_000_000_001);
    }).showsInAnyOrder((fold) => {
      const row = fold.services.get(id('svc', 1) as ServiceId);
      t.match(row, { name: 'two', bandwidth_limit_mbps: 10, version: 3 });
    });
  });

  t.test('writes of one instant are decided by origin', async (t) => {
    given((h) => {
      h.member(1);
      h.member(2);
      const service = h.service(peer(1), 1, peer(1), peer(2));
      h.add(peer(2), 'service.updated', service, { name: 'from two' }, 1_800_000_000_000);
      h.add(peer(1), 'service.updated', service, { name: 'from one' }, 1_800_000_000_000);
    }).showsInAnyOrder((fold) => {
      t.equal(fold.services.get(id('svc', 1) as ServiceId)?.name, 'from two');
    });
  });

  t.test('a delete wins over concurrent and later changes, and takes the routes away', async (t) => {
    given((h) => {
      h.member(1);
      h.member(2);
      const service = h.service(peer(1), 1, peer(1), peer(2));
      h.route(peer(1), 1, service, null, '10.0.0.0/8');
      h.add(peer(2), 'service.deleted', service, {});
      h.add(peer(1), 'service.updated', service, { name: 'too late' }, 1_900_000_000_000);
      h.route(peer(1), 2, service, null, '11.0.0.0/8');
    }).showsInAnyOrder((fold) => {
      t.equal(fold.services.get(id('svc', 1) as ServiceId), undefined);
      t.equal(fold.services.size, 0);
      t.equal(fold.routes.size, 0);
      t.strictSame(fold.routes.ofService(id('svc', 1) as ServiceId), []);
      t.equal(fold.routes.get(id('rte', 2) as RouteKey), undefined);
    });
  });

  t.test('an update without its creation shows nothing yet', async (t) => {
    given((h) => {
      h.add(peer(1), 'service.updated', id('svc', 1), { name: 'orphan' });
    }).shows((fold) => t.equal(fold.services.size, 0));
  });

  t.test('an event of a type from the future counts and changes nothing else', async (t) => {
    const { history } = given((h) => {
      h.service(peer(1), 1, peer(1), peer(2));
    });
    const last = history.add(peer(1), 'service.updated', id('svc', 1), { name: 'x' });
    const { Fold } = await import('../../../projections/fold.ts');
    for (const change of [{ type: 'service.painted' }, { version: 99 }]) {
      const fold = new Fold();
      for (const event of history.events)
        fold.apply(event === last ? ({ ...event, ...change } as unknown as typeof event) : event);
      t.match(fold.services.get(id('svc', 1) as ServiceId), { name: 'service-1', version: 2 });
    }
  });
});

t.test('routes', async (t) => {
  t.test('a number proposed twice stays with the earlier; the other gets a rank', async (t) => {
    given((h) => {
      const service = h.service(peer(1), 1, peer(1), peer(2));
      h.route(peer(1), 1, service, null, '10.0.0.0/8', { number: 1, at: 1_800_000_000_000 });
      h.route(peer(2), 2, service, null, '11.0.0.0/8', { number: 1, at: 1_800_000_000_001 });
      h.route(peer(2), 3, service, null, '12.0.0.0/8', { number: 2 });
    }).showsInAnyOrder((fold) => {
      const service = id('svc', 1) as ServiceId;
      t.equal(fold.routes.get(id('rte', 1) as RouteKey)?.id, 1);
      t.equal(fold.routes.get(id('rte', 2) as RouteKey)?.id, 1 + 2 ** 32);
      t.equal(fold.routes.byNumber(service, 1)?.key, id('rte', 1));
      t.equal(fold.routes.byNumber(service, 1 + 2 ** 32)?.key, id('rte', 2));
      t.equal(fold.routes.nextNumber(service), 3);
      t.equal(fold.routes.size, 3);
    });
  });

  t.test('a number once seen never moves: the deleted keep theirs', async (t) => {
    given((h) => {
      const service = h.service(peer(1), 1, peer(1), peer(2));
      h.route(peer(1), 1, service, null, '10.0.0.0/8', { number: 1 });
      const second = h.route(peer(2), 2, service, null, '11.0.0.0/8', { number: 1 });
      h.add(peer(1), 'route.deleted', id('rte', 1), { service_id: service });
      h.add(peer(1), 'route.updated', second, { service_id: service, priority: 7 });
    }).showsInAnyOrder((fold) => {
      t.match(fold.routes.get(id('rte', 2) as RouteKey), { id: 1 + 2 ** 32, priority: 7, version: 2 });
      t.equal(fold.routes.byNumber(id('svc', 1) as ServiceId, 1), undefined);
      t.equal(fold.routes.nextNumber(id('svc', 1) as ServiceId), 2);
    });
  });

  t.test('routes of a service are listed oldest first, whatever came first', async (t) => {
    given((h) => {
      const service = h.service(peer(1), 1, peer(1), peer(2));
      for (const [n, at] of [
        [1, 30],
        [2, 10],
        [3, 20],
      ] as const)
        h.route(peer(1), n, service, null, '10.0.0.0/8', { at: 1_800_000_000_000 + at });
    }).showsInAnyOrder((fold) =>
      t.strictSame(
        fold.routes.ofService(id('svc', 1) as ServiceId).map((route) => route.id),
        [2, 3, 1],
      ),
    );
  });
});

t.test('peers', async (t) => {
  t.test('members beyond the node cap are set aside, the founder never', async (t) => {
    given((h) => {
      h.member(1);
      h.license(peer(1), 2);
      h.member(2);
      h.member(3);
    }).showsInAnyOrder((fold) =>
      t.strictSame(
        fold.peers.list().map((row) => row.membership),
        ['member', 'member', 'set_aside'],
      ),
    );
  });

  t.test(
    'a removal makes room, stands against later updates, and keeps the last sequence number',
    async (t) => {
      given((h) => {
        h.member(1);
        h.license(peer(1), 2);
        h.member(2);
        h.member(3);
        h.add(peer(1), 'peer.removed', peer(2), { peer_id: peer(2), last_seq: 2 });
        h.add(peer(2), 'peer.updated', peer(2), { name: 'still here' }, 1_900_000_000_000);
      }).showsInAnyOrder((fold) => {
        t.match(fold.peers.get(peer(2)), { membership: 'removed', last_seq: 2 });
        t.equal(fold.peers.get(peer(3))?.membership, 'member');
      });
    },
  );

  t.test('only an admission that names the removal brings a peer back', async (t) => {
    for (const named of [false, true])
      given((h) => {
        h.member(1);
        h.member(2);
        const removal = h.add(peer(1), 'peer.removed', peer(2), { peer_id: peer(2), last_seq: 2 });
        h.add(peer(1), 'peer.admitted', peer(2), {
          peer_id: peer(2),
          public_key: `${'B'.repeat(43)}=`,
          name: null,
          address: '10.0.0.9:8080',
          endpoints: [],
          ...(named ? { readmits: [removal.id] } : {}),
        });
      }).showsInAnyOrder((fold) => {
        const row = fold.peers.get(peer(2));
        t.equal(row?.membership, named ? 'member' : 'removed');
        t.equal(row?.last_seq, named ? undefined : 2);
        t.equal(row?.departures.length, named ? 0 : 1);
        t.not(row?.public_key, `${'B'.repeat(43)}=`, 'a pinned key is not replaced');
      });
  });
});

t.test('credentials', async (t) => {
  const created = (n: number) => ({
    client_id: id('cli', n),
    secret_hash: hash('a'),
    scopes: ['admin' as const],
    license_id: 'lic_test',
    shared: true,
  });
  t.test('a rotation leaves the previous secret its grace; a revocation stands', async (t) => {
    given((h) => {
      h.add(peer(1), 'credential.created', id('cli', 1), created(1));
      h.add(peer(1), 'credential.rotated', id('cli', 1), {
        secret_hash: hash('b'),
        previous_valid_until_ms: 5,
      });
      h.add(peer(1), 'credential.created', id('cli', 2), created(2));
      h.add(peer(1), 'credential.revoked', id('cli', 2), {});
    }).showsInAnyOrder((fold) => {
      t.match(fold.credentials.get(id('cli', 1) as ClientId), {
        secret_hash: hash('b'),
        previous: { secret_hash: hash('a'), valid_until_ms: 5 },
        revoked: false,
        version: 2,
      });
      t.match(fold.credentials.get(id('cli', 2) as ClientId), { revoked: true, previous: undefined });
      t.equal(fold.credentials.size, 2);
    });
  });
});

t.test('cluster and license', async (t) => {
  t.test('the smallest cluster id and the latest license are in force', async (t) => {
    given((h) => {
      h.member(2);
      h.member(1);
      h.license(peer(2), 5, '2026-03-01T00:00:00+02:00', 'new');
      h.license(peer(1), 9, '2026-02-01T00:00:00Z', 'old');
    }).showsInAnyOrder((fold) => {
      t.equal(fold.cluster().cluster_id, id('clu', 1));
      t.equal(fold.license()?.license_id, 'lic_new');
    });
  });

  const lease = (fence: number, holder: string) => ({ fence, holder, purpose: 'apply', expires_at_ms: 9 });
  t.test('of two claims of one fence the earlier holds the lock, and only it can give it back', async (t) => {
    given((h) => {
      h.add(peer(2), 'cluster.lock_acquired', id('clu', 1), lease(1, 'two'), 1_800_000_000_001);
      h.add(peer(1), 'cluster.lock_acquired', id('clu', 1), lease(1, 'one'), 1_800_000_000_000);
      h.add(peer(2), 'cluster.lock_released', id('clu', 1), { fence: 1, broken: false });
    }).showsInAnyOrder((fold) => t.match(fold.cluster(), { lock: { holder: 'one' }, last_fence: 1 }));
  });
  t.test('a release ends its own fence, never a newer one', async (t) => {
    given((h) => {
      h.add(peer(1), 'cluster.lock_acquired', id('clu', 1), lease(1, 'one'));
      h.add(peer(1), 'cluster.lock_released', id('clu', 1), { fence: 1, broken: false });
    }).showsInAnyOrder((fold) => t.match(fold.cluster(), { lock: undefined, last_fence: 1 }));
    given((h) => {
      h.add(peer(1), 'cluster.lock_acquired', id('clu', 1), lease(1, 'one'));
      h.add(peer(2), 'cluster.lock_acquired', id('clu', 1), lease(2, 'two'));
      h.add(peer(1), 'cluster.lock_released', id('clu', 1), { fence: 1, broken: true });
    }).showsInAnyOrder((fold) => t.match(fold.cluster(), { lock: { holder: 'two', fence: 2 } }));
  });
});

t.test('what became of a write is explained field by field', async (t) => {
  const { history } = given((h) => {
    h.add(peer(1), 'service.created', id('svc', 1), serviceSettings(1, peer(1), peer(2)));
  });
  const first = history.add(peer(1), 'service.updated', id('svc', 1), { name: 'a', bandwidth_limit_mbps: 1 });
  const second = history.add(peer(2), 'service.updated', id('svc', 1), { name: 'b' });
  const { explainConflict, contestedFields } = await import('../../../projections/explain.ts');
  const { foldOf } = await import('./history.ts');
  t.strictSame(explainConflict(foldOf(history.events), first), [
    { field: 'name', stands: false, winner: second.id, reason: 'written later' },
    { field: 'bandwidth_limit_mbps', stands: true, winner: first.id, reason: 'in force' },
  ]);
  t.match(contestedFields(foldOf(history.events), first), [{ field: 'name', winner: second.id }]);
  const third = history.add(peer(2), 'service.updated', id('svc', 1), { name: 'c' });
  t.strictSame(contestedFields(foldOf(history.events), second), [], 'written over by its own host');
  t.strictSame(contestedFields(foldOf(history.events), third), []);
  const gone = history.add(peer(1), 'service.deleted', id('svc', 1), {}, 1_600_000_000_000);
  t.strictSame(explainConflict(foldOf(history.events), second), [
    { field: 'name', stands: false, winner: gone.id, reason: 'concurrent delete wins' },
  ]);
  t.match(contestedFields(foldOf(history.events), second), [{ field: 'name', winner: gone.id }]);
});
