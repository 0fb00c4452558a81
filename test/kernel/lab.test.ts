import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createLab, type Lab, ROOT } from '../../ops/lab/lab.ts';
import { arcticNamespaces, sweepDeadLabs } from '../../ops/lab/namespaces.ts';

const WHO_ASKS = `require('node:http').createServer((request, response) => {
  response.end(request.socket.remoteAddress);
}).listen(8000, '::')`;

function standing(lab: Lab): string[] {
  return arcticNamespaces().filter((name) => name.startsWith(`${lab.prefix}-`));
}

/** What the server sees as the client's address; asks again until the server has come up. */
async function ask(lab: Lab, from: string, address: string): Promise<string> {
  const url = `http://${address.includes(':') ? `[${address}]` : address}:8000/`;
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const { code, stdout } = await lab.exec(from, ['curl', '-s', '--max-time', '5', url], { check: false });
    if (code === 0) return stdout;
    await sleep(20);
  }
  throw new Error(`${url} does not answer ${from}`);
}

t.test('client reaches server through entry and exit, over both families, and all is removed', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.destroy());
  const server = lab.spawn('server', [process.execPath, '-e', WHO_ASKS]);
  t.equal(await ask(lab, 'client', '10.91.3.2'), '::ffff:10.91.1.2');
  t.equal(await ask(lab, 'client', 'fd91:3::2'), 'fd91:1::2');

  const near = await lab.http('server', '127.0.0.1', 8000);
  t.equal((await near.request('GET', '/')).text, '::ffff:127.0.0.1');
  const far = await lab.http('client', '10.91.3.2', 8000);
  t.equal(
    (await far.request('GET', '/')).text,
    '::ffff:10.91.1.2',
    'a request goes out from the host it names',
  );

  await lab.setInterface('entry', 'wan0', 'down');
  await t.rejects(lab.exec('client', ['curl', '-sS', '--max-time', '1', 'http://10.91.3.2:8000/']));

  await lab.destroy();
  t.notOk(server.running || existsSync(`/proc/${server.pid}`), 'its processes are gone');
  t.same(standing(lab), []);
  t.notOk(existsSync(lab.directory));
});

t.test('more than two agents meet at a core', async (t) => {
  const lab = await createLab({ agents: ['entry', 'exit', 'third'] });
  t.teardown(() => lab.destroy());
  lab.spawn('server', [process.execPath, '-e', WHO_ASKS]);
  lab.spawn('third', [process.execPath, '-e', WHO_ASKS]);
  t.equal(await ask(lab, 'client', '10.91.3.2'), '::ffff:10.91.1.2');
  t.equal(await ask(lab, 'entry', lab.host('third').address.ipv4), '::ffff:10.91.20.1');
  t.equal(await ask(lab, 'exit', lab.host('third').address.ipv6), 'fd91:21::1');
});

t.test('an emulated link carries both families', async (t) => {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    // Nothing to emulate with: absent, or not given to an ordinary user.
    t.comment('no access to /dev/net/tun');
    return;
  }
  const lab = await createLab({ link: { rateMbit: 100, delayMs: 5 } });
  t.teardown(() => lab.destroy());
  lab.spawn('server', [process.execPath, '-e', WHO_ASKS]);
  t.equal(await ask(lab, 'client', '10.91.3.2'), '::ffff:10.91.1.2');
  t.equal(await ask(lab, 'client', 'fd91:3::2'), 'fd91:1::2');
});

t.test('two labs at once do not meet', async (t) => {
  const labs = await Promise.all([createLab(), createLab()]);
  t.teardown(() => Promise.all(labs.map((lab) => lab.destroy())));
  t.not(labs[0].prefix, labs[1].prefix);
  await labs[0].destroy();
  t.ok(standing(labs[1]).length > 0);
});

/** Makes a lab in another process, lets that end as told, and returns the prefix and directory of its lab. */
async function labOfAnother(ending: string): Promise<{ prefix: string; directory: string }> {
  const script = `import { createLab } from ${JSON.stringify(`${ROOT}/ops/lab/lab.ts`)};
    const lab = await createLab();
    lab.spawn('server', ['sleep', '300']);
    process.stdout.write(JSON.stringify({ prefix: lab.prefix, directory: lab.directory }) + '\\n', () => { ${ending} });
    setInterval(() => {}, 1000);`;
  // Without tap's loader, which has signal handlers of its own.
  const argv = ['-u', 'NODE_OPTIONS', process.execPath, '--import=tsx', '--input-type=module', '-e', script];
  const child = spawn('env', argv, { cwd: ROOT, stdio: ['ignore', 'pipe', 'ignore'], timeout: 30_000 });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await new Promise((resolve) => child.once('close', resolve));
  return JSON.parse(text) as { prefix: string; directory: string };
}

for (const ending of [
  'process.exit(3)',
  "process.kill(process.pid, 'SIGTERM')",
  'throw new Error("deliberate")',
]) {
  t.test(`a lab goes with its process: ${ending}`, async (t) => {
    const { prefix, directory } = await labOfAnother(`${ending}`);
    t.same(
      arcticNamespaces().filter((name) => name.startsWith(`${prefix}-`)),
      [],
    );
    t.notOk(existsSync(directory));
  });
}

t.test('what a killed process left behind is removed by the next lab', async (t) => {
  const { prefix, directory } = await labOfAnother("process.kill(process.pid, 'SIGKILL')");
  sweepDeadLabs();
  t.same(
    arcticNamespaces().filter((name) => name.startsWith(`${prefix}-`)),
    [],
  );
  t.notOk(existsSync(directory));
});
