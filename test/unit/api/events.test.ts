import { readFileSync } from 'node:fs';
import t from 'tap';
import { keyOf, openHost, operator, overTheWire, setClock, temporaryDirectory } from '../events/given-log.ts';
import { createHarness } from './harness.ts';

t.test('events are listed, filtered, paged and shown with what became of them', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const body = { target_peer_id: harness.admit('exit') };
  const { id } = (await send('POST', '/v1/services', { token, body })).body;
  await send('PUT', `/v1/services/${id}`, { token, body: { name: 'one' } });
  await send('PUT', `/v1/services/${id}`, { token, body: { name: 'two' } });
  const list = async (query: string) => (await send('GET', `/v1/events?${query}`, { token })).body;
  t.equal((await list('')).events.length, log.head);
  t.equal((await list(`entity=${id}`)).events.length, 3);
  t.equal((await list('type=service.created,service.updated')).events.length, 3);
  t.equal((await list('after=3')).events[0].position, 4);
  t.equal((await list('until=3')).events.length, 3);
  t.equal((await list('until=2020-01-01T00:00:00Z')).events.length, 0);
  t.equal((await list('until=2030-01-01T00:00:00%2B02:00')).events.length, log.head);
  t.equal((await list(`origin=${harness.identity.peerId}&type=service.created`)).events.length, 1);
  const positions: number[] = [];
  let cursor = '';
  do {
    const page = await list(`limit=2&order=desc${cursor}`);
    positions.push(...page.events.map((event: { position: number }) => event.position));
    cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`;
  } while (cursor !== '');
  t.same(
    positions,
    Array.from({ length: log.head }, (_, i) => log.head - i),
  );
  for (const query of [
    'type=nothing.happened',
    'until=yesterday',
    'after=-1',
    'limit=0',
    'origin=x',
    'x=1',
  ]) {
    t.match(
      await send('GET', `/v1/events?${query}`, { token }),
      { status: 400, body: { code: 'INVALID_REQUEST' } },
      query,
    );
  }
  const [first] = (await list('type=service.updated')).events;
  const shown = await send('GET', `/v1/events/${first.id}`, { token });
  t.match(shown.body, {
    id: first.id,
    data: { name: 'one' },
    outcome: [{ field: 'name', stands: false, reason: 'written later' }],
  });
  t.match(await send('GET', '/v1/events/evt_01JD0000000000000000000000', { token }), { status: 404 });
});

t.test('a list says what happened, and which event won where one lost a conflict', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const body = { target_peer_id: harness.admit('exit'), name: 'web' };
  const { id } = (await send('POST', '/v1/services', { token, body })).body;
  const dest_cidr = '10.0.0.0/8';
  const at = (laterMs: number): number => harness.clock.now() + laterMs;
  await send('POST', `/v1/services/${id}/routes`, { token, body: { routes: [{ priority: 5, dest_cidr }] } });
  await send('PUT', `/v1/services/${id}`, { token, body: { name: 'mine' } });
  // Two hosts of which the second has heard of nothing, and writes earlier than the first.
  const late = openHost({ path: `${temporaryDirectory(t)}/late.db`, n: 2, clock: setClock(at(2_000)) });
  const early = openHost({ path: `${temporaryDirectory(t)}/early.db`, n: 3, clock: setClock(at(1_000)) });
  for (const [host, name] of [
    [late, 'late'],
    [early, 'early'],
  ] as const) {
    t.teardown(() => host.close());
    const made = host.append([{ type: 'service.updated', entity: id, data: { name } as never }], operator);
    log.receive(host.origin, keyOf(host === late ? 2 : 3), overTheWire(made));
  }
  // The same once more, later, by a host that has heard of nothing: nothing is lost by it.
  const same = openHost({ path: `${temporaryDirectory(t)}/same.db`, n: 4, clock: setClock(at(1_500)) });
  t.teardown(() => same.close());
  const again = same.append(
    [{ type: 'service.updated', entity: id, data: { name: 'late' } as never }],
    operator,
  );
  log.receive(same.origin, keyOf(4), overTheWire(again));
  await send('DELETE', `/v1/services/${id}/routes/1`, { token });
  const list = async (query: string) => (await send('GET', `/v1/events?${query}`, { token })).body.events;
  const [mine, second, third, fourth] = await list(`entity=${id}&type=service.updated`);
  const { id: over } = second;
  t.match(
    mine,
    { lost: [], overridden: [{ field: 'name', winner: over, winning_event: { position: second.position } }] },
    'the host that wrote first tells by whom it was overridden, and does not call it a conflict',
  );
  t.match(
    second,
    {
      lost: [],
      overridden: [],
      overrides: [{ field: 'name', event: { id: mine.id } }],
      data: { name: 'late' },
    },
    'and so does the arrival of the other, which a follower sees',
  );
  t.match(mine, { text: 'service late updated: name=mine' });
  // A pattern with an empty list fits any list, so these are compared whole.
  const counts = [mine, second, third, fourth].map(({ lost, overridden, overrides }) =>
    [lost, overridden, overrides].map((list: readonly unknown[]) => list.length),
  );
  t.same(
    counts,
    [
      [0, 1, 0],
      [0, 0, 1],
      [1, 0, 0],
      [0, 0, 0],
    ],
    'what lost on arrival overrode nothing, nor did what says the same; its own host replaced only its own',
  );
  const [own] = await list(`entity=${id}&type=service.created`);
  t.match(own, { lost: [], overridden: [{ field: 'name', winner: over }] });
  const winning_event = { id: second.id, position: second.position, text: 'service late updated: name=late' };
  t.match(third, {
    data: { name: 'early' },
    lost: [{ field: 'name', reason: 'written later', winner: second.id, winning_event }],
  });
  t.same(
    (await list('type=route.added,route.deleted')).map(({ text }: { text: string }) => text),
    [`route 1 added to late: anywhere -> ${dest_cidr}, priority 5`, 'route 1 of late deleted'],
  );
});

t.test('replay, drift and reconcilers', async (t) => {
  const harness = createHarness(t);
  const { send } = harness;
  const token = await harness.admin();
  const body = { target_peer_id: harness.admit('exit'), name: 'before' };
  const { id } = (await send('POST', '/v1/services', { token, body })).body;
  const position = harness.log.head;
  const time = new Date(harness.clock.now()).toISOString();
  await send('DELETE', `/v1/services/${id}`, { token });
  const replay = async (query: string) => (await send('GET', `/v1/replay?${query}`, { token })).body;
  t.match(await replay(`until=${position}&projection=services`), { position, state: { services: [{ id }] } });
  t.match(await replay(`until=${time}`), { state: { services: [{ id }] } });
  t.match(await replay('projection=services'), { state: { services: [] } });
  t.notMatch(JSON.stringify(await replay('')), /sha256:/);
  t.equal((await send('GET', '/v1/replay?projection=nothing', { token })).status, 400);
  t.equal((await send('GET', '/v1/replay?until=then', { token })).status, 400);
  t.match((await send('GET', '/v1/drift', { token })).body, {
    drift: true,
    reconcilers: [{ reconciler: 'firewall', differences: [{ repair: null }] }],
  });
  t.match((await send('GET', '/v1/reconcilers', { token })).body, { reconcilers: [{ name: 'firewall' }] });
});

t.test('a difference whose repair is held back says until when, and who undid it how often', async (t) => {
  const repairAt = '2026-03-01T12:00:40.000Z';
  const harness = createHarness(t, { repairAt });
  const token = await harness.admin();
  for (const pid of [811, 812])
    harness.log.append(
      [
        {
          type: 'drift.found',
          entity: 'reconciler:firewall',
          data: {
            reconciler: 'firewall',
            differences: [{ item: 'rule 1', desired: 'present', observed: null }],
            total: 1,
            pid,
            program: 'nft',
          },
        },
      ],
      operator,
    );
  const [report] = (await harness.send('GET', '/v1/drift', { token })).body.reconcilers;
  t.same(report.differences[0].repair, {
    waits_until: repairAt,
    undone: 2,
    by: { pid: 812, program: 'nft' },
  });
});

t.test('the stream follows, filters and resumes', async (t) => {
  const harness = createHarness(t);
  const token = await harness.admin();
  const target = harness.admit('exit');
  const { host, port } = await harness.listening();
  const open = async (query: string, headers = {}) => {
    const stop = new AbortController();
    const answer = await fetch(`http://${host}:${port}/v1/events?${query}`, {
      headers: { accept: 'text/event-stream', authorization: `Bearer ${token}`, ...headers },
      signal: stop.signal,
    });
    t.equal(answer.headers.get('content-type'), 'text/event-stream; charset=utf-8');
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    let text = '';
    return {
      /** Reads until so many events have come; gives their positions. */
      async positions(count: number): Promise<number[]> {
        const found = () =>
          [...text.matchAll(/^id: (\d+)\nevent: \S+\ndata: \{.*\}\n\n/gm)].map((one) => Number(one[1]));
        while (found().length < count) {
          const { value, done } = await reader.read();
          if (done) break;
          text += Buffer.from(value).toString();
        }
        return found();
      },
      async ended(): Promise<boolean> {
        for (;;) if ((await reader.read()).done) return true;
      },
      close: () => stop.abort(),
    };
  };
  const head = harness.log.head;
  const all = await open('');
  t.same(
    await all.positions(head),
    Array.from({ length: head }, (_, i) => i + 1),
    'what was',
  );
  const created = await open('type=service.created');
  await harness.send('POST', '/v1/services', { token, body: { target_peer_id: target } });
  t.same(
    await all.positions(head + 1),
    Array.from({ length: head + 1 }, (_, i) => i + 1),
    'and what comes',
  );
  t.same(await created.positions(1), [head + 1]);
  const resumed = await open('after=2', { 'last-event-id': String(head - 1) });
  t.same(await resumed.positions(2), [head, head + 1]);
  resumed.close();
  all.close();
  const other = (await harness.send('POST', '/v1/credentials', { token, body: {} })).body;
  const revoked = await open('type=credential.revoked', {
    authorization: `Bearer ${await harness.token(other.client_id, other.client_secret)}`,
  });
  await harness.send('DELETE', `/v1/credentials/${other.client_id}`, { token });
  t.equal(await revoked.ended(), true, 'a stream ends with the credential that opened it');
  const unauthorised = await fetch(`http://${host}:${port}/v1/events`, {
    headers: { accept: 'text/event-stream' },
  });
  t.equal(unauthorised.status, 401);
  const stopping = harness.api.stop();
  t.equal(await created.ended(), true, 'streams end when the agent stops');
  await stopping;
});

