import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { KernelError, type NftTable } from '../../../src/kernel/contract.ts';
import { refusal } from '../../../src/kernel/netlink/error-text.ts';
import { canonicalExpression, canonicalTable } from '../../../src/kernel/nft/canonical.ts';
import { keyLayout, keyTypeNames } from '../../../src/kernel/nft/data-types.ts';
import { bitwise, hostWord, maskBytes, register } from '../../../src/kernel/nft/expressions.ts';
import { decodeComment, encodeByteOrder, encodeComment } from '../../../src/kernel/nft/userdata.ts';
import { canonicalCidr, networkOf, parseCidr } from '../../../src/kernel/rt/cidr.ts';
import { sysctlPath } from '../../../src/kernel/sysctl.ts';
import { newGenerationFilter } from '../../../src/kernel/watch.ts';
import { errnoName } from '../../../src/native/addon.ts';
import { addressBytes, addressText, decodeSockaddr, encodeSockaddr } from '../../../src/native/sockaddr.ts';

t.test('addresses: text to bytes and back, as RFC 5952 writes them', async (t) => {
  for (const text of [
    '0.0.0.0',
    '10.1.2.3',
    '255.255.255.255',
    '::',
    '::1',
    '1::',
    'fe80::1',
    '2001:db8::1:0:0:1',
    '2001:db8:0:1:1:1:1:1',
    '::ffff:1.2.3.4',
    '1:2:3:4:5:6:7:8',
  ]) {
    t.equal(addressText(addressBytes(text)), text);
  }
  t.equal(addressText(addressBytes('2001:DB8:0:0:0:0:0:01')), '2001:db8::1');
  t.equal(addressText(addressBytes('64:ff9b::1.2.3.4')), '64:ff9b::102:304');
  for (const text of ['', '10.1', 'host', 'fe80::1%eth0', '1.2.3.4.5'])
    t.throws(() => addressBytes(text), RangeError);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const text = addressText(bytes);
      return isIPv6(text) && addressBytes(text).equals(Buffer.from(bytes));
    }),
  );
  fc.assert(
    fc.property(fc.ipV6(), fc.integer({ min: 0, max: 65_535 }), (address, port) => {
      const decoded = decodeSockaddr(encodeSockaddr(address, port));
      return decoded?.port === port && decoded.address === addressText(addressBytes(address));
    }),
  );
  t.strictSame(decodeSockaddr(encodeSockaddr('10.1.2.3', 80)), {
    family: 'ipv4',
    address: '10.1.2.3',
    port: 80,
  });
  t.equal(decodeSockaddr(Buffer.alloc(16)), undefined);
});

t.test('prefixes', async (t) => {
  t.equal(networkOf('10.1.2.3/9'), '10.0.0.0/9');
  t.equal(networkOf('fd00::ffff/120'), 'fd00::ff00/120');
  t.equal(networkOf('10.1.2.3'), '10.1.2.3/32');
  t.equal(canonicalCidr('FD00:0::1/64'), 'fd00::1/64');
  for (const text of ['10.0.0.0/33', 'fd00::/129', '10.0.0.0/-1', '10.0.0.0/8/8', '10.0.0.0/', 'x/8']) {
    t.throws(() => parseCidr(text), { name: 'KernelError', code: 'EINVAL' });
  }
  for (const [prefix, length, mask] of [
    [0, 4, '00000000'],
    [9, 4, 'ff800000'],
    [32, 4, 'ffffffff'],
    [65, 16, 'ffffffffffffffff8000000000000000'],
  ] as const) {
    t.equal(maskBytes(prefix, length), mask);
  }
});

t.test('registers are named as the kernel names them', async (t) => {
  t.strictSame([0, 1, 2, 3, 4, 5, 8, 12, 15].map(register), [1, 9, 10, 11, 2, 13, 3, 4, 23]);
  t.throws(() => register(16), RangeError);
  t.strictSame(
    canonicalExpression({ name: 'cmp', data: { sreg: 12, op: 0, data: { value: '06' } } }),
    canonicalExpression({
      name: 'cmp',
      data: { op: 0, data: { value: '06', _unknown: { 9: '00' } }, sreg: 2 },
    }),
  );
});

