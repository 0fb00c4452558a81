import fc from 'fast-check';
import t from 'tap';
import { KernelError, type NftElement, type NftSet } from '../../../src/kernel/contract.ts';
import { decodeAttributes } from '../../../src/kernel/netlink/codec.ts';
import type { Datagram } from '../../../src/kernel/netlink/datagram.ts';
import { NetlinkWriter } from '../../../src/kernel/netlink/writer.ts';
import { elementsPerMessage, readElements, writeElements } from '../../../src/kernel/nft/elements.ts';
import { matchFamily, verdict } from '../../../src/kernel/nft/expressions.ts';
import { elementsSchema } from '../../../src/kernel/nft/schema.ts';
import { Transaction } from '../../../src/kernel/nft/transaction.ts';

const ROUTES: NftSet = {
  name: 'routes4',
  keyTypes: ['ipv4_addr', 'ipv4_addr'],
  dataType: 'mark',
  elements: [{ key: '0a0000010b000001', data: '01010000' }],
};

/** Type, flags, and the bytes after nlmsghdr of each message. */
function messagesOf(datagram: Datagram): { type: number; flags: number; body: string }[] {
  const bytes = datagram.numbered(1);
  return datagram.messages.map(({ at, end }) => ({
    type: bytes.readUInt16LE(at + 4),
    flags: bytes.readUInt16LE(at + 6),
    body: bytes.toString('hex', at + 16, end),
  }));
}

const TABLE_NAME = '0b000100617263746963 0000';
const hex = (...parts: readonly string[]) => parts.join('').replaceAll(' ', '');

t.test('the bytes are those nft 1.0.6 sends (nft --debug=mnl)', async (t) => {
  const transaction = new Transaction('inet', 'arctic');
  transaction.addTable({});
  transaction.addSet(ROUTES);
  transaction.addElements(ROUTES, ROUTES.elements);
  transaction.addChain({
    name: 'pre',
    base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
    rules: [],
  });
  transaction.addRules('pre', [{ comment: 'hi', expressions: [...matchFamily('ipv4'), verdict('accept')] }]);
  const sent = messagesOf(transaction.encode({ generation: 7, acknowledge: 'end' }));

  t.strictSame(
    sent.map((message) => message.type),
    [16, 0x0a00, 0x0a09, 0x0a0c, 0x0a03, 0x0a06, 17],
  );
  t.strictSame(
    sent.map((message) => message.flags & 4),
    [0, 0, 0, 0, 0, 0, 4],
    'one acknowledgement, for the end',
  );
  const [begin, table, set, elements, chain, rule, end] = sent.map((message) => message.body);
  t.equal(begin, hex('0000000a', '0800010000000007'), 'resource id big-endian, generation as lock');
  t.equal(end, '0000000a');
  t.equal(table, hex('01000000', TABLE_NAME, '0800020000000000'));
  // The same attributes as nft's, of which two come in another order and three are notes only nft reads.
  t.equal(
    set,
    hex(
      '01000000',
      TABLE_NAME,
      '0c000200 726f7574657334 00',
      '0800030000000008',
      '08000400000001c7',
      '0800050000000008',
      '0800060000000013',
      '0800070000000004',
      '08000a0000000001',
      '0a000d00 010401000000 0000',
    ),
  );
  t.equal(
    elements,
    hex(
      '01000000',
      TABLE_NAME,
      '0c000200 726f7574657334 00',
      '24000380 20000180',
      '10000180 0c000100 0a000001 0b000001',
      '0c000280 08000100 01010000',
    ),
  );
  t.equal(
    chain,
    hex(
      '01000000',
      TABLE_NAME,
      '08000300 70726500',
      '14000480 0800010000000000 08000200ffffff6a',
      '0800050000000001',
      '0b000700 66696c746572 0000',
    ),
  );
  t.ok(rule?.endsWith(hex('09000700 0003 686900 000000')), 'the comment as nft writes it');
});

t.test('acknowledgements for kernels that do not answer BATCH_END, and rehearsals', async (t) => {
  const transaction = new Transaction('inet', 'arctic');
  transaction.addTable({});
  transaction.addSet(ROUTES);
  const flags = (acknowledge: 'last' | 'rehearse') =>
    messagesOf(transaction.encode({ generation: undefined, acknowledge })).map((message) => [
      message.type,
      message.flags & 4,
    ]);
  t.strictSame(flags('last'), [
    [16, 0],
    [0x0a00, 0],
    [0x0a09, 4],
    [17, 0],
  ]);
  t.strictSame(flags('rehearse'), [
    [16, 0],
    [0x0a00, 4],
    [0x0a09, 4],
  ]);
});

