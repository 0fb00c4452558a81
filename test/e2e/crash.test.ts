/** kill -9 at random moments of a stream of writes: what was acknowledged is there, and the digest is the same. */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createLab } from '../../ops/lab/lab.ts';
import { bootstrap, createIssuer, eventually, obtainToken } from './cluster.ts';

const KILLS = Number(process.env['ARCTIC_KILLS'] ?? 50);

t.test(`${KILLS} times kill -9 during writes loses nothing acknowledged`, { timeout: 600_000 }, async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.destroy());
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  issuer.trustOn(join(lab.host('entry').directory, 'config'));
  let agent = await lab.startAgent('entry');
  const { identity, token: first } = await bootstrap(
    agent,
    issuer.issue({ maxServices: 1_000_000 }),
    'entry',
  );
  let token = first;
  const acknowledged = new Set<string>();

  for (let round = 0; round < KILLS; round += 1) {
    let alive = true;
    const writers = Array.from({ length: 4 }, async () => {
      while (alive) {
        try {
          const answer = await agent.request('POST', '/v1/credentials', {
            token,
            body: { scopes: ['services.read'] },
          });
          if (answer.status === 201) acknowledged.add(answer.json<{ client_id: string }>().client_id);
        } catch {
          // The connection died with the agent: not acknowledged.
          return;
        }
      }
    });
    // From 5 to 105 ms: before, inside and after the first transactions, and during idle snapshots.
    await sleep(5 + Math.random() * 100);
    agent.kill();
    alive = false;
    await agent.process.ended;
    await Promise.all(writers);
    agent = await lab.startAgent('entry');
    token = await obtainToken(agent, identity.client_id, identity.client_secret);
  }

  const seen = new Set<string>();
  let cursor = '';
  do {
    const page = await agent.request('GET', `/v1/credentials?limit=500${cursor}`, { token });
    const body = page.json<{ credentials: { client_id: string }[]; next_cursor?: string | null }>();
    for (const one of body.credentials) seen.add(one.client_id);
    cursor = body.next_cursor ? `&cursor=${encodeURIComponent(body.next_cursor)}` : '';
  } while (cursor !== '');
  const lost = [...acknowledged].filter((id) => !seen.has(id));
  t.comment(`${KILLS} kills, ${acknowledged.size} acknowledged writes`);
  t.ok(acknowledged.size > KILLS, 'the stream of writes ran');
  t.same(lost, [], 'no acknowledged write is lost');

  const digest = async (): Promise<string> => {
    const status = await agent.request('GET', '/v1/cluster/status', { token });
    return status.json<{ projection_digest: string }>().projection_digest;
  };
  const before = await digest();
  t.match(before, /^[0-9a-f]{64}$/);
  agent.kill();
  await agent.process.ended;
  agent = await lab.startAgent('entry');
  token = await obtainToken(agent, identity.client_id, identity.client_secret);
  t.equal(await eventually('digest', digest), before, 'the same digest after one more kill');
});
