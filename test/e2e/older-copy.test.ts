/** A database put back from before its host met anybody: it writes nothing until it has its own events back. */
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { createCluster, eventually, obtainToken } from './cluster.ts';

t.test(
  'a copy that knows no peer refuses changes until one is added again',
  { timeout: 300_000 },
  async (t) => {
    const cluster = await createCluster({ join: false });
    t.teardown(() => cluster.lab.destroy());
    const [entry, exit] = [cluster.member(0), cluster.member(1)];
    const copy = mkdtempSync(join(tmpdir(), 'arctic-copy-'));
    t.teardown(() => rmSync(copy, { recursive: true, force: true }));
    const { dataDir } = exit.agent;
    const isDatabase = (name: string): boolean => name.startsWith('arctic.db') && !name.endsWith('.lock');

    await exit.agent.stop();
    for (const name of readdirSync(dataDir).filter(isDatabase)) cpSync(join(dataDir, name), join(copy, name));
    let agent = await cluster.lab.startAgent('exit');
    let token = await obtainToken(agent, exit.identity.client_id, exit.identity.client_secret);
    const { address } = await entry.agent
      .request('GET', '/v1/peers', { token: entry.token })
      .then((answer) => answer.json<{ peers: { address: string }[] }>().peers[0] ?? { address: '' });
    const added = await agent.request('POST', '/v1/peers', { token, body: { address } });
    t.equal(added.status, 201, added.text);
    const write = async (name: string) =>
      agent.request('POST', '/v1/services', {
        token,
        body: { name, target_peer_id: entry.identity.peer_id },
      });
    t.equal((await write('before')).status, 201);
    const names = async () =>
      (await entry.agent.request('GET', '/v1/services', { token: entry.token }))
        .json<{ services: { name: string }[] }>()
        .services.map((service) => service.name)
        .sort();
    await eventually('the service arrives', async () => (await names()).includes('before'));

    await agent.stop();
    for (const name of readdirSync(dataDir).filter(isDatabase)) rmSync(join(dataDir, name));
    cpSync(copy, dataDir, { recursive: true });
    agent = await cluster.lab.startAgent('exit');
    token = await obtainToken(agent, exit.identity.client_id, exit.identity.client_secret);
    const refused = await agent.request('POST', '/v1/credentials', {
      token,
      body: { scopes: ['peers.read'] },
    });
    t.equal(refused.status, 503, refused.text);
    t.match(refused.text, /are missing.*arctic peers add/);

    const again = await agent.request('POST', '/v1/peers', { token, body: { address } });
    t.equal(again.status, 201, again.text);
    await eventually('changes are taken again', async () => (await write('after')).status === 201, 60_000);
    await eventually('both hold both', async () => (await names()).join() === 'after,before');
    const forks = await entry.agent.request('GET', '/v1/events?type=origin.quarantined', {
      token: entry.token,
    });
    t.notMatch(forks.text, /evt_/, 'no fork');
  },
);