t.test('a request that names another member is sent on as its caller', async (t) => {
  const near = createHarness(t);
  const far = createHarness(t);
  const { client_id, client_secret } = await near.bootstrap();
  const token = await near.token(client_id, client_secret);
  await far.bootstrap();
  const listening = await far.listening();
  const endpoint = `http://${listening.host}:${listening.port}`;
  // Two agents of one cluster know each other and each other's credentials; here the test carries the events over.
  near.admit('dead-end', { endpoint: 'http://127.0.0.1:1' });
  near.admit('far', { identity: far.identity, endpoint });
  far.admit('near', { identity: near.identity });
  far.log.receive(
    near.identity.peerId,
    near.identity.publicKey,
    near.log.range(near.identity.peerId, 1, 100),
  );

  const there = { 'x-arctic-peer': far.identity.peerId };
  const peers = await near.send('GET', '/v1/peers', { token, headers: there });
  t.equal(peers.status, 200);
  t.equal(peers.body.peers.find((peer: { is_local: boolean }) => peer.is_local).id, far.identity.peerId);
  const head = far.log.head;
  const created = await near.send('POST', '/v1/services', {
    token,
    headers: { ...there, 'x-request-id': 'req-1' },
    body: { target_peer_id: near.identity.peerId, name: 'made there' },
    remoteAddress: '203.0.113.50',
  });
  t.equal(created.status, 201);
  t.match(far.log.read({ after: head, types: ['service.created'] }), [
    {
      origin: far.identity.peerId,
      correlation_id: 'req-1',
      actor: { kind: 'client', id: client_id, address: '203.0.113.50' },
    },
  ]);
  t.match(await near.send('POST', '/v1/services', { token, headers: there, body: { x: 1 } }), {
    status: 400,
  });
  t.match(
    await near.send('GET', '/v1/peers', { headers: there }),
    { status: 401 },
    'nobody is let through unknown',
  );
  t.match(
    await near.send('POST', '/v1/services', { token, headers: there, raw: `"${'x'.repeat(1_100_000)}"` }),
    { status: 413 },
  );

  const here = await near.listening();
  const reading = new AbortController();
  const stream = await fetch(`http://${here.host}:${here.port}/v1/events?type=service.created`, {
    headers: { ...there, accept: 'text/event-stream', authorization: `Bearer ${token}` },
    signal: reading.signal,
  });
  let text = '';
  for await (const chunk of stream.body as ReadableStream<Uint8Array>) {
    text += Buffer.from(chunk).toString();
    if (text.includes('made there')) break;
  }
  t.match(text, /^event: service\.created$/m, 'a stream is passed on as it comes');
  reading.abort();

  const recovery = readFileSync(far.recoveryFile, 'utf8').trim();
  const recovered = await near.send('GET', '/v1/events', {
    headers: { ...there, 'x-arctic-recovery': recovery },
  });
  t.equal(recovered.status, 200, 'the other host’s recovery token is for the other host');

  const dead = near.log.read({ types: ['peer.admitted'] })[0]?.entity ?? '';
  t.match(await near.send('GET', '/v1/peers', { token, headers: { 'x-arctic-peer': dead } }), {
    status: 503,
    body: { code: 'UNAVAILABLE', error: /connection refused/ },
  });

  const forged = `${near.identity.peerId} ${far.clock.now()} 127.0.0.1 ${'A'.repeat(86)}`;
  t.match(await far.send('GET', '/v1/peers', { token, headers: { 'x-arctic-hop': forged } }), {
    status: 401,
  });
});