t.test('an echo is asked of the first step alone', async (t) => {
  const transaction = new Transaction('inet', 'arctic');
  transaction.addTable({});
  transaction.addSet(ROUTES);
  const sent = messagesOf(transaction.encode({ generation: 7, acknowledge: 'end', echo: true }));
  t.strictSame(
    sent.map(({ flags }) => flags & 8),
    [0, 8, 0, 0],
  );
});

t.test('elements: the fast writer and the schema agree, whatever the lengths', async (t) => {
  const layouts = fc.record({
    keyLength: fc.constantFrom(1, 2, 4, 8, 16, 32),
    dataLength: fc.constantFrom(undefined, 2, 4, 16),
  });
  fc.assert(
    fc.property(
      layouts,
      fc.array(fc.uint8Array({ minLength: 48, maxLength: 48 }), { maxLength: 20 }),
      (layout, seeds) => {
        const elements: NftElement[] = seeds.map((seed) => {
          const all = Buffer.from(seed).toString('hex');
          const key = all.slice(0, layout.keyLength * 2);
          return layout.dataLength === undefined ? { key } : { key, data: all.slice(-layout.dataLength * 2) };
        });
        const writer = new NetlinkWriter(16);
        writeElements(writer, layout, 's', elements, 0, elements.length);
        const decoded = decodeAttributes(elementsSchema, Buffer.from(writer.bytes)).elements ?? [];
        t.strictSame(
          decoded.map(({ key, data }) =>
            data === undefined ? { key: key?.value } : { key: key?.value, data: data.value },
          ),
          elements,
        );
        const read: NftElement[] = [];
        readElements(Buffer.from(writer.bytes), 0, writer.length, (element) => read.push(element));
        t.strictSame(read, elements);
      },
    ),
    { numRuns: 60 },
  );
});

t.test('elements are split so that no nest passes 64 KiB, and an offset finds its element', async (t) => {
  const elements = Array.from({ length: 5000 }, (_, index) => ({
    key: index.toString(16).padStart(16, '0'),
    data: '00000001',
  }));
  const transaction = new Transaction('inet', 'arctic');
  transaction.addElements(ROUTES, elements);
  const datagram = transaction.encode({ generation: undefined, acknowledge: 'end' });
  const parts = datagram.messages.slice(1, -1);
  const most = elementsPerMessage({ keyLength: 8, dataLength: 4 });
  t.equal(parts.length, Math.ceil(5000 / most));
  t.ok(parts.every((part) => part.end - part.at < 65_536));
  t.equal(parts[1]?.subject, `add elements ${most} to ${2 * most - 1} of set routes4`);
  const bytes = datagram.numbered(1);
  const second = parts[1];
  if (second === undefined) throw new Error('two messages');
  const wanted = elements[most + 17];
  const at = bytes.indexOf(Buffer.from(wanted?.key ?? '', 'hex'), second.at) - second.at;
  for (const offset of [at - 12, at - 8, at]) {
    t.equal(
      datagram.explain(second, offset).subject,
      `add element ${wanted?.key} -> 00000001 of set routes4`,
    );
  }
  t.equal(datagram.explain(second, 20).path, 'table');
  t.equal(datagram.explain(second, undefined).subject, second.subject);
});

t.test('keys and values of a wrong length or no hex are refused before anything is sent', async (t) => {
  for (const element of [
    { key: '0a', data: '00000001' },
    { key: '0a0000010b000001', data: '01' },
    { key: '0a0000010b000001' },
    { key: 'zz00000000000001', data: '00000001' },
  ]) {
    const transaction = new Transaction('inet', 'arctic');
    transaction.addElements(ROUTES, [element]);
    t.throws(() => transaction.encode({ generation: undefined, acknowledge: 'end' }), {
      name: 'KernelError',
      code: 'EINVAL',
    });
  }
  const transaction = new Transaction('inet', 'arctic');
  t.throws(() => transaction.addSet({ name: 's', keyTypes: ['type 9'], elements: [] }), KernelError);
  t.throws(() => transaction.addSet({ name: 's', keyTypes: ['mark'], flags: 4, elements: [] }), KernelError);
  t.throws(() => transaction.addRules('c', [{ comment: 'x'.repeat(128), expressions: [] }]), RangeError);
});
