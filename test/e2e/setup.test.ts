import { copyFileSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { bareHosts } from './bare-hosts.ts';
import { COLUMNS, type Person } from './terminal.ts';

const PORT = 9_000;

/** Counts what a person answers. */
function counting(person: Person) {
  let count = 0;
  return {
    get count() {
      return count;
    },
    async answer(question: RegExp, text: string) {
      await person.sees(question);
      if (text !== '') person.type(text);
      person.press('enter');
      count += 1;
    },
    async choose(question: RegExp, downs: number) {
      await person.sees(question);
      for (let step = 0; step < downs; step++) person.press('down');
      person.press('enter');
      count += 1;
    },
  };
}

t.test('two bare hosts, by hand at 80x24, to a proven accelerated connection', async (t) => {
  const { lab, entry, exit } = await bareHosts(t);
  const began = performance.now();
  lab.spawn('server', [
    process.execPath,
    '-e',
    `require('node:http').createServer((_, answer) => answer.end('hello')).listen(${PORT}, '::')`,
  ]);

  const first = exit.setup();
  const atExit = counting(first);
  await atExit.choose(/\? License\n> a license file/, 2);
  await atExit.answer(/\? Customer id/, 'acme');
  await atExit.answer(/\? Name of this peer \(/, 'exit');
  await atExit.choose(/\? Parent interface\n> lan0/, 1);
  await atExit.choose(/\? Cluster\n> a new one/, 0);
  const plan = await first.sees(/Go ahead\? \(Y\/n\)/);
  for (const line of [/License +issued for cust_acme/, /Bootstrap +as exit/, /Cluster +a new one/])
    t.match(plan, line);
  await atExit.answer(/Go ahead/, '');
  t.equal(await first.leaves(), 0, first.screen());
  t.match(first.screen(), /The same as cluster\.yaml:\n {2}version: v1\n/);
  t.notOk(existsSync(exit.statePath), 'nothing is left to resume');
  t.equal(statSync(join(exit.directory, 'home', 'arctic-root', 'root.key')).mode & 0o777, 0o600);

  // The license and the public root go to the other host as an operator would carry them.
  const carried = join(entry.directory, 'home', 'carried');
  mkdirSync(carried);
  copyFileSync(join(exit.configDir, 'license.json'), join(carried, 'license.json'));
  copyFileSync(join(exit.directory, 'home', 'arctic-root', 'root.pub'), join(carried, 'root.pub'));

  const second = entry.setup();
  const atEntry = counting(second);
  await atEntry.choose(/\? License\n> a license file/, 0);
  await atEntry.answer(/\? License file/, join(carried, 'license.json'));
  await atEntry.answer(/\? Name of this peer/, 'entry');
  await atEntry.choose(/\? Parent interface\n/, 0);
  await atEntry.choose(/\? Cluster\n/, 1);
  await atEntry.answer(/\? Address of a member/, `${lab.host('exit').address.ipv4}:8080`);
  await atEntry.answer(/Go ahead/, '');
  await atEntry.answer(/\? Make a first service/, '');
  await atEntry.answer(/\? Network behind exit/, '10.91.3.0/24');
  await atEntry.answer(/\? Prove it with a connection/, `10.91.3.2:${PORT}`);
  t.equal(await second.leaves(), 0, second.screen());
  t.match(
    second.raw().replace(/\r/g, ''),
    /Proved: a connection to 10\.91\.3\.2:9000 went through service entry-exit: \d+ bytes came back\./,
  );
  t.ok(atEntry.count <= 12 && atExit.count <= 12, `${atExit.count} and ${atEntry.count} answers`);
  t.comment(
    `two bare hosts to a proven connection: ${atExit.count} + ${atEntry.count} answers, ${((performance.now() - began) / 1_000).toFixed(1)} s`,
  );
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is looked for
  t.notMatch(second.raw(), /\u001b\[(3[0-7]|1|2)m/, 'NO_COLOR holds for every prompt');
  for (const line of second.screen().split('\n')) t.ok(line.length <= COLUMNS);

  const again = await lab.cli(
    'entry',
    ['setup', '--no-unit', '--yes', '--json', '--license-file', join(carried, 'license.json')],
    { env: entry.env, check: false, timeout: 60_000 },
  );
  t.equal(again.code, 0, again.stderr);
  t.same(JSON.parse(again.stdout).did, [], 'a second time there is nothing to do');
});

t.test('unattended: what is missing or wrong is named, with exit code 2, and nothing is done', async (t) => {
  const { lab, entry } = await bareHosts(t);
  const run = (...flags: string[]) =>
    lab.cli('entry', ['setup', '--no-unit', ...flags], { env: entry.env, check: false, timeout: 60_000 });
  for (const [flags, says] of [
    [[], /setup asks on a terminal; without one, say --yes/],
    [['--yes'], /setup needs a license: give --license-file FILE or --customer ID/],
    [['--yes', '--license-file', '/nowhere'], /--license-file: cannot read \/nowhere/],
    [['--yes', '--customer', 'a b'], /--customer: A customer id has/],
    [['--yes', '--customer', 'acme', '--name', ''], /--name: A name has/],
    [
      ['--yes', '--customer', 'acme', '--parent-interface', 'nope0'],
      /--parent-interface: there is no interface nope0/,
    ],
    [['--yes', '--customer', 'acme', '--join', 'x'], /--join: HOST:PORT/],
    [['--yes', '--customer', 'acme', '--license-file', 'x'], /contradict each other/],
  ] as const) {
    rmSync(entry.statePath, { force: true });
    const answer = await run(...flags);
    t.equal(answer.code, 2, `${flags.join(' ')}: ${answer.stderr}`);
    t.match(answer.stderr, says);
    t.notMatch(answer.stderr, /\n {4}at /, 'no stack');
  }
  t.notOk(existsSync(join(entry.directory, 'data', 'arctic.db')));
});
