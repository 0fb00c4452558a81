/** A host whose owner rewrites its past, with its own key and in a database that verifies: the other host has the checkpoints. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import type { PeerId } from '../../events/brand.ts';
import { canonicalJson, eventPreimage } from '../../events/canonical.ts';
import type { EventData } from '../../events/catalogue.ts';
import { hashPreimage, signTransaction } from '../../events/chain.ts';
import { logName } from '../../events/checkpoint.ts';
import { publicKeyObject } from '../../events/ed25519.ts';
import type { AnyEvent } from '../../events/envelope.ts';
import { openLogReader } from '../../events/log.ts';
import { rowOf } from '../../events/log-rows.ts';
import { parseNote, verifyAuthor } from '../../events/signed-note.ts';
import { verifyLog } from '../../events/verify.ts';
import { readPeerKey } from '../../src/identity/peer-key.ts';
import { createCluster, eventually } from './cluster.ts';

const ENV = { HEARTBEAT_SECONDS: '1' };

/** Signs the host's own config events anew from its service on, which gets another name. As many events as before. Gives its public key. */
function rewritePast(dataDir: string): Uint8Array {
  const path = join(dataDir, 'arctic.db');
  const signer = readPeerKey(join(dataDir, 'peer.key'));
  if (signer === undefined) throw new Error('the host has no key');
  const log = openLogReader({ path });
  const own = [...log.pages({ origin: log.origin, stream: 'config' }, { asWritten: true })].flat();
  const recorded = new Map(own.map((event) => [event.position, log.recordedAt(event.position) ?? 0]));
  const { origin } = log;
  log.close();
  const db = new Database(path);
  db.exec('DROP TRIGGER events_no_update; DELETE FROM snapshots');
  db.prepare('DELETE FROM checkpoints WHERE origin = ?').run(origin);
  const put = db.prepare(
    'UPDATE events SET checksum = ?, body = ?, hash = ?, signature = ? WHERE position = ?',
  );
  let previous = own[0]?.prev_hash ?? '';
  for (const event of own) {
    const data = event.type === 'service.created' ? { ...event.data, name: 'rewritten' } : event.data;
    const changed = { ...event, data, prev_hash: previous } as AnyEvent;
    const body = eventPreimage(changed, canonicalJson(data));
    const hash = hashPreimage(body);
    const signature = event.signature === null ? null : signTransaction(signer, hash);
    const row = rowOf({ ...changed, hash, signature } as AnyEvent, body, recorded.get(event.position) ?? 0);
    put.run(row[2], body, hash, signature, event.position);
    previous = hash;
  }
  db.prepare("UPDATE chain_heads SET hash = ? WHERE origin = ? AND stream = 'config'").run(previous, origin);
  db.exec(
    "CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append-only'); END",
  );
  db.close();
  return signer.publicKey;
}

t.test('a rewritten past of the same length is caught by the other host', { timeout: 300_000 }, async (t) => {
  const cluster = await createCluster({ env: ENV });
  t.teardown(() => cluster.lab.destroy());
  const [entry, exit] = [cluster.member(0), cluster.member(1)];
  const made = await exit.agent.request('POST', '/v1/services', {
    token: exit.token,
    body: { name: 'original', target_peer_id: entry.identity.peer_id },
  });
  t.equal(made.status, 201, made.text);
  await eventually('the service arrives', async () =>
    (await entry.agent.request('GET', '/v1/services', { token: entry.token })).text.includes('original'),
  );

  const { dataDir } = exit.agent;
  await exit.agent.stop();
  const publicKey = rewritePast(dataDir);
  t.equal(verifyLog({ path: join(dataDir, 'arctic.db') }).fault, undefined, 'by itself it verifies');
  const again = await cluster.lab.startAgent('exit', { env: ENV });

  // As many events as before, and none is sent again: what the other host has against it is the checkpoint over them.
  const contradiction = await eventually(
    'the other host has the evidence',
    async () => {
      const query = `type=checkpoint.inconsistent&entity=${exit.identity.peer_id}`;
      const answer = await entry.agent.request('GET', `/v1/events?${query}`, { token: entry.token });
      return answer.json<{ events: { data: EventData['checkpoint.inconsistent'] }[] }>().events[0]?.data;
    },
    90_000,
  );
  t.equal(contradiction.origin, exit.identity.peer_id);
  t.not(contradiction.held, contradiction.offered);
  const note = parseNote(contradiction.note);
  const key = { raw: publicKey, object: publicKeyObject(publicKey) };
  t.ok(
    note && verifyAuthor(note, logName(exit.identity.peer_id as PeerId), key),
    'which carries the signature of the host that rewrote its past',
  );

  // Its own agent compares its history with what the other holds before it writes, so nothing is built on the one made up.
  const next = await again.request('POST', '/v1/services', {
    token: exit.token,
    body: { name: 'after', target_peer_id: entry.identity.peer_id },
  });
  t.equal(next.status, 503, next.text);
  t.match(next.text, /signed two histories/);
  const services = await entry.agent.request('GET', '/v1/services', { token: entry.token });
  t.notMatch(services.text, /rewritten|after/, 'nothing of it reaches the other host');
  await eventually('its health says so', async () => {
    const status = await entry.agent.request('GET', '/v1/cluster/status', { token: entry.token });
    return /peer-rewrote-past|peer-forked/.test(status.text);
  });
  await again.stop();
});
