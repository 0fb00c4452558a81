/**
 * What every Kernel must do. Run against the fake and, inside a namespace, against Linux; there an independent reader
 * (nft, ip) looks at the result as well.
 */
import type { Test } from 'tap';
import { nftablesCompliance } from './nftables.ts';
import { routingCompliance } from './routing.ts';
import { type MakeSubject, refused } from './subject.ts';

export function kernelCompliance(t: Test, make: MakeSubject): void {
  nftablesCompliance(t, make);
  routingCompliance(t, make);
  t.test('parameters: reads, writes and knows what is missing', async (t) => {
    const { kernel, reader } = await make(t);
    t.equal(await kernel.sysctl.read('net.ipv4.ip_forward'), '0');
    await kernel.sysctl.write('net.ipv4.ip_forward', '1');
    t.equal(await kernel.sysctl.read('net.ipv4.ip_forward'), '1');
    if (reader !== undefined) t.match(await reader.ip('netconf', 'show', 'dev', 'lo'), /forwarding on/);
    t.equal(await kernel.sysctl.read('net.ipv4.no_such_key'), undefined);
    await refused(t, kernel.sysctl.write('net.ipv4.no_such_key', '1'), 'ENOENT', /no_such_key/);
    await refused(t, kernel.sysctl.read('net...etc.passwd'), 'EINVAL', /sysctl/);
  });

  t.test('lifecycle: features without lasting effect, and nothing after stop', async (t) => {
    const { kernel } = await make(t);
    const before = await kernel.nft.generation();
    const features = await kernel.features();
    t.ok(features.tproxy && features.nftDestroy && features.macvlan, JSON.stringify(features));
    t.equal(await kernel.nft.generation(), before);
    t.strictSame(await kernel.nft.listTables(), []);
    await kernel.stop();
    await kernel.stop();
    await refused(t, kernel.nft.generation(), 'EBADF', /kernel/);
    await refused(t, kernel.rt.links(), 'EBADF', /kernel/);
    await kernel.start();
    t.equal(await kernel.nft.generation(), before);
  });
}
