/** What agents of each protocol version said to each other, byte for byte, is understood and answered by the present code. */
import t from 'tap';
import { createHost } from '../../../fixtures/conversations/host.ts';
import {
  conversationFiles,
  type Exchange,
  readConversation,
  record,
  sealContext,
  shakeHands,
} from '../../../fixtures/conversations/make.ts';
import type { Agreement } from '../../../src/gossip/machine/handshake.ts';
import { admit, candidateOf } from '../../../src/gossip/machine/join.ts';
import { HANDSHAKE_PATH, readReply, readRequest } from '../../../src/gossip/messages.ts';
import { PROTOCOL, PROTOCOLS } from '../../../src/gossip/parameters.ts';
import { open, sealedHeader } from '../../../src/gossip/seal.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
/** A reply without what depends on how this build folds and numbers its log. */
const lasting = (value: unknown): unknown => {
  const { state: _state, ...rest } = value as Record<string, unknown>;
  return rest;
};

for (const file of conversationFiles()) {
  t.test(`${file}: a later agent answers as the one that was recorded`, async (t) => {
    const exchanges = readConversation(file);
    const [one, two] = [createHost(1, [exchanges[0]?.protocol ?? 0]), createHost(2)];
    t.teardown(() => {
      one.close();
      two.close();
    });
    const answerOf = ({ at, path, request }: Exchange) => {
      for (const host of [one, two]) host.setTime(at);
      return two.machine.handle({
        method: 'POST',
        path,
        headers: {},
        body: bytes(request),
        remoteAddress: '192.0.2.1',
      });
    };
    let agreement: Agreement | undefined;
    let counter = 0;
    const rest = [...exchanges];
    for (let next = rest[0]; next !== undefined; next = rest[0]) {
      if (next.path === HANDSHAKE_PATH) {
        const [hello, confirm] = rest.splice(0, 2) as [Exchange, Exchange];
        const join = hello.step.includes('join');
        // Both ends: the present code goes through the recorded handshake as initiator and as responder.
        agreement = shakeHands(
          { intent: join ? 'join' : 'member', expected: join ? undefined : two.peerId },
          one.deps,
          (sent) => {
            const which = Buffer.from(sent).includes('"hello"') ? hello : confirm;
            if (which === hello)
              t.same(JSON.parse(Buffer.from(sent).toString()), hello.says[0], 'the same hello');
            const now = answerOf(which);
            t.equal(
              now.status,
              which.status,
              `${which.step}: ${Buffer.from(now.body).toString().slice(0, 200)}`,
            );
            if (which === hello)
              t.same(JSON.parse(Buffer.from(now.body).toString()), hello.says[1], 'the same answer');
            return { status: which.status, body: bytes(which.answer) };
          },
        );
        counter = 0;
        if (join)
          admit(one.deps, candidateOf(agreement, two.address, 'host-2', true), {
            actor: { kind: 'system', id: null, address: null },
            correlationId: 'cor_01JD0000000000000000000003',
          });
        continue;
      }
      rest.shift();
      counter += 1;
      const { keys } = agreement ?? {};
      if (keys === undefined) throw new Error('a conversation begins with a handshake');
      const opened = (role: 'request' | 'answer', body: Uint8Array): unknown => {
        const header = sealedHeader(body);
        const key = keys.gossip[role === 'request' ? 'initiator' : 'responder'];
        return header && open(key, header, sealContext(role, role === 'request' ? 0 : counter), body)?.value;
      };
      const request = readRequest(opened('request', bytes(next.request)));
      t.ok(request, `${next.step}: the recorded request is read`);
      t.same(request, next.says[0]);
      t.ok(readReply(opened('answer', bytes(next.answer))), `${next.step}: the recorded answer is read`);
      const now = answerOf(next);
      t.equal(now.status, next.status, next.step);
      const reply = readReply(opened('answer', now.body));
      t.ok(reply, `${next.step}: it is answered`);
      t.match(lasting(reply), lasting(next.says[1]), `${next.step}: as then`);
    }
  });
}

t.test('the present protocol has its conversation, and still speaks so', async (t) => {
  const file = `protocol-${PROTOCOL}.jsonl`;
  t.ok(conversationFiles().includes(file), 'run: node --import=tsx fixtures/conversations/make.ts');
  const shown = (exchanges: readonly Exchange[]) =>
    exchanges.map(({ step, status, says }) => ({ step, status, says }));
  const handshakes = (exchanges: readonly Exchange[]) =>
    exchanges
      .filter(({ path }) => path === HANDSHAKE_PATH)
      .map(({ request, answer }) => ({ request, answer }));
  const [now, then] = [record(), readConversation(file)];
  t.same(
    handshakes(now),
    handshakes(then),
    'to the byte; sealed bodies are deflated, and another zlib may do that otherwise',
  );
  t.same(
    shown(now).map(({ step, status, says }) => [step, status, says.map(lasting)]),
    shown(then).map(({ step, status, says }) => [step, status, says.map(lasting)]),
  );
});

t.test(
  'a release works with the one before it and with the one after it, and says no to others',
  async (t) => {
    t.ok(PROTOCOLS.includes(PROTOCOL));
    t.ok(PROTOCOL === 1 || PROTOCOLS.includes(PROTOCOL - 1));
    const releases = (version: number) => [version, version - 1].filter((one) => one >= 1);
    const between = (mine: readonly number[], theirs: readonly number[]): unknown => {
      const [one, two] = [createHost(1, mine), createHost(2, theirs)];
      let spoken: unknown;
      try {
        shakeHands({ intent: 'join', expected: undefined }, one.deps, (body) => {
          const answer = two.machine.handle({
            method: 'POST',
            path: HANDSHAKE_PATH,
            headers: {},
            body,
            remoteAddress: '192.0.2.1',
          });
          spoken ??= JSON.parse(Buffer.from(answer.body).toString()).protocol;
          return answer;
        });
        return spoken;
      } catch (error) {
        return error instanceof Error ? error.message : error;
      } finally {
        one.close();
        two.close();
      }
    };
    const refusal = 'handshake failed: no common protocol version; upgrade the older agent';
    t.equal(between(PROTOCOLS, PROTOCOLS), PROTOCOL);
    t.equal(between(PROTOCOLS, releases(PROTOCOL + 1)), PROTOCOL, 'an older one asks');
    t.equal(between(releases(PROTOCOL + 1), PROTOCOLS), PROTOCOL, 'a newer one asks');
    t.equal(
      between(releases(PROTOCOL + 1), releases(PROTOCOL + 1)),
      PROTOCOL + 1,
      'the best that both speak',
    );
    t.equal(between(PROTOCOLS, releases(PROTOCOL + 2)), refusal);
    t.equal(between(releases(PROTOCOL + 2), PROTOCOLS), refusal);
  },
);
