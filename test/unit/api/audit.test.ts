import t from 'tap';
import { request } from 'undici';
import { createAuditVerifier } from '../../../events/audit-verify.ts';
import { createChanges } from '../../../projections/change.ts';
import { createHarness } from './harness.ts';

t.setTimeout(240_000);

t.test('the export is streamed, sealed and filtered; a reader that goes away costs nothing', async (t) => {
  const harness = createHarness(t);
  const { send, log } = harness;
  const token = await harness.admin();
  const body = { target_peer_id: harness.admit('exit') };
  const { id } = (await send('POST', '/v1/services', { token, body })).body;
  for (let n = 0; n < 60; n += 1)
    await send('PUT', `/v1/services/${id}`, { token, body: { bandwidth_limit_mbps: n + 1 } });

  const verify = (text: string) => {
    const verifier = createAuditVerifier({
      rootKeys: [Buffer.from(harness.identity.publicKey).toString('base64')],
      changes: createChanges(),
    });
    for (const line of text.split('\n').slice(0, -1)) verifier.push(line);
    return verifier.finish();
  };
  const whole = await send('GET', '/v1/audit', { token });
  t.equal(whole.headers['content-type'], 'application/x-ndjson; charset=utf-8');
  t.match(verify(whole.text), { sound: true, sealed: true, changesRecomputed: true, events: log.head });
  const csv = await send('GET', `/v1/audit?format=csv&type=service.created`, { token });
  t.match(verify(csv.text), { sound: true, sealed: true });
  for (const query of ['format=xml', 'since=yesterday', 'until=-1', 'x=1'])
    t.match(
      await send('GET', `/v1/audit?${query}`, { token }),
      { status: 400, body: { code: 'INVALID_REQUEST' } },
      query,
    );

  // A slip would pass for a history in which nothing happened.
  for (const path of ['audit', 'events'])
    t.match(await send('GET', `/v1/${path}?type=route.added,service.create`, { token }), {
      status: 400,
      body: {
        code: 'INVALID_REQUEST',
        error: /no event type "service\.create"\. Did you mean 'service\.created'\? .*events\.md/,
      },
    });

  const { port } = harness.api.app.server.address() as { readonly port: number };
  for (let n = 0; n < 12; n += 1) {
    const answer = await request(`http://127.0.0.1:${port}/v1/audit`, {
      headers: { authorization: `Bearer ${token}` },
    });
    t.equal(answer.statusCode, 200, 'places are given back');
    answer.body.on('error', () => {});
    answer.body.destroy();
    // The agent learns of it when the socket closes.
    for (let wait = 0; wait < 200; wait += 1) await new Promise((resolve) => setImmediate(resolve));
  }
});
