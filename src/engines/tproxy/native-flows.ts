/** Views of flows from the native relay's thread: asked for by a command, announced by an event, read as text. */
import type { FlowView } from './contract.ts';
import type { EngineClock } from './dependencies.ts';

/** Milliseconds after which a view that was asked for is given up. */
const PATIENCE = 2_000;

export interface FlowViews {
  ask(serviceId: string | undefined): Promise<readonly FlowView[]>;
  /** The event `flows` with its token. */
  ready(token: number): void;
}

/** `send` posts the command; `read` takes the text that belongs to a token. */
export function createFlowViews(
  clock: EngineClock,
  send: (token: number, serviceId: string) => void,
  read: (token: number) => string,
): FlowViews {
  const waiting = new Map<number, (flows: readonly FlowView[]) => void>();
  let last = 0;
  return {
    ask: (serviceId) =>
      new Promise((resolve) => {
        last = (last % 0x7fff_ffff) + 1;
        const token = last;
        const cancel = clock.after(PATIENCE, () => {
          waiting.delete(token);
          resolve([]);
        });
        waiting.set(token, (flows) => {
          cancel();
          resolve(flows);
        });
        send(token, serviceId ?? '');
      }),
    ready(token) {
      const text = read(token);
      waiting.get(token)?.(parseFlows(text));
      waiting.delete(token);
    },
  };
}

const STATES: readonly string[] = ['waiting', 'connecting', 'open', 'closing'] satisfies FlowView['state'][];

/** Lines of `Loop::DescribeFlow` in src/native/relay/observe.cc. */
export function parseFlows(text: string): readonly FlowView[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line): FlowView => {
      const fields = line.split('\t');
      const word = (index: number): string => fields[index] ?? '';
      const number = (index: number): number => Number(fields[index] ?? 0);
      const state = STATES.includes(word(6)) ? (word(6) as FlowView['state']) : 'open';
      return {
        serviceId: word(0),
        side: word(1) === 'entry' ? 'entry' : 'exit',
        client: { address: word(2), port: number(3) },
        destination: { address: word(4), port: number(5) },
        state,
        ageMs: number(7) / 1_000,
        bytesIn: number(8),
        bytesOut: number(9),
        openMs: number(10) === 0 ? null : number(10) / 1_000,
        reused: number(11) === 1,
        limiterWaits: number(12),
        limiterWaitMs: number(13) / 1_000,
        path:
          number(14) === 0
            ? null
            : {
                rttMs: number(14) / 1_000,
                leastRttMs: number(15) / 1_000,
                bytesSent: number(16),
                bytesRetransmitted: number(17),
                retransmissions: number(18),
                transport: word(19) === 'kcp' ? 'kcp' : 'tcp',
                loss: word(20) === '' ? null : number(20) / 1e6,
                congestionControl: word(21) === '' ? null : word(21),
              },
      };
    });
}
