import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { PeerId } from '../../../events/brand.ts';
import { type ChainHead, GENESIS_HASH, hashOf, signTransaction, verifyRun } from '../../../events/chain.ts';
import { describeEvent } from '../../../events/describe.ts';
import { publicKeyObject } from '../../../events/ed25519.ts';
import type { AnyEvent, Stream } from '../../../events/envelope.ts';
import { ZERO_HLC } from '../../../events/hlc.ts';
import { dataFaults, envelopeFaults } from '../../../events/schema-check.ts';
import { createUpcast } from '../../../events/upcast.ts';
import { expectTypes } from '../../../events/wanted-types.ts';
import {
  DIRECTORY,
  foldDigest,
  historyFiles,
  lifted,
  missingForms,
  presentForms,
  readHistory,
  recordedForms,
  SIGNERS,
} from '../../../fixtures/histories/make.ts';
import { PEER } from '../../../fixtures/histories/samples.ts';
import { Fold } from '../../../projections/fold.ts';
import { keyOf, openHost, overTheWire, setClock, temporaryDirectory } from '../events/given-log.ts';

const golden: Readonly<Record<string, string>> = JSON.parse(
  readFileSync(join(DIRECTORY, 'golden.json'), 'utf8'),
);
const REMEDY = 'run: node --import=tsx fixtures/histories/make.ts';

t.test('every event version ever written stands in a golden history', async (t) => {
  t.same([...missingForms()], [], REMEDY);
  t.same(Object.keys(golden), historyFiles(), REMEDY);
});

t.test('the schema of a version is what it was when the version came', async (t) => {
  const recorded = recordedForms();
  for (const [form, digest] of Object.entries(presentForms()))
    t.equal(
      recorded[form],
      digest,
      recorded[form] === undefined
        ? REMEDY
        : `${form}: agents of earlier releases refuse events that their schema of it does not allow, and with them all that ` +
            'follows of their origin. Raise the version in the catalogue, lift the old one in upcast.ts',
    );
});

t.test('each history still verifies, is still accepted, read and folded to what it meant', async (t) => {
  for (const file of historyFiles()) {
    const events = readHistory(file);
    const chains = new Map<string, AnyEvent[]>();
    for (const event of events) {
      t.same(envelopeFaults(event), [], `${file} ${event.id}`);
      t.same(dataFaults(event.type, event.version, event.data), [], `${file} ${event.type}`);
      t.notMatch(describeEvent(lifted(event)), /undefined|\(version/, describeEvent(lifted(event)));
      const key = `${event.origin} ${event.stream}`;
      chains.set(key, [...(chains.get(key) ?? []), event]);
    }
    for (const [chain, run] of chains) {
      const [origin, stream] = chain.split(' ') as [PeerId, Stream];
      const head: ChainHead = { origin, stream, seq: 0, hash: GENESIS_HASH, hlc: ZERO_HLC };
      const key = publicKeyObject(SIGNERS[origin === PEER[1] ? 1 : 2].publicKey);
      t.same(verifyRun(head, key, run), { signed: run.length }, `${file} ${chain}`);
    }
    t.equal(
      foldDigest(events),
      golden[file],
      `${file}: the fold gives another state. If that is meant, ${REMEDY}`,
    );
    t.equal(foldDigest([...events].reverse()), golden[file], `${file} in the opposite order`);
  }
});

t.test('an event of a newer peer is stored, relayed and shown, and changes nothing', async (t) => {
  const directory = temporaryDirectory(t);
  const clock = setClock();
  const newer = openHost({ path: `${directory}/newer.db`, n: 2, clock });
  const ours = openHost({ path: `${directory}/ours.db`, n: 1, clock });
  const relayed = openHost({ path: `${directory}/third.db`, n: 3, clock });
  t.teardown(() => {
    for (const log of [newer, ours, relayed]) log.close();
  });
  const events = newerEvents(newer.origin);
  t.match(ours.receive(newer.origin, keyOf(2), overTheWire(events)), { kind: 'appended' });
  const range = ours.range(newer.origin, 1, 100);
  t.same(
    range.map(({ hash, data, version, type }) => ({ hash, data, version, type })),
    events.map(({ hash, data, version, type }) => ({ hash, data, version, type })),
    'as it was written',
  );
  t.match(relayed.receive(newer.origin, keyOf(2), overTheWire(range)), { kind: 'appended' });
  t.equal(foldDigest(ours.read({})), foldDigest([]), 'nothing of it is guessed');
  const fold = new Fold();
  for (const event of ours.read({})) fold.apply(event);
  t.equal(fold.forks.size, 0, 'nor is anything of its origin left out for it');
  t.equal(ours.entityVersion('svc_01JD0000000000000000000009'), 1);
  t.doesNotThrow(() => expectTypes(['tariff.changed', 'route.added'], ours), 'it can be looked for');
  t.throws(() => expectTypes(['tariff.changes'], ours), { code: 'INVALID_REQUEST' });
  t.same(
    ours.read({}).map((event) => describeEvent(event)),
    [
      'tariff.changed of tar_1 (of a newer Arctic): currency=EUR, per_gb=2',
      'service.created of svc_01JD0000000000000000000009 (version 9, of a newer Arctic): name=x, shape=round',
      `peer.forked of ${newer.origin} (version 9, of a newer Arctic): peer_id=${newer.origin}, seq=1`,
    ],
  );
});

/** Signed and chained by a peer whose catalogue goes further than ours. */
function newerEvents(origin: PeerId): readonly AnyEvent[] {
  const template = readHistory('001.jsonl').find((event) => event.stream === 'config') as AnyEvent;
  let head: ChainHead = { origin, stream: 'config', seq: 0, hash: GENESIS_HASH, hlc: ZERO_HLC };
  const written = [
    { type: 'tariff.changed', version: 1, entity: 'tar_1', data: { currency: 'EUR', per_gb: 2 } },
    {
      type: 'service.created',
      version: 9,
      entity: 'svc_01JD0000000000000000000009',
      data: { name: 'x', shape: 'round' },
    },
    { type: 'peer.forked', version: 9, entity: origin, data: { peer_id: origin, seq: 1 } },
  ];
  return written.map((content, index) => {
    const unhashed = {
      ...template,
      ...content,
      id: `evt_01JD000000000000000000000${index + 1}`,
      origin,
      seq: index + 1,
      hlc: `01940000000${index + 1}.0000`,
      prev_hash: head.hash,
    } as unknown as AnyEvent;
    const hash = hashOf(unhashed);
    const event = { ...unhashed, hash, signature: signTransaction(SIGNERS[2], hash) } as AnyEvent;
    head = event;
    return event;
  });
}

t.test('an upcaster lifts what was stored, and the hash stays that of the written form', async (t) => {
  const lift = createUpcast(
    { 'service.created': { 1: ({ name, ...rest }) => ({ ...rest, title: name }) } },
    () => 2,
  );
  const stored = readHistory('001.jsonl').find((event) => event.type === 'service.created') as AnyEvent;
  const data = lift(stored.type, stored.version, stored.data as Readonly<Record<string, unknown>>);
  t.match(data, { title: 'golden' });
  t.notOk(Object.hasOwn(data ?? {}, 'name'));
  t.equal(hashOf(stored), stored.hash);
});
