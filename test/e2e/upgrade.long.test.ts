/**
 * Agents of this and the next protocol version in one cluster, whole ones, and the upgrade of one host after the other.
 * `ARCTIC_PREVIOUS=/path/to/cli/main.ts` (or a built main.js) puts an agent of another build in the place of this one's.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createLab } from '../../ops/lab/lab.ts';
import { PROTOCOL } from '../../src/gossip/parameters.ts';
import { bootstrap, createIssuer, eventually, type Member } from './cluster.ts';

const sources = (path: string): string[] => [
  process.execPath,
  `--import=${import.meta.resolve('tsx')}`,
  '--',
  path,
];
const NEXT = sources(fileURLToPath(import.meta.resolve('../../ops/lab/next-release.ts')));
const previous = process.env['ARCTIC_PREVIOUS'];
const PREVIOUS =
  previous === undefined
    ? undefined
    : previous.endsWith('.ts')
      ? sources(previous)
      : [process.execPath, previous];

const speaking = (...versions: number[]) => ({
  program: NEXT,
  env: { ARCTIC_LAB_PROTOCOLS: versions.join(',') },
});
const NOW = PREVIOUS === undefined ? {} : { program: PREVIOUS };

t.test('an upgrade, host by host', { timeout: 300_000 }, async (t) => {
  const lab = await createLab({ agents: ['one', 'two', 'late'] });
  t.teardown(() => lab.destroy());
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  for (const name of ['one', 'two', 'late']) issuer.trustOn(join(lab.host(name).directory, 'config'));
  const start = async (name: string, how: object): Promise<Member> =>
    bootstrap(await lab.startAgent(name, how), issuer.issue(), name);

  let one = await start('one', NOW);
  const two = await start('two', speaking(PROTOCOL + 1, PROTOCOL));
  const write = async (by: Member, name: string) => {
    const { status, text } = await by.agent.request('POST', '/v1/services', {
      token: by.token,
      body: { name, target_peer_id: (by === two ? one : two).identity.peer_id },
    });
    t.equal(status, 201, text);
  };
  const agree = (services: number) =>
    eventually('both hold the same', async () => {
      const held = await Promise.all(
        [one, two].map(async ({ agent, token }) => {
          const status = (await agent.request('GET', '/v1/cluster/status', { token })).json<{
            projection_digest: string;
            peers: { state: string }[];
          }>();
          const list = (await agent.request('GET', '/v1/services', { token })).json<{
            services: unknown[];
          }>();
          if (status.peers.some(({ state }) => state !== 'active')) return '';
          return list.services.length === services ? status.projection_digest : '';
        }),
      );
      return held[0] !== '' && held[0] === held[1];
    });

  const joined = await one.agent.request('POST', '/v1/peers', {
    token: one.token,
    body: { address: two.agent.address },
  });
  t.equal(joined.status, 201, joined.text);
  await write(one, 'by-the-older');
  await write(two, 'by-the-newer');
  await agree(2);

  await one.agent.stop();
  await write(two, 'while-the-older-is-down');
  one = { ...one, agent: await lab.startAgent('one', speaking(PROTOCOL + 1, PROTOCOL)) };
  await agree(3);
  await write(one, 'by-the-upgraded');
  await agree(4);

  await two.agent.stop();
  const after = await lab.startAgent('two', NOW);
  t.equal((await after.request('GET', '/livez')).status, 200, 'and one may go back');
  await agree(4);

  const late = await start('late', speaking(PROTOCOL + 3, PROTOCOL + 2));
  const refused = await one.agent.request('POST', '/v1/peers', {
    token: one.token,
    body: { address: late.agent.address },
  });
  t.match(refused.json(), {
    error: 'handshake failed: no common protocol version; upgrade the older agent',
    code: 'HANDSHAKE_FAILED',
  });
});
