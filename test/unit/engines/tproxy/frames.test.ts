import fc from 'fast-check';
import t from 'tap';
import {
  decodeFlow,
  decodeHeader,
  decodeOpen,
  decodeReset,
  encodeFlow,
  encodeHeader,
  encodeOpen,
  encodeReset,
  FRAME,
  FrameError,
  type FrameType,
  MAX_PAYLOAD,
  MAX_SERVICE_ID,
} from '../../../../src/engines/tproxy/frames.ts';
import { addressText } from '../../../../src/native/sockaddr.ts';

const port = fc.integer({ min: 0, max: 65_535 });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const serviceId = fc
  .stringMatching(/^[\x21-\x7e]+$/, { maxLength: MAX_SERVICE_ID })
  .filter((id) => id.length > 0);
const endpoint = (width: number) =>
  fc
    .record({ address: fc.uint8Array({ minLength: width, maxLength: width }), port })
    .map((one) => ({ address: addressText(one.address), port: one.port }))
    .filter((one) => !one.address.startsWith('::ffff:'));
const open = fc
  .constantFrom(4, 16)
  .chain((width) =>
    fc.record({ flow: u32, serviceId, destination: endpoint(width), source: endpoint(width) }),
  );

t.test('a header comes back as it went', async (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(FRAME.data, FRAME.pad),
      fc.integer({ min: 1, max: MAX_PAYLOAD }),
      (type, length) => {
        t.strictSame(decodeHeader(encodeHeader(type, length)), { type, length });
      },
    ),
  );
});

t.test(
  'every header of four bytes is understood or refused with FrameError, never with a length out of range',
  async (t) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (bytes) => {
        try {
          const { type, length } = decodeHeader(Buffer.from(bytes));
          return type >= FRAME.data && type <= FRAME.confirm && length <= MAX_PAYLOAD;
        } catch (error) {
          return error instanceof FrameError;
        }
      }),
      { numRuns: 2_000 },
    );
    t.throws(() => decodeHeader(Buffer.of(0, 0, 0, 1)), FrameError, 'type 0');
    t.throws(() => decodeHeader(Buffer.of(11, 0, 0, 1)), FrameError, 'type 11');
    t.throws(() => decodeHeader(Buffer.of(FRAME.data, 0, 0, 0)), FrameError, 'empty DATA');
    t.throws(() => decodeHeader(Buffer.of(FRAME.data, 1, 0, 1)), FrameError, '64 KB and a byte');
    t.throws(() => encodeHeader(FRAME.finish, 5), FrameError, 'a length the type does not have');
    t.throws(() => encodeHeader(99 as FrameType, 1), FrameError, 'a type that is none');
  },
);

t.test('OPEN comes back as it went, for both families', async (t) => {
  fc.assert(fc.property(open, (one) => t.same(decodeOpen(encodeOpen(one)), one)));
});

t.test('OPEN with a byte changed, cut or added decodes to what was written or not at all', async () => {
  fc.assert(
    fc.property(
      open,
      fc.nat(),
      fc.integer({ min: 0, max: 255 }),
      fc.constantFrom('set', 'cut', 'add'),
      (one, at, byte, how) => {
        const bytes = encodeOpen(one);
        const index = at % bytes.length;
        const changed =
          how === 'cut'
            ? bytes.subarray(0, index)
            : how === 'add'
              ? Buffer.concat([bytes, Buffer.of(byte)])
              : Buffer.from(bytes.map((old, place) => (place === index ? byte : old)));
        try {
          return encodeOpen(decodeOpen(changed)).equals(changed);
        } catch (error) {
          return error instanceof FrameError;
        }
      },
    ),
    { numRuns: 2_000 },
  );
});

t.test('OPEN refuses what would pass a check for another family', async (t) => {
  const mapped = encodeOpen({
    flow: 1,
    serviceId: 'svc',
    destination: { address: '::1', port: 80 },
    source: { address: '::1', port: 81 },
  });
  Buffer.from('00000000000000000000ffff7f000001', 'hex').copy(mapped, 11);
  t.throws(() => decodeOpen(mapped), /IPv4-mapped/);
  const flags = encodeOpen({
    flow: 1,
    serviceId: 'svc',
    destination: { address: '10.0.0.1', port: 80 },
    source: { address: '10.0.0.2', port: 81 },
  });
  flags.writeUInt8(1, 5);
  t.throws(() => decodeOpen(flags), /flags/);
  t.throws(
    () =>
      encodeOpen({
        flow: 1,
        serviceId: 'svc',
        destination: { address: '::1', port: 80 },
        source: { address: '10.0.0.2', port: 81 },
      }),
    /differ in family/,
  );
});

t.test('flow numbers and resets come back as they went', async (t) => {
  fc.assert(
    fc.property(u32, port, (flow, errno) => {
      t.equal(decodeFlow(encodeFlow(flow)), flow);
      t.strictSame(decodeReset(encodeReset(flow, errno)), { flow, errno });
    }),
  );
  t.throws(() => decodeFlow(Buffer.alloc(5)), FrameError);
  t.throws(() => decodeReset(Buffer.alloc(4)), FrameError);
});

t.test('the bytes of the specification', async (t) => {
  t.equal(encodeHeader(FRAME.data, 65_536).toString('hex'), '01010000');
  t.equal(
    encodeOpen({
      flow: 7,
      serviceId: 'svc_1',
      destination: { address: '10.0.0.1', port: 443 },
      source: { address: '192.0.2.9', port: 50_000 },
    }).toString('hex'),
    '00000007' + '04' + '00' + '01bb' + 'c350' + '05' + '0a000001' + 'c0000209' + '7376635f31',
  );
  t.equal(encodeReset(2, 111).toString('hex'), '00000002006f');
});
