/** Frames of IPv4 duplicate address detection, byte for byte (RFC 826, RFC 5227). */
import t from 'tap';
import { arpProbe, contender } from '../../../src/kernel/rt/arp.ts';

const OURS = '02:00:00:00:00:01';
const OTHER = '02:00:00:00:00:02';
const ADDRESS = '10.77.0.1';

/** What another host's frame looks like. */
function frame(sender: string, from: string, to: string, operation: 1 | 2): Buffer {
  const bytes = arpProbe(sender, to);
  bytes[21] = operation;
  bytes.set(from.split('.').map(Number), 28);
  return bytes;
}

t.test('a probe claims nothing', async (t) => {
  t.equal(
    arpProbe(OURS, ADDRESS).toString('hex'),
    `ffffffffffff${'020000000001'}0806${'0001080006040001'}${'020000000001'}00000000${'000000000000'}0a4d0001`,
  );
});

t.test('who contests an address', async (t) => {
  const by = (bytes: Buffer) => contender(bytes, OURS, ADDRESS);
  t.equal(by(frame(OTHER, ADDRESS, '0.0.0.0', 2)), OTHER, 'an answer');
  t.equal(by(frame(OTHER, ADDRESS, ADDRESS, 1)), OTHER, 'an announcement');
  t.equal(by(frame(OTHER, ADDRESS, '10.77.0.9', 1)), OTHER, 'a request that names it as the sender');
  t.equal(by(frame(OTHER, '0.0.0.0', ADDRESS, 1)), OTHER, 'a probe for it');
  t.equal(by(frame(OTHER, '10.77.0.9', ADDRESS, 1)), undefined, 'somebody looks for us');
  t.equal(by(frame(OTHER, '0.0.0.0', '10.77.0.9', 1)), undefined, 'a probe for another');
  t.equal(by(frame(OURS, ADDRESS, ADDRESS, 1)), undefined, 'our own, reflected');
  t.equal(by(arpProbe(OTHER, ADDRESS).subarray(0, 41)), undefined, 'cut short');
  const other = frame(OTHER, ADDRESS, ADDRESS, 1);
  other.writeUInt16BE(0x0800, 12);
  t.equal(by(other), undefined, 'not ARP');
});
