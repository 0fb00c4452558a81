/** Hosts on which the rules could not do what they say. */
import t from 'tap';
import { createLab } from '../../ops/lab/lab.ts';
import { namespacePath } from '../../ops/lab/namespaces.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { loadAddon } from '../../src/native/addon.ts';

const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;
const SOL_IP = 0;
/** Asks about a table, which is how iptables-legacy begins: from then on it is there (linux/netfilter_ipv4/ip_tables.h). */
const IPT_SO_GET_INFO = 64;
const INFO_BYTES = 84;

t.test(
  'a host whose iptables-legacy marks packets is refused, unless it is allowed',
  { timeout: 120_000 },
  async (t) => {
    const lab = await createLab();
    t.teardown(() => lab.destroy());
    const path = namespacePath(lab.host('entry').namespace);
    const kernel = createKernel({ netnsPath: path });
    await kernel.start();
    t.teardown(() => kernel.stop());
    t.strictSame((await kernel.features()).xtables, []);
    t.equal((await kernel.features()).flowReset, true);

    const addon = loadAddon();
    const fd = addon.socketInNamespace(path, AF_INET, SOCK_RAW, IPPROTO_RAW);
    const info = Buffer.alloc(INFO_BYTES);
    info.write('mangle');
    const asked = addon.getsockopt(fd, SOL_IP, IPT_SO_GET_INFO, info);
    addon.close(fd);
    if (asked < 0) {
      t.comment(`this kernel has no xtables (${asked})`);
      return;
    }
    t.strictSame((await kernel.features()).xtables, ['ip mangle']);
    const agent = await lab.startAgent('entry', { wait: false });
    const end = await agent.process.ended;
    t.equal(end.code, 3, agent.process.output());
    t.match(agent.process.output(), /^Error: the table ip mangle of the old xtables .* ALLOW_XTABLES=1/m);

    const allowed = await lab.startAgent('entry', { env: { ALLOW_XTABLES: '1' } });
    t.equal((await allowed.request('GET', '/livez')).status, 200);
    await allowed.stop();
  },
);
