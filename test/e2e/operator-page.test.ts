/** The owner's troubleshooting page, followed from top to bottom on two real agents: every command does what it says. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createLab, type ExecResult } from '../../ops/lab/lab.ts';
import { createIssuer, eventually } from './cluster.ts';
import { HOST_COMMANDS, PAGE, pageCommands, pageHost } from './operator-page.ts';

t.setTimeout(600_000);

t.test('every command of the troubleshooting page', { timeout: 580_000 }, async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.destroy());
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  for (const name of ['entry', 'exit']) issuer.trustOn(join(lab.host(name).directory, 'config'));
  const license = (host: string, terms: Parameters<typeof issuer.issue>[0]) =>
    writeFileSync(join(lab.host(host).directory, 'license.json'), JSON.stringify(issuer.issue(terms)));
  const local = pageHost(lab, 'entry', 'exit');
  const remote = pageHost(lab, 'exit', 'entry');
  const [here, there] = ['entry', 'exit'].map((name) => lab.host(name).address.ipv4);
  local.fill({ AGENT_IP: here ?? '', LOCAL_IP: here ?? '', REMOTE_IP: there ?? '', PEER_IP: there ?? '' });

  const typed = new Set<string>(HOST_COMMANDS);
  /** Types a line that has to stand on the page. */
  const page = async (line: string, host = local): Promise<ExecResult> => {
    t.ok(PAGE.includes(line), `the page has: ${line}`);
    typed.add(line);
    return host.type(line);
  };
  const shows = async (line: string, expected: RegExp, host = local): Promise<string> => {
    const { code, stdout, stderr } = await page(line, host);
    t.equal(code, 0, `${line}\n${stderr}`);
    t.match(stdout, expected, line);
    return stdout;
  };
  /** A handshake that does not come about prints the sentence of the page and nothing else as its error. */
  const fails = async (line: string, sentence: string): Promise<string> => {
    t.ok(PAGE.includes(sentence), `the page has: ${sentence}`);
    const { code, stderr } = await page(line);
    t.not(code, 0, line);
    t.same(
      stderr.split('\n').filter((one) => one.startsWith('Error: ')),
      [sentence],
      stderr,
    );
    return stderr;
  };
  /** A person reads on while the agent starts. */
  const listens = (host = local) =>
    eventually(
      'the agent listens',
      async () => (await host.type('curl -s http://localhost:8080/livez')).code === 0,
    );
  const add = 'arctic peers add REMOTE_IP:8080 --debug';

  await t.test('agent not responding', async () => {
    t.equal((await page('systemctl status arctic')).code, 3);
    await page('systemctl start arctic');
    await page('systemctl start arctic', remote);
    await Promise.all([listens(), listens(remote)]);
    await shows('systemctl status arctic', /active \(running\)/);
    await shows('journalctl -u arctic -n 50', /^time=\S+ level=info .*the API is listening/m);
    await shows('ss -tlnp | grep 8080', /^LISTEN +0 +\d+ +\*:8080 +\*:\* +users:\(\("arctic",/m);
    await shows('curl http://AGENT_IP:8080/livez', /^\{"status":"ok","timestamp":/);
    await shows('curl http://PEER_IP:8080/livez', /^\{"status":"ok"/);
  });

  await t.test('handshake failures', async (t) => {
    const bootstrap = 'arctic bootstrap --url http://localhost:8080 --license-file license.json';
    license('entry', { maxNodes: 1 });
    await shows(bootstrap, /^Peer ID: +peer_/);
    await fails(add, 'Error: handshake failed: node limit exceeded');
    await shows('arctic license status', /^Max Nodes: +1 \(1 in use\)$/m);
    license('entry', {});
    t.equal((await local.type('arctic license install license.json')).code, 0);

    await page('systemctl stop arctic', remote);
    const refused = await fails(add, 'Error: handshake failed: connection refused');
    t.match(refused, /^debug: POST http:\/\/localhost:8080\/v1\/peers 422 \d+ ms$/m);
    await page('systemctl start arctic', remote);
    await listens(remote);

    license('exit', { customer: 'cust_other' });
    await shows(bootstrap, /^Peer ID: +peer_/, remote);
    await fails(add, 'Error: handshake failed: license mismatch');
    const own = await shows('arctic license status', /^Customer ID: +cust_lab$/m);
    const other = await shows('arctic license status --url http://REMOTE_IP:8080', /^License ID: +lic_/m);
    const idOf = (text: string) => /lic_\w+/.exec(text)?.[0];
    t.not(idOf(own), idOf(other), 'the two differ');

    license('exit', {});
    await page('systemctl stop arctic', remote);
    await page('rm /opt/tillered/arctic.db', remote);
    await page('systemctl start arctic', remote);
    await shows(bootstrap, /^Peer ID: +peer_/, remote);

    await lab.exec('exit', [
      'nft',
      'add table inet block; add chain inet block in { type filter hook input priority -300; }; add rule inet block in tcp dport 8080 drop',
    ]);
    await fails(add, 'Error: handshake failed: connection timeout');
    await lab.exec('exit', ['nft', 'delete', 'table', 'inet', 'block']);

    const traced = await page('arctic peers add REMOTE_IP:8080 --trace');
    t.equal(traced.code, 0, traced.stderr);
    t.match(traced.stderr, /^> POST http:\/\/localhost:8080\/v1\/peers$[\s\S]*^< 201$/m);
    t.match(traced.stderr, /^> authorization: Bearer \*{8}$/m, 'secrets are masked');
    t.notMatch(traced.stderr, /eyJ|sec_/);
    await fails(add, 'Error: peer already exists in cluster');
    const peers = await shows('arctic peers list', /^peer_\w+ +\S+ +10\.91\.2\.2:8080 +active/m);
    local.fill({ PEER_ID: /(peer_\w+) +\S+ +10\.91\.2\.2/.exec(peers)?.[1] ?? '' });
    await shows('arctic peers delete PEER_ID --yes', /removed/);
    t.equal((await page(add)).code, 0, 'added again');

    const identity = await shows('curl http://REMOTE_IP:8080/v1/cluster/identity', /^\{/);
    t.match(JSON.parse(identity), {
      peer_id: /^peer_/,
      public_key: /=$/,
      license_id: /^lic_/,
      cluster_id: /^clu_/,
      version: 'v1.4.0',
    });
    await shows('curl http://REMOTE_IP:8080/livez', /"ok"/);
    await shows('ssh user@REMOTE_IP curl http://LOCAL_IP:8080/livez', /"ok"/);
    for (const line of ['journalctl -u arctic -f', 'ssh user@REMOTE_IP journalctl -u arctic -f']) {
      typed.add(line);
      // Until Ctrl-C.
      t.match((await local.type(`timeout 1 ${line}`)).stdout, /^time=/m, line);
    }
  });

  await t.test('traffic, interfaces and what is applied', async (t) => {
    const made = await local.type(
      'arctic services create --target-peer PEER_ID --name web --requires-interface --bandwidth-limit 50 --json',
    );
    const { id } = JSON.parse(made.stdout) as { id: string };
    local.fill({ SERVICE_ID: id });
    await local.type(
      'arctic routes add --service web --priority 7 --source-cidr 10.91.1.0/24 --dest-cidr 10.91.3.0/24',
    );
    await shows('arctic cluster sync', /^Sync triggered/);
    await eventually('applied', async () =>
      /firewall: applied/.test((await local.type('arctic services get SERVICE_ID')).stdout),
    );
    await shows('arctic services list', /^svc_\w+ +web +\S+ +\S+ +tcp +IQ +/m);
    await shows(
      'arctic services get SERVICE_ID',
      /Bandwidth: +50 Mbit\/s[\s\S]*10\.91\.1\.0\/24 +10\.91\.3\.0\/24/,
    );
    await shows('nft list table inet arctic', /10\.91\.1\.0 \. 10\.91\.3\.0/);
    await shows('nft list table inet arctic_iptun', /10\.91\.1\.0 \. 10\.91\.3\.0/);
    await shows('ip link show', new RegExp(` ${id.slice(0, 15)}@`));
    await shows('ip addr show', new RegExp(` ${id.slice(0, 15)}@`));
    for (const reconciler of ['firewall', 'network', 'tproxy', 'iptun'])
      await shows(
        `journalctl -u arctic | grep 'reconciler=${reconciler}'`,
        new RegExp(`reconciler=${reconciler} `),
      );
    await shows(
      "journalctl -u arctic | grep -E 'reconciler=(network|firewall|tproxy|iptun)'",
      /reconciler=network [\s\S]*reconciler=firewall |reconciler=firewall [\s\S]*reconciler=network /,
    );
    const services = await shows('arctic services list --json', /^\[/);
    t.match(JSON.parse(services), [{ id, name: 'web', bandwidth_limit_mbps: 50 }]);
    const routes = await shows('arctic routes list --service SERVICE_ID --json', /^\[/);
    t.match(JSON.parse(routes), [{ priority: 7, dest_cidr: '10.91.3.0/24' }]);
    local.fill({ $TOKEN: await tokenOf() });
    await shows(
      'curl -X POST http://AGENT_IP:8080/v1/cluster/sync \\\n-H "Authorization: Bearer $TOKEN"',
      /^\{"triggered":true\}$/,
    );
    await page('systemctl restart arctic');
    await listens();
    await shows('nft list table inet arctic', /10\.91\.1\.0 \. 10\.91\.3\.0/);
    await shows('arctic version', /^arctic v1\.4\.0 /);
    await shows('journalctl -u arctic -n 100', /^time=/m);
    await shows('journalctl -u arctic --since "10 minutes ago"', /^time=/m);
  });

  async function tokenOf(): Promise<string> {
    const traced = await local.type('arctic credentials create --scopes admin --json');
    const { client_id, client_secret } = JSON.parse(traced.stdout) as Record<string, string>;
    const answer = await local.type(
      `curl -s http://localhost:8080/v1/oauth/token -d grant_type=client_credentials -d client_id=${client_id} -d client_secret=${client_secret}`,
    );
    return (JSON.parse(answer.stdout) as { access_token: string }).access_token;
  }

  const left = pageCommands().filter(
    (line) => ![...typed].some((one) => line.startsWith(one.split('\n')[0] ?? one)),
  );
  t.same(left, [], 'every command of the page was typed');
});
