import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createCluster } from './cluster.ts';
import { operator } from './operator.ts';

t.test('a debug bundle has what the troubleshooting page asks for, and no secret', async (t) => {
  const cluster = await createCluster();
  t.teardown(() => cluster.lab.destroy());
  const { lab } = cluster;
  const { agent, identity, token } = cluster.member(0);
  const run = operator(cluster, 0);
  const seed = readFileSync(join(agent.dataDir, 'peer.key'), 'utf8').split('\n')[2] ?? '';
  const recovery = readFileSync(join(agent.configDir, 'recovery.token'), 'utf8').trim();
  t.ok(seed.length > 40 && recovery.length > 40);
  // The last two under names that say nothing: they are known by what they are.
  writeFileSync(
    join(agent.configDir, 'arctic.env'),
    `LOG_LEVEL=info\nSOME_PASSWORD=hunter2hunter2\n# was: ${seed}\nNOTE=${recovery}\n`,
  );
  const configDir = join(agent.host.directory, 'home', '.config', 'arctic');
  mkdirSync(configDir, { recursive: true });
  writeFileSync(
    join(configDir, 'config.yaml'),
    `current_cluster: ${identity.cluster_id}
clusters:
  ${identity.cluster_id}:
    cluster_id: ${identity.cluster_id}
    customer_id: cust_lab
    client_id: ${identity.client_id}
    client_secret: ${identity.client_secret}
    peers: [{ peer_id: ${identity.peer_id}, name: entry, endpoints: ['http://localhost:8080'] }]
`,
    { mode: 0o600 },
  );

  const file = join(lab.directory, 'bundle.tar.gz');
  const made = await run('debug', 'bundle', '--file', file, '--for', '1s', '--json');
  t.equal(made.code, 0, made.stderr);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.match(agent.process.output(), /level=info msg="log level set for a while" log_level=debug /);
  t.match(agent.process.output(), /level=debug /, 'what happened meanwhile is in the log in full');

  const unpacked = join(lab.directory, 'bundle');
  mkdirSync(unpacked);
  execFileSync('tar', ['xzf', file, '-C', unpacked, '--strip-components=1']);
  const text = (name: string) => readFileSync(join(unpacked, name), 'utf8');
  for (const [name, holds] of [
    ['version.txt', /^arctic v1\./],
    ['systemctl-status.txt', /^\$ systemctl status arctic/],
    ['journal.txt', /^\$ journalctl -u arctic/],
    ['ip-addr.txt', /10\.91\.2\.1/],
    ['ip-route.txt', /default via/],
    ['nft-arctic.txt', /^\$ nft list table inet arctic\n/],
    ['nft-arctic_iptun.txt', /^\$ nft list table inet arctic_iptun\n/],
    ['peers.json', /"name": "exit"/],
    ['services.json', /"services"/],
    ['routes.json', /\{/],
    ['events.json', /agent\.started/],
    ['metrics.txt', /^arctic_condition\{/m],
    ['readyz.json', /"checks"/],
    ['cluster-status.json', /"conditions"/],
    ['drift.json', /"reconcilers"/],
    ['doctor.txt', /^kernel +ok/m],
    ['arctic.env', /LOG_LEVEL=info/],
  ] as const)
    t.match(text(name), holds, name);

  const everything = readdirSync(unpacked).map(text).join('\n');
  for (const secret of [seed, recovery, identity.client_secret, token, 'hunter2hunter2'])
    t.notOk(everything.includes(secret), 'a secret of this host');
  t.notMatch(
    everything,
    /\bsec_[A-Za-z0-9_-]{43}|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\./,
    'nor what looks like one',
  );

  await agent.stop();
  const dead = await run('debug', 'bundle', '--file', join(lab.directory, 'dead.tar.gz'));
  t.equal(dead.code, 0, `with the agent down too: ${dead.stderr}`);
});
