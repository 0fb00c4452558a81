import { EXIT } from '../../events/errors.ts';
import { type Answer, type Exchange, Unreachable } from '../exchange.ts';
import { Failure, Refusal } from '../failure.ts';
import { isRow, type Row, show, textOf } from '../fields.ts';
import type { Contact } from './plan.ts';
import type { PeerSpec } from './spec.ts';

/** What the agent at an address said, and the URL it said it from. */
export interface Asked {
  readonly base: string;
  readonly contact: Contact;
}

/** Talks to agents that may have no cluster yet. Sends no credentials: the addresses are whatever the file says. */
export interface Contacts {
  ask(address: string): Promise<Asked>;
  askUrl(base: string): Promise<Asked>;
  /** `POST /v1/bootstrap`; undefined where the agent says that it has been bootstrapped. */
  bootstrap(base: string, license: Row, name: string, runId: string): Promise<Row | undefined>;
}

const bodyOf = (answer: Answer): Row => {
  try {
    const body: unknown = JSON.parse(answer.text);
    return isRow(body) ? body : {};
  } catch {
    return {};
  }
};

export function createContacts(exchange: Exchange, version: string): Contacts {
  const headers = { accept: 'application/json', 'user-agent': `arctic-cli/${version}` };

  const askUrl = async (base: string): Promise<Asked> => {
    const answer = await exchange.send({ method: 'GET', base, path: '/v1/cluster/identity', headers });
    const body = bodyOf(answer);
    const peerId = textOf(body, 'peer_id');
    const clusterId = textOf(body, 'cluster_id');
    if (answer.status === 200 && peerId !== undefined && clusterId !== undefined)
      return { base, contact: { kind: 'bootstrapped', peerId, clusterId } };
    if (body['code'] === 'NOT_BOOTSTRAPPED') return { base, contact: { kind: 'bare' } };
    const reason =
      body['code'] === 'FORBIDDEN'
        ? 'its API is internal'
        : textOf(body, 'error') === undefined
          ? `it does not answer as an Arctic agent (HTTP ${answer.status})`
          : show(body, 'error').replace(/\.$/, '');
    return { base, contact: { kind: 'unreachable', reason } };
  };

  const attempt = async (base: string): Promise<Asked & { readonly spoke: boolean }> => {
    try {
      return { ...(await askUrl(base)), spoke: true };
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      const contact: Contact = { kind: 'unreachable', reason: error.reason };
      return { base, contact, spoke: error.neverSent || error.reason.startsWith('no answer') };
    }
  };

  return {
    async ask(address) {
      const plain = await attempt(`http://${address}`);
      if (plain.spoke) return plain;
      // Somebody listens and does not speak HTTP: an agent with API_TLS_CERT.
      const secure = await attempt(`https://${address}`);
      return secure.contact.kind === 'unreachable' ? plain : secure;
    },
    async askUrl(base) {
      const { spoke: _, ...asked } = await attempt(base);
      return asked;
    },
    async bootstrap(base, license, name, runId) {
      const answer = await exchange
        .send({
          method: 'POST',
          base,
          path: '/v1/bootstrap',
          headers: { ...headers, 'content-type': 'application/json', 'x-request-id': runId },
          body: JSON.stringify({ license, name }),
        })
        .catch((error: unknown) => {
          throw error instanceof Unreachable ? error.toFailure() : error;
        });
      const body = bodyOf(answer);
      if (answer.status === 201) return body;
      if (body['code'] === 'ALREADY_BOOTSTRAPPED') return undefined;
      const text = textOf(body, 'error');
      if (text === undefined)
        throw new Failure(
          EXIT.connection,
          `${base} does not answer as an Arctic agent (HTTP ${answer.status}).`,
        );
      throw new Refusal(answer.status, show(body, 'code'), text);
    },
  };
}

/** Asks all peers of a file at once; by name. */
export async function askAll(
  contacts: Contacts,
  peers: readonly PeerSpec[],
): Promise<ReadonlyMap<string, Asked>> {
  const asked = await Promise.all(
    peers.map(async ({ name, address }) => [name, await contacts.ask(address)] as const),
  );
  return new Map(asked);
}
