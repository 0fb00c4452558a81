/** What the rules cost a packet, and whether connections come through while whole tables are swapped under them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import { makeLab } from '../../test/kernel/reconcilers/lab.ts';
import { swapUnderLoad } from '../../test/kernel/reconcilers/swaps.ts';
import { compileTool } from '../lab/build-tools.ts';
import { destination, makeBench } from './firewall-host.ts';
import { median, quantile, spread } from './statistics.ts';

const PACKETS = 100_000;
const ROUTES = 100_000;

/** An address inside a route, in network order. */
function inside(cidr: string): Buffer {
  const [address = '', length = '0'] = cidr.split('/');
  const bytes = Buffer.from(address.split('.').map(Number));
  bytes[3] = Number(length) <= 24 ? 77 : (bytes[3] ?? 0);
  return bytes;
}

/** Nanoseconds a packet through prerouting of one host, with what the addresses make of it. */
export async function lookupRows(rounds: number): Promise<void> {
  const tool = await compileTool('syntool');
  const bench = await makeBench(false, ROUTES);
  try {
    const nft = (script: string) =>
      new Promise<void>((resolve, reject) => {
        const child = spawn('nsenter', [`--net=${bench.netns.path}`, 'nft', '-f', '-'], { stdio: 'pipe' });
        let said = '';
        child.stderr.on('data', (chunk: Buffer) => {
          said += chunk.toString();
        });
        child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(said))));
        child.stdin.end(script);
      });
    await bench.netns.exec('ip', 'link', 'set', 'lan1', 'up');
    const shown = await bench.netns.exec('cat', '/sys/class/net/lan0/address').catch(() => '');
    const mac =
      shown.trim() ||
      (/link\/ether (\S+)/.exec(await bench.netns.exec('ip', 'link', 'show', 'lan0'))?.[1] ?? '');
    // Behind everything else at this hook, and tracking connections as our table makes the kernel do.
    await nft(
      [
        'table inet sink {',
        'chain prerouting { type filter hook prerouting priority -140; tcp dport 443 drop; }',
        'chain track { type filter hook output priority 300; ct state invalid counter; }',
        '}',
      ].join('\n'),
    );
    const send = async (addresses: Buffer): Promise<number> => {
      const child = spawn('nsenter', [`--net=${bench.netns.path}`, tool, 'lan1', mac, String(PACKETS)], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      child.stdin.end(addresses);
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      await once(child, 'close');
      const nanoseconds = Number(text);
      if (!(nanoseconds > 0)) throw new Error(`syntool said ${text}`);
      return nanoseconds;
    };
    const sample = (step: number): Buffer =>
      Buffer.concat(Array.from({ length: 4_096 }, (_, n) => inside(destination((n * step) % ROUTES))));
    const all = sample(23);
    const last = Buffer.concat(
      Array.from({ length: 4_096 }, (_, n) => inside(destination((n * 240 + 9) % ROUTES))),
    );
    const none = Buffer.from([250, 1, 1, 1]);
    const { table } = await bench.kernel.nft.readTable('inet', 'arctic');
    if (table === undefined) throw new Error('no table');
    await bench.reconcilers.stop();

    const ordered = Array.from({ length: 1_000 }, (_, n) => destination(n * 100));
    const orderedTable = [
      'table inet ordered {',
      'chain prerouting {',
      'type filter hook prerouting priority -150;',
      ...ordered.map((cidr) => `ip daddr ${cidr} meta mark set 0x1 accept`),
      '}',
      '}',
    ].join('\n');
    const orderedAll = Buffer.concat(ordered.map(inside));
    const bare: number[] = [];
    const ours = { any: [] as number[], last: [] as number[], none: [] as number[] };
    const rules = { any: [] as number[], none: [] as number[] };
    for (let round = 0; round < rounds; round += 1) {
      await bench.kernel.nft.deleteTable('inet', 'arctic');
      bare.push(await send(all));
      await bench.kernel.nft.replaceTable(table);
      ours.any.push(await send(all));
      ours.last.push(await send(last));
      ours.none.push(await send(none));
      await bench.kernel.nft.deleteTable('inet', 'arctic');
      await nft(orderedTable);
      rules.any.push(await send(orderedAll));
      rules.none.push(await send(none));
      await nft('delete table inet ordered');
    }
    const over = (values: readonly number[]): number => (Math.min(...values) - Math.min(...bare)) / 1_000;
    console.log(
      `a SYN through prerouting without rules ${(Math.min(...bare) / 1_000).toFixed(2)} us; ` +
        `over that, 100,000 routes in 10 classes: any route ${over(ours.any).toFixed(2)} us, last class ${over(ours.last).toFixed(2)}, none ${over(ours.none).toFixed(2)}; ` +
        `1,000 ordered rules: any ${over(rules.any).toFixed(2)}, none ${over(rules.none).toFixed(2)}; ` +
        `ratio ${(over(ours.none) / over(rules.none)).toFixed(3)} where none matches, ${(over(ours.any) / over(rules.any)).toFixed(3)} where any does (least of ${rounds} rounds)`,
    );
  } finally {
    await bench.stop();
  }
}

/** Every connection has to be taken by the engine; one that reaches the server itself has bypassed it. */
export async function swapRow(): Promise<void> {
  const undo: (() => unknown)[] = [];
  const scope = { teardown: (work: () => unknown) => void undo.push(work) };
  const lab = await makeLab(scope as unknown as Test);
  try {
    const { swaps, connections, outcomes, times } = await swapUnderLoad(lab, 1_000, 10_000);
    console.log(
      `${swaps} swaps of a table of 3,000 routes (median ${median(times).toFixed(1)} ms, p95 ${quantile(times, 0.95).toFixed(1)}, ${spread(times)}) ` +
        `during ${connections} new connections: ${[...outcomes].map(([what, count]) => `${count} ${what}`).join(', ')}`,
    );
  } finally {
    for (const work of undo.reverse()) await work();
  }
}
