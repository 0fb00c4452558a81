import fc from 'fast-check';
import t from 'tap';
import { compileExitPolicy } from '../../../../src/engines/tproxy/exit-policy.ts';
import { addressText } from '../../../../src/native/sockaddr.ts';

const policy = (allowed: readonly (readonly [source: string | null, destination: string | null])[]) =>
  compileExitPolicy({
    serviceId: 'svc',
    name: 'test',
    mark: 0x4100_0001,
    peerId: 'peer',
    transport: 'tcp',
    fullyTransparent: false,
    limitBitsPerSecond: 0,
    allowed: allowed.map(([source, destination]) => ({ source, destination })),
  });

const ask = (
  destination: string,
  source = destination.includes(':') ? 'fd00::9' : '192.0.2.9',
  serviceId = 'svc',
) => ({
  serviceId,
  destination: { address: destination, port: 80 },
  source: { address: source, port: 50_000 },
});

t.test('destination, source, peer and service must all fit', async (t) => {
  const exit = policy([
    ['10.1.0.0/16', '10.2.0.0/16'],
    [null, 'fd02::/16'],
    ['10.3.3.3/32', null],
  ]);
  t.ok(exit.allows('peer', ask('10.2.9.9', '10.1.0.1')));
  t.notOk(exit.allows('peer', ask('10.2.9.9', '10.9.0.1')), 'another source');
  t.notOk(exit.allows('peer', ask('10.3.0.1', '10.1.0.1')), 'another destination');
  t.notOk(exit.allows('other', ask('10.2.9.9', '10.1.0.1')), 'another peer');
  t.notOk(exit.allows('peer', ask('10.2.9.9', '10.1.0.1', 'svc2')), 'another service');
  t.ok(exit.allows('peer', ask('fd02::1')));
  t.notOk(exit.allows('peer', ask('fd03::1')));
  t.ok(exit.allows('peer', ask('203.0.113.1', '10.3.3.3')), 'a route by source alone');
  t.notOk(exit.allows('peer', { ...ask('fd02::1'), destination: { address: 'fd02::1', port: 0 } }), 'port 0');
});

t.test('no routes, or a route without either side, allow nothing', async (t) => {
  t.notOk(policy([]).allows('peer', ask('10.0.0.1')));
  t.notOk(policy([[null, null]]).allows('peer', ask('10.0.0.1')));
});

t.test('this host itself and multicast must be named', async (t) => {
  const wide = policy([
    [null, '0.0.0.0/0'],
    [null, '::/0'],
    ['192.0.2.0/24', null],
  ]);
  for (const address of [
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::1',
    '::',
    'ff02::1',
  ]) {
    t.notOk(wide.allows('peer', ask(address)), address);
  }
  t.ok(wide.allows('peer', ask('8.8.8.8')));
  t.ok(wide.allows('peer', ask('2001:db8::1')));
  t.ok(policy([[null, '127.0.0.1/32']]).allows('peer', ask('127.0.0.1')));
  t.ok(policy([[null, '::1/128']]).allows('peer', ask('::1')));
});

t.test('prefixes match as their bits say', async () => {
  const bits = (bytes: Uint8Array): string =>
    [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  fc.assert(
    fc.property(
      fc.constantFrom(4, 16).chain((width) =>
        fc.record({
          network: fc.uint8Array({ minLength: width, maxLength: width }),
          length: fc.integer({ min: 8, max: width * 8 }),
          keep: fc.integer({ min: 0, max: width * 8 }),
          noise: fc.uint8Array({ minLength: width, maxLength: width }),
        }),
      ),
      ({ network, length, keep, noise }) => {
        network[0] = network.length === 4 ? 10 : 0xfd;
        // Shares exactly its first bits with the network, so that near misses are common.
        const text = bits(network).slice(0, keep) + bits(noise).slice(keep);
        const address = Uint8Array.from(network, (_, index) =>
          Number.parseInt(text.slice(index * 8, index * 8 + 8), 2),
        );
        address[0] = network[0] ?? 0;
        const expected = bits(address).slice(0, length) === bits(network).slice(0, length);
        const cidr = `${addressText(network)}/${length}`;
        return policy([[null, cidr]]).allows('peer', ask(addressText(address))) === expected;
      },
    ),
    { numRuns: 1_000 },
  );
});

t.test('a malformed CIDR is refused', async (t) => {
  for (const cidr of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', 'x/8', '::/129']) {
    t.throws(() => policy([[null, cidr]]), RangeError, cidr);
  }
});
