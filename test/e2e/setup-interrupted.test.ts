import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { bareHosts } from './bare-hosts.ts';
import { createIssuer } from './cluster.ts';
import type { Person } from './terminal.ts';

const typing = (text: string) => (person: Person) => {
  person.type(text);
  person.press('enter');
};

/** Each question, what a person does at it, and from which question a setup that was interrupted here starts again. */
const QUESTIONS: readonly (readonly [question: RegExp, act: (person: Person) => void, again: number])[] = [
  [/\? License\n/, (person) => person.press('down', 'down', 'enter'), 0],
  // The license is one answer of two questions.
  [/\? Customer id/, typing('acme'), 0],
  [/\? Name of this peer/, typing('entry'), 2],
  [/\? Parent interface/, (person) => person.press('enter'), 3],
  [/\? Cluster\n/, (person) => person.press('enter'), 4],
  [/Go ahead\?/, (person) => person.press('enter'), 5],
];

t.test('interrupted at every question, it goes on there and asks nothing twice', async (t) => {
  const { lab, entry } = await bareHosts(t);
  let from = 0;
  for (const [index, [question, , again]] of QUESTIONS.entries()) {
    const person = entry.setup();
    for (const [before, act] of QUESTIONS.slice(from, index)) {
      await person.sees(before);
      act(person);
    }
    const screen = await person.sees(question);
    for (const [earlier] of QUESTIONS.slice(0, from)) t.notMatch(screen, earlier, 'not asked twice');
    person.press('interrupt');
    t.equal(await person.leaves(), 1);
    t.match(
      person.screen(),
      /Error: interrupted; nothing more was changed\. 'arctic setup' goes on from here\./,
    );
    from = again;
    if (!existsSync(entry.statePath)) continue;
    t.equal(statSync(entry.statePath).mode & 0o777, 0o600);
    t.notMatch(readFileSync(entry.statePath, 'utf8'), /sec_|seed|token/);
  }
  const last = entry.setup();
  for (const [question, act] of QUESTIONS.slice(from)) {
    await last.sees(question);
    act(last);
  }
  t.equal(await last.leaves(), 0, last.screen());
  const status = await lab.cli('entry', ['cluster', 'status'], { env: entry.env, check: false });
  t.equal(status.code, 0, status.stderr);
});

t.test('a wrong answer is refused at every question, in one line that says what would do', async (t) => {
  const { lab, entry } = await bareHosts(t);
  const person = entry.setup();
  const wrong = async (question: RegExp, text: string, says: RegExp) => {
    await person.sees(question);
    person.press('erase');
    person.type(text);
    person.press('enter');
    await person.sees(says);
    person.press('erase');
  };
  await person.sees(/\? License\n/);
  person.press('enter');
  await wrong(
    /\? License file/,
    '/nowhere/license.json',
    /! cannot read \/nowhere\/license\.json: no such file/,
  );
  writeFileSync(join(entry.directory, 'junk.json'), '{"a":1}');
  await wrong(/\? License file/, join(entry.directory, 'junk.json'), /! this is not a license/);
  const issuer = createIssuer(join(lab.directory, 'issuer'));
  mkdirSync(join(entry.directory, 'lonely'));
  const license = join(entry.directory, 'lonely', 'license.json');
  writeFileSync(license, JSON.stringify(issuer.issue()));
  person.type(license);
  person.press('enter');
  await wrong(/\? Public root/, license, /must hold one Ed25519 public key/);
  person.type(join(lab.directory, 'issuer', 'root.pub'));
  person.press('enter');
  await wrong(/\? Name of this peer/, 'x'.repeat(64), /! A name has 1 to 63 characters/);
  person.type('entry');
  person.press('enter');
  await person.sees(/\? Parent interface/);
  person.press('enter');
  await person.sees(/\? Cluster\n/);
  person.press('down', 'enter');
  await wrong(/\? Address of a member/, 'nonsense', /! HOST:PORT, such as/);
  await wrong(/\? Address of a member/, '10.91.2.2:1', /! nothing answers there: connection refused/);
  person.press('interrupt');
  t.equal(await person.leaves(), 1);
});
