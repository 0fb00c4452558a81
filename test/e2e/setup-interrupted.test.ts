/**
 * `arctic setup` as a person meets it at 80x24: at every question the screen is compared cell by cell, a wrong answer is given
 * where there is one, Ctrl-C ends it, and the next start goes on there.
 *
 * ARCTIC_WRITE_SCREENS=1 writes the screens of fixtures/screens/ anew.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { bareHosts } from './bare-hosts.ts';
import { createIssuer } from './cluster.ts';
import { COLUMNS, LINES, type Person } from './terminal.ts';

t.setTimeout(600_000);

const SCREENS = fileURLToPath(new URL('../../fixtures/screens/', import.meta.url));
const PORT = 9_000;

const typing = (text: string) => (person: Person) => {
  person.type(text);
  person.press('enter');
};
const enter = (person: Person): void => person.press('enter');

interface Question {
  /** Of its screen in fixtures/screens/. */
  readonly screen: string;
  readonly asks: RegExp;
  /** Answers that will not do, and what is said to them. */
  readonly wrong?: readonly (readonly [text: string, says: RegExp])[];
  readonly act: (person: Person) => void;
  /** Where a setup that was interrupted here begins again; here, unless said: one answer may take two questions. */
  readonly again?: number;
  /** Compared when it is the first thing asked: before, the screen tells what was done, with the numbers of processes. */
  readonly resumed?: true;
}

/** What differs from one run to the next, cell for cell: what takes its place is as long. */
const settled = (screen: string, place: string): string =>
  screen
    .replaceAll(place, '#'.repeat(place.length))
    .replace(/\d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC/g, '####-##-## ##:## UTC')
    // Which areas are well, and what the host is called, is up to the machine.
    .replace(/^Host: [\s\S]*?(?=^(\? |\* |Going on))/m, 'Host: {areas}\n')
    .replace(`(${hostname().split('.')[0] ?? 'peer'})`, '({host})')
    .trimEnd();

function compare(t: Test, name: string, person: Person, place: string): void {
  const shown = person.screen().split('\n');
  t.ok(shown.length <= LINES && shown.every((line) => line.length <= COLUMNS), `${name} fits 80x24`);
  const path = join(SCREENS, `${name}.txt`);
  const screen = `${settled(person.screen(), place)}\n`;
  if (process.env['ARCTIC_WRITE_SCREENS'] === '1') {
    mkdirSync(SCREENS, { recursive: true });
    writeFileSync(path, screen);
  }
  t.equal(screen, readFileSync(path, 'utf8'), `the screen of ${name}`);
}

