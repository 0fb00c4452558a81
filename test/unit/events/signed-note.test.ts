import fc from 'fast-check';
import t from 'tap';
import { createSigner, publicKeyObject } from '../../../events/ed25519.ts';
import {
  cosign,
  formatNote,
  MAX_NOTE,
  parseNote,
  signNote,
  verifyAuthor,
  verifyCosignature,
} from '../../../events/signed-note.ts';
import { seedOf } from './given-log.ts';

const keyOf = (raw: Uint8Array) => ({ raw, object: publicKeyObject(raw) });

t.test('the note of the package golang.org/x/mod/sumdb/note verifies', async (t) => {
  const text =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
  const signature =
    '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';
  const [name = '', keyId, encoded = ''] =
    'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'
      .split('+', 2)
      .concat('ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW');
  const key = keyOf(new Uint8Array(Buffer.from(encoded, 'base64').subarray(1)));
  const note = parseNote(`${text}\n${signature}`);
  if (note === undefined) throw new Error('it does not parse');
  t.equal(note.text, text);
  t.equal(Buffer.from(note.signatures[0]?.keyId ?? []).toString('hex'), keyId);
  t.ok(verifyAuthor(note, name, key));
  t.notOk(verifyAuthor({ ...note, text: `${text}x\n` }, name, key));
  t.notOk(verifyAuthor(note, 'SomebodyElse', key));
  t.equal(formatNote(note), `${text}\n${signature}`);
});

t.test('the example of a cosigned checkpoint is read', async (t) => {
  const note = parseNote(
    'example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n' +
      '— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n' +
      '— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n',
  );
  t.same(
    note?.signatures.map((one) => [one.name, one.signature.length]),
    [
      ['example.com/behind-the-sofa', 64],
      ['witness.example.com/w1', 72],
    ],
  );
  const time = Buffer.from(note?.signatures[1]?.signature ?? []);
  t.equal(time.readBigUInt64BE(), 1_679_315_147n, 'the time stands first');
});

t.test('author and witness are told apart, by name, key and text', async (t) => {
  const [author, witness] = [createSigner(seedOf(1)), createSigner(seedOf(2))];
  const text = 'arctic/log\n1\nroot\n';
  const line = cosign(text, 'witness', witness, 1_700_000_000_999);
  const note = parseNote(formatNote({ text, signatures: [signNote(text, 'log', author), line] }));
  if (note === undefined) throw new Error('it does not parse');
  t.ok(verifyAuthor(note, 'log', keyOf(author.publicKey)));
  t.notOk(verifyAuthor(note, 'witness', keyOf(witness.publicKey)), 'a cosignature is not a signature');
  t.equal(verifyCosignature(text, line, 'witness', keyOf(witness.publicKey)), 1_700_000_000_000);
  t.equal(verifyCosignature(text, line, 'witness', keyOf(author.publicKey)), undefined);
  t.equal(verifyCosignature(`${text}x\n`, line, 'witness', keyOf(witness.publicKey)), undefined);
  const later = {
    ...line,
    signature: Uint8Array.from(line.signature, (byte, i) => (i === 7 ? byte ^ 1 : byte)),
  };
  t.equal(
    verifyCosignature(text, later, 'witness', keyOf(witness.publicKey)),
    undefined,
    'the time is signed',
  );
});

t.test('a note is read in one way, and no altered one is taken for what was signed', async () => {
  const [author, witness] = [createSigner(seedOf(1)), createSigner(seedOf(2))];
  const text = 'arctic/log\n1\nroot\n';
  const signatures = [signNote(text, 'log', author), cosign(text, 'witness', witness, 1_700_000_000_000)];
  const note = formatNote({ text, signatures });
  const [authorKey, witnessKey] = [keyOf(author.publicKey), keyOf(witness.publicKey)];
  fc.assert(
    fc.property(fc.nat(note.length - 1), fc.integer({ min: 0, max: 255 }), fc.nat(1), (at, code, taken) => {
      const other = note.slice(0, at) + String.fromCharCode(code) + note.slice(at + taken);
      const read = parseNote(other);
      if (read === undefined || other === note) return true;
      if (formatNote(read) !== other) return false;
      const cosigned = read.signatures.some(
        (line) => verifyCosignature(read.text, line, 'witness', witnessKey) !== undefined,
      );
      return !verifyAuthor(read, 'log', authorKey) || !cosigned;
    }),
    { numRuns: 1_000 },
  );
});

t.test('what is no note', async (t) => {
  const good = 'text\n\n— name AAAAAAAA\n';
  t.ok(parseNote(good));
  for (const wrong of [
    '',
    'text',
    'text\n',
    'text\n\n',
    'text\n\n- name AAAAAAAA\n',
    'text\n\n— na me AAAAAAAA\n',
    'text\n\n— name AAAA\n',
    good.slice(0, -1),
    'text\n\n— name AAAAAAA\n',
    'text\n\n— name AAAAAAA=\r\n',
    'text\n\n— name AAAAAAB=\n',
    'text\n\n— name AAAAAA==\n'.replace('AA==', 'AB=='),
    'text\n\n— name AAAAAAA_\n',
    'text\n\n— name  AAAAAAAA\n',
    'text\n\n— name AAAAAAAA \n',
    `${'x'.repeat(MAX_NOTE)}\n\n— name AAAAAAAA\n`,
  ])
    t.equal(parseNote(wrong), undefined, wrong.slice(0, 40));
});
