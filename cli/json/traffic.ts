import { Type } from 'typebox';
import { Count, Nullable, oneOf, strict, Time } from './strict.ts';

const Milliseconds = Type.Number({ minimum: 0 });
const Rate = Type.Number({ minimum: 0 });

/** `services top`: the counters of the agent, with what they grew by a second over the interval. */
export const TRAFFIC = Type.Object(
  {
    at: Time,
    implementation: oneOf('native', 'typescript'),
    services: Type.Array(
      Type.Object(
        {
          service_id: Type.String(),
          name: Nullable(Type.String()),
          side: oneOf('entry', 'exit'),
          connections: Count,
          active: Count,
          bytes_in: Count,
          bytes_out: Count,
          refused: Count,
          failed: Count,
          timed_out: Nullable(Count),
          reused: Nullable(Count),
          limiter_waits: Nullable(Count),
          limiter_wait_ms: Nullable(Milliseconds),
          mean_open_ms: Nullable(Milliseconds),
          in_bits_per_second: Rate,
          out_bits_per_second: Rate,
          connections_per_second: Rate,
        },
        strict,
      ),
    ),
    links: Type.Array(
      Type.Object(
        {
          peer_id: Type.String(),
          idle: Count,
          leased: Count,
          rtt_ms: Nullable(Milliseconds),
          bytes_sent: Nullable(Count),
          bytes_retransmitted: Nullable(Count),
        },
        strict,
      ),
    ),
  },
  strict,
);
