import fc from 'fast-check';
import t from 'tap';
import { ArcticError } from '../../../events/errors.ts';
import { interfaceCidr, networkCidr } from '../../../src/commands/cidr.ts';

const refusal = (run: () => unknown): ArcticError => {
  try {
    run();
  } catch (error) {
    if (error instanceof ArcticError) return error;
    throw error;
  }
  throw new Error('it was not refused');
};

/** An IPv4 network by arithmetic, to hold the implementation against. */
const maskedV4 = (address: number, length: number): string => {
  const mask = length === 0 ? 0 : (0xffff_ffff << (32 - length)) >>> 0;
  const network = (address & mask) >>> 0;
  return `${[24, 16, 8, 0].map((shift) => (network >>> shift) & 0xff).join('.')}/${length}`;
};
const dotted = (address: number) => [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');

t.test('any IPv4 network is taken as it is, and host bits are refused with the network', async () => {
  const unicast = fc.integer({ min: 1 * 2 ** 24, max: 126 * 2 ** 24 });
  fc.assert(
    fc.property(unicast, fc.integer({ min: 8, max: 32 }), (address, length) => {
      const network = maskedV4(address, length);
      const text = `${dotted(address)}/${length}`;
      if (networkCidr(network, '') !== network) return false;
      if (text === network) return true;
      const { code, message } = refusal(() => networkCidr(text, '/x'));
      return code === 'INVALID_CIDR' && message.includes(`the network is ${network}`);
    }),
  );
});

t.test('any IPv6 network has one text', async () => {
  const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(groups, fc.integer({ min: 16, max: 128 }), (given, length) => {
      const [, ...rest] = given;
      const address = [0x2001, ...rest].map((group) => group.toString(16));
      let network: string;
      try {
        network = networkCidr(`${address.join(':')}/${length}`, '');
      } catch (error) {
        network = /the network is (\S+)\.$/.exec((error as Error).message)?.[1] ?? '';
      }
      const upper = network.toUpperCase();
      return (
        networkCidr(network, '') === network &&
        networkCidr(upper, '') === network &&
        network === network.toLowerCase()
      );
    }),
  );
});

t.test('nothing but an ArcticError comes out, whatever goes in', async () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.stringMatching(/^[0-9a-f:./%]{0,50}$/)),
      (text) => {
        for (const run of [
          () => networkCidr(text, ''),
          () => interfaceCidr(text, 'ipv4', ''),
          () => interfaceCidr(text, 'ipv6', ''),
        ]) {
          try {
            run();
          } catch (error) {
            if (!(error instanceof ArcticError) || error.code !== 'INVALID_CIDR') return false;
          }
        }
        return true;
      },
    ),
  );
});

t.test('texts and their refusals', async (t) => {
  const good: readonly [string, string][] = [
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['::/0', '::/0'],
    ['2001:0DB8:0000::/48', '2001:db8::/48'],
    ['192.0.2.1/32', '192.0.2.1/32'],
  ];
  for (const [text, canonical] of good) t.equal(networkCidr(text, ''), canonical, text);
  const bad: readonly [string, RegExp][] = [
    ['', /not a CIDR/],
    ['10.0.0.0/', /prefix length/],
    ['10.0.0.0/08', /prefix length/],
    ['10.0.0.0/+8', /prefix length/],
    ['10.0.0/8', /not a CIDR/],
    ['0x0a.0.0.0/8', /not a CIDR/],
    ['10.0.0.0/255.0.0.0', /prefix length/],
    ['10.00.0.0/8', /not a CIDR/],
    ['fe80::1%eth0/64', /not a CIDR/],
    ['fe80::/64', /link-local/],
    ['2001:db8::/129', /0 to 128/],
    ['127.0.0.0/8', /loopback/],
    ['::1/128', /loopback/],
    ['224.0.0.0/4', /multicast/],
    ['ff02::/16', /multicast/],
    ['::ffff:192.0.2.0/120', /write 192\.0\.2\.0\/24/],
    [' 10.0.0.0/8', /not a CIDR/],
  ];
  for (const [text, message] of bad)
    t.match(refusal(() => networkCidr(text, '/dest_cidr')).message, message, text);
  t.same(refusal(() => networkCidr('x', '/dest_cidr')).details[0]?.pointer, '/dest_cidr');
});

t.test('an interface has an address of its own', async (t) => {
  t.equal(interfaceCidr('10.0.0.1/24', 'ipv4', ''), '10.0.0.1/24');
  t.equal(interfaceCidr('10.0.0.0/31', 'ipv4', ''), '10.0.0.0/31', 'RFC 3021');
  t.equal(interfaceCidr('10.0.0.0/32', 'ipv4', ''), '10.0.0.0/32');
  t.equal(interfaceCidr('2001:DB8::/127', 'ipv6', ''), '2001:db8::/127', 'RFC 6164');
  t.match(refusal(() => interfaceCidr('10.0.0.0/24', 'ipv4', '')).message, /such as 10\.0\.0\.1\/24/);
  t.match(refusal(() => interfaceCidr('10.0.0.255/24', 'ipv4', '')).message, /broadcast/);
  t.match(refusal(() => interfaceCidr('10.0.0.1/0', 'ipv4', '')).message, /no network part/);
  t.match(refusal(() => interfaceCidr('10.0.0.1/24', 'ipv6', '')).message, /is IPv4, but an IPv6/);
  t.match(refusal(() => interfaceCidr('2001:db8::/64', 'ipv6', '')).message, /such as 2001:db8::1\/64/);
});