t.test(
  'at every question: its screen, a wrong answer, Ctrl-C, and on from there',
  { timeout: 580_000 },
  async (t) => {
    // Of one length on every machine, so that lines end where they ended when the screens were written.
    const place = mkdtempSync('/tmp/as-');
    t.teardown(() => rmSync(place, { recursive: true, force: true }));
    const { lab, entry, exit } = await bareHosts(t, place);
    lab.spawn('server', [
      process.execPath,
      '-e',
      `require('node:http').createServer((_, answer) => answer.end('hello')).listen(${PORT}, '::')`,
    ]);
    const issuer = createIssuer(join(lab.directory, 'issuer'));
    const license = join(entry.directory, 'license.json');
    const root = join(place, 'root-of-issuer.pub');
    copyFileSync(join(lab.directory, 'issuer', 'root.pub'), root);
    writeFileSync(license, JSON.stringify(issuer.issue({ customer: 'cust_acme' })));
    const junk = join(entry.directory, 'junk.json');
    writeFileSync(junk, '{"a":1}');
    issuer.trustOn(exit.configDir);
    copyFileSync(license, join(exit.directory, 'license.json'));
    const flags = ['--license-file', join(exit.directory, 'license.json'), '--name', 'exit', '--first'];
    const other = await lab.cli('exit', ['setup', '--no-unit', '--yes', ...flags], {
      env: exit.env,
      timeout: 60_000,
    });
    t.equal(other.code, 0, other.stderr);

    const questions: readonly Question[] = [
      { screen: '01-license', asks: /\? License\n/, act: enter },
      {
        screen: '02-license-file',
        asks: /\? License file /,
        wrong: [
          ['/nowhere/license.json', /! cannot read \/nowhere\/license\.json: no such file/],
          [junk, /! this is not a license/],
        ],
        act: typing(license),
        again: 0,
      },
      {
        screen: '03-public-root',
        asks: /\? Public root of its issuer/,
        wrong: [[license, /one Ed25519 public key in base64/]],
        act: typing(root),
        again: 0,
      },
      {
        screen: '04-name',
        asks: /\? Name of this peer \(/,
        wrong: [['x'.repeat(64), /! A name has 1 to 63 characters/]],
        act: typing('entry'),
      },
      { screen: '05-parent', asks: /\? Parent interface\n/, act: enter },
      { screen: '06-cluster', asks: /\? Cluster\n/, act: (person) => person.press('down', 'enter') },
      {
        screen: '07-member',
        asks: /\? Address of a member/,
        wrong: [
          ['nonsense', /! HOST:PORT, such as/],
          ['10.91.2.2:1', /! nothing answers there: connection refused/],
        ],
        act: typing('10.91.2.2:8080'),
        again: 5,
      },
      { screen: '08-go-ahead', asks: /Go ahead\? \(Y\/n\)/, act: enter },
      { screen: '09-service', asks: /\? Make a first service/, act: enter, resumed: true },
      {
        screen: '10-network',
        asks: /\? Network behind exit/,
        wrong: [
          ['10.91.3.1/24', /! .*10\.91\.3\.0\/24/],
          ['everything', /! .*is not a CIDR/],
        ],
        act: typing('10.91.3.0/24'),
        again: 8,
      },
      {
        screen: '11-prove',
        asks: /\? Prove it with a connection/,
        wrong: [
          ['10.91.3.2', /! An IP address and a port, such as/],
          ['10.99.0.1:80', /! 10\.99\.0\.1 is not in 10\.91\.3\.0\/24/],
        ],
        act: typing(`10.91.3.2:${PORT}`),
      },
    ];

    let from = 0;
    for (const [index, { screen, asks, wrong = [], again, resumed }] of questions.entries()) {
      const person = entry.setup();
      for (const before of questions.slice(from, index)) {
        await person.sees(before.asks);
        if (before.resumed) compare(t, before.screen, person, place);
        before.act(person);
      }
      const shown = await person.sees(asks);
      for (const earlier of questions.slice(0, from)) t.notMatch(shown, earlier.asks, 'not asked twice');
      if (!resumed) compare(t, screen, person, place);
      for (const [text, says] of wrong) {
        person.press('erase');
        person.type(text);
        person.press('enter');
        await person.sees(says);
      }
      person.press('interrupt');
      t.equal(await person.leaves(), 1);
      t.match(
        person.screen(),
        /Error: interrupted; nothing more was changed\. 'arctic setup' goes on from here\./,
      );
      from = again ?? index;
      if (!existsSync(entry.statePath)) continue;
      t.equal(statSync(entry.statePath).mode & 0o777, 0o600);
      t.notMatch(readFileSync(entry.statePath, 'utf8'), /sec_|seed|token/);
    }
    const last = entry.setup();
    for (const { asks, act } of questions.slice(from)) {
      await last.sees(asks);
      act(last);
    }
    t.equal(await last.leaves(), 0, last.screen());
    t.match(last.raw(), /Proved: a connection to 10\.91\.3\.2:9000 went through service entry-exit/);
  },
);

t.test('a license that is pasted, after something that is none', async (t) => {
  const { lab, entry } = await bareHosts(t);
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  issuer.trustOn(entry.configDir);
  const person = entry.setup();
  await person.sees(/\? License\n/);
  person.press('down', 'enter');
  await person.sees(/\? Paste the license, then an empty line:/);
  person.type('this is no license\n\n');
  await person.sees(/\? That is not it: it is not a license: it is not JSON\. Paste the license/);
  person.type(`${JSON.stringify(issuer.issue(), null, 2)}\n`);
  await person.sees(/\? Name of this peer/);
  t.equal(statSync(join(entry.configDir, 'license.json')).mode & 0o777, 0o600);
  person.press('interrupt');
  t.equal(await person.leaves(), 1);
});
