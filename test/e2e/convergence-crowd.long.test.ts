/** Many real agents, and writes spread over all of them: everybody ends with every change and the same digest. */
import t from 'tap';
import { createCluster, eventually, type Member } from './cluster.ts';

/** As many as two cores bear. */
const AGENTS = 30;
const WRITES = 200;

t.test(`${WRITES} writes over ${AGENTS} agents`, { timeout: 600_000 }, async (t) => {
  const cluster = await createCluster({
    agents: Array.from({ length: AGENTS }, (_, index) => `host${index}`),
    license: { maxNodes: 100, maxServices: 1_000 },
  });
  t.teardown(() => cluster.lab.destroy());
  const { members } = cluster;
  const at = (index: number): Member => cluster.member(index % AGENTS);
  const everywhere = async <T>(path: string): Promise<T[]> =>
    Promise.all(
      members.map(async ({ agent, token }) => (await agent.request('GET', path, { token })).json<T>()),
    );
  await eventually(
    'a full mesh',
    async () =>
      (await everywhere<{ peers: { state: string }[] }>('/v1/peers?limit=500')).every(
        ({ peers }) => peers.length === AGENTS && peers.every(({ state }) => state === 'active'),
      ),
    300_000,
  );

  const from = performance.now();
  await Promise.all(
    members.map(async ({ agent, token }, index) => {
      for (let number = index; number < WRITES; number += AGENTS) {
        const answer = await agent.request('POST', '/v1/services', {
          token,
          body: { name: `change-${number}`, target_peer_id: at(index + 1).identity.peer_id },
        });
        if (answer.status !== 201) throw new Error(answer.text);
      }
    }),
  );
  const written = performance.now() - from;
  await eventually(
    'the same digest everywhere',
    async () =>
      new Set(
        (await everywhere<{ projection_digest: string }>('/v1/cluster/status')).map(
          ({ projection_digest }) => projection_digest,
        ),
      ).size === 1,
    60_000,
  );
  const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
  t.comment(
    `${AGENTS} agents, ${WRITES} writes: written in ${seconds(written)}, one digest everywhere after ${seconds(performance.now() - from)}`,
  );
  for (const { services } of await everywhere<{ services: { name: string }[] }>('/v1/services?limit=500'))
    t.equal(
      new Set(services.map(({ name }) => name)).size,
      WRITES,
      'nothing is missing, nothing is there twice',
    );
});
