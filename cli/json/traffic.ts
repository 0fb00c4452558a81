import { Type } from 'typebox';

const Rate = Type.Number({ minimum: 0 });

/** What `services top` adds to each service of the agent's counters: how they grew over the interval. */
export const RATES = Type.Object({
  in_bits_per_second: Rate,
  out_bits_per_second: Rate,
  connections_per_second: Rate,
});