t.test('the canonical form forgets state and order, and nothing else', async (t) => {
  const table: NftTable = {
    family: 'inet',
    name: 'x',
    owned: false,
    sets: [
      { name: 'b', keyTypes: ['mark'], elements: [{ key: '02' }, { key: '01' }, { key: '02' }] },
      { name: 'a', keyTypes: ['mark'], elements: [] },
    ],
    chains: [
      {
        name: 'c',
        rules: [
          { comment: '', expressions: [{ name: 'counter', data: { bytes: 5n, packets: 1n } }] },
          {
            comment: '',
            expressions: [{ ...bitwise('ff', '00'), data: { ...bitwise('ff', '00').data, op: 0 } }],
          },
          { comment: '', expressions: [{ name: 'quota', data: { _raw: '00' } }] },
        ],
      },
    ],
  };
  t.strictSame(canonicalTable(table), {
    family: 'inet',
    name: 'x',
    sets: [
      { name: 'a', keyTypes: ['mark'], elements: [] },
      { name: 'b', keyTypes: ['mark'], elements: [{ key: '01' }, { key: '02' }] },
    ],
    chains: [
      {
        name: 'c',
        rules: [
          { comment: '', expressions: [{ name: 'counter', data: {} }] },
          { comment: '', expressions: [bitwise('ff', '00')] },
          { comment: '', expressions: [{ name: 'quota', data: { _raw: '00' } }] },
        ],
      },
    ],
  });
  t.strictSame(canonicalTable(canonicalTable(table)), canonicalTable(table));
});

t.test('types of keys', async (t) => {
  t.strictSame(keyLayout(['ipv4_addr', 'ipv4_addr']), { type: 455, length: 8, host: false });
  t.strictSame(keyLayout(['ipv4_addr', 'inet_service']), { type: (7 << 6) | 13, length: 8, host: false });
  t.strictSame(keyLayout(['inet_service']), { type: 13, length: 2, host: false });
  t.strictSame(keyTypeNames(455), ['ipv4_addr', 'ipv4_addr']);
  t.strictSame(keyTypeNames((8 << 6) | 9), ['ipv6_addr', 'type 9']);
  t.throws(() => keyLayout([]), RangeError);
});

t.test('userdata', async (t) => {
  for (const comment of ['a', 'svc_01 → 10.0.0.0/8', 'x'.repeat(127)])
    t.equal(decodeComment(encodeComment(comment)), comment);
  t.equal(encodeComment(''), undefined);
  t.equal(decodeComment(undefined), '');
  t.equal(decodeComment('0500'), '');
  t.equal(decodeComment('00ff41'), 'A');
  t.equal(encodeByteOrder(false, true), '010401000000');
  t.equal(encodeByteOrder(false, false), undefined);
});

t.test('kernel parameters have no way out of /proc/sys', async (t) => {
  t.equal(sysctlPath('net.ipv4.conf.eth0/100.rp_filter'), '/proc/sys/net/ipv4/conf/eth0.100/rp_filter');
  for (const key of ['', '.', 'net...etc', 'net.//.x', 'net.a\0b', '..'])
    t.throws(() => sysctlPath(key), KernelError);
});

t.test('refusals are sentences', async (t) => {
  const error = refusal(17, { subject: 'add rule 9 to table 9', path: 'priority' });
  t.equal(error.message, 'add rule 9 to table 9: exists already (EEXIST at priority)');
  t.equal(refusal(22, { subject: 's', path: undefined }, 'kernel text').message, 's: kernel text (EINVAL)');
  t.match(refusal(85, { subject: 's', path: undefined }), { code: 'ESTALE', errno: 116 });
  t.equal(errnoName(524), 'ENOTSUPP');
  t.equal(errnoName(4095), 'errno 4095');
});

t.test('the filter of the generation listener', async (t) => {
  // ldh [4]; jeq NEWGEN (0x0a0f in host order, read big-endian); ret all; ret nothing
  const program = ['2800000004000000', '150000010a0f0000', '06000000ffffffff', '0600000000000000'];
  t.equal(newGenerationFilter().toString('hex'), program.join(''));
});

t.test('marks are host-endian', async (t) => {
  t.equal(hostWord(0x100), '00010000');
  t.equal(hostWord(0xffffffff), 'ffffffff');
});
