/** Packed routes against a map, and what the native threads are told of them. */
import fc from 'fast-check';
import t from 'tap';
import type { TunnelPolicy } from '../../../../src/engines/iptun/contract.ts';
import { PackedRoutes } from '../../../../src/engines/iptun/packed-routes.ts';
import { createPolicyEncoder } from '../../../../src/engines/iptun/snapshot.ts';

const change = fc.record({
  key: fc.integer({ min: 0, max: 40 }).map((n) => n.toString(16).padStart(8, '0')),
  serviceId: fc.option(fc.constantFrom('svc_a', 'svc_b', 'svc_c')),
});

t.test('changes in whatever batches give what a map gives', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.array(change, { maxLength: 12 }), { maxLength: 12 }), (batches) => {
      let packed = new PackedRoutes(4);
      const model = new Map<string, string>();
      for (const batch of batches) {
        packed = packed.with(batch);
        for (const { key, serviceId } of batch)
          if (serviceId === null) model.delete(key);
          else model.set(key, serviceId);
      }
      const numbers = new Map([
        ['svc_a', 7],
        ['svc_b', 0],
        ['svc_c', 0x01020304],
      ]);
      const records = Buffer.alloc(packed.records.length);
      packed.writeTo(records, (id) => numbers.get(id) ?? -1);
      const seen = Array.from({ length: packed.length }, (_, index) => [
        records.toString('hex', index * 8, index * 8 + 4),
        records.readUInt32LE(index * 8 + 4),
      ]);
      const wanted = [...model].sort().map(([key, id]) => [key, numbers.get(id)]);
      return JSON.stringify(seen) === JSON.stringify(wanted);
    }),
  );
  t.throws(() => new PackedRoutes(4).with([{ key: '0a', serviceId: 'svc_a' }]), RangeError);
});

t.test('a policy says the same packed and listed, also a long one', async (t) => {
  const count = 5_000;
  const address = (n: number): string => `10.${n >> 8}.${n & 255}.0`;
  const listed = Array.from({ length: count }, (_, n) => ({
    source: null,
    dest: `${address(n)}/24`,
    serviceId: n % 2 === 0 ? 'svc_a' : 'svc_b',
  }));
  const packed = new PackedRoutes(4).with(
    listed.map(({ serviceId }, n) => ({
      key: Buffer.from(address(n).split('.').map(Number)).toString('hex'),
      serviceId,
    })),
  );
  const policy = (routes: typeof listed | PackedRoutes): TunnelPolicy => ({
    entries: {
      fallback: null,
      classes: [{ family: 'ipv4', sourceLength: null, destLength: 24, routes }],
    },
    exits: { fallback: 'svc_b', classes: [] },
  });
  const number = (id: string): number => (id === 'svc_a' ? 1 : 2);
  const encodePolicy = createPolicyEncoder(number);
  const bytes = Buffer.from(encodePolicy(policy(listed)));
  t.equal(bytes.length, 8 + 8 + count * 8 + 8);
  t.ok(bytes.equals(encodePolicy(policy(packed))));
  t.equal(bytes.readUInt32LE(16 + count * 8 - 4), 2, 'the last route');
});
