import fc from 'fast-check';
import t from 'tap';
import type { AnyEvent } from '../../../events/envelope.ts';
import { draftFaults } from '../../../events/schema-check.ts';

const ID = 'evt_01JD0000000000000000000000';

t.test('the quick look at an envelope lets through nothing that the schema refuses', async (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 220 }),
    fc.string({ unit: 'grapheme-ascii', maxLength: 220 }),
    fc.constantFrom('', '\u0000', 'a\u007f', 'a\nb', 'x'.repeat(100), 'x'.repeat(101), 'x'.repeat(201)),
  );
  const wrong = fc.constantFrom(undefined, null, 7, {});
  const envelope = fc.record({
    id: fc.constant(ID),
    entity: fc.oneof(text, wrong),
    correlation_id: fc.oneof(text, wrong),
    actor: fc.record({
      kind: fc.oneof(fc.constantFrom('client', 'recovery', 'peer', 'system', 'nobody'), wrong),
      id: fc.oneof(text, wrong),
      address: fc.oneof(text, wrong),
    }),
  });
  fc.assert(
    fc.property(envelope, (event) => {
      const given = event as unknown as AnyEvent;
      return draftFaults(given, true).length === draftFaults(given, false).length;
    }),
    { numRuns: 2_000 },
  );
  t.pass('for any texts');
});
