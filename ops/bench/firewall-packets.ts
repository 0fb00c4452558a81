/** What the rules cost a packet, and whether connections come through while whole tables are swapped under them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tap';
import { deriveClasses } from '../../projections/desired/firewall.ts';
import { RouteMaps, toSet } from '../../src/reconcilers/firewall/route-maps.ts';
import { compileRuleset } from '../../src/reconcilers/firewall/ruleset.ts';
import { desiredOf, LISTEN_PORT, makeLab, routeViews, WORLD } from '../../test/kernel/reconcilers/lab.ts';
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

const SWAPS = 1_000;
const CONNECTIONS = 10_000;
const AT_ONCE = 8;

/** Every connection has to be taken by the engine; one that reaches the server itself has bypassed it. */
export async function swapRow(): Promise<void> {
  const undo: (() => unknown)[] = [];
  const scope = { teardown: (work: () => unknown) => void undo.push(work) };
  const lab = await makeLab(scope as unknown as Test);
  try {
    await lab.startEngine();
    const routes = Array.from({ length: 2_000 }, (_, n) => ({
      service: 1,
      source: null,
      dest: `172.${16 + (n >> 8)}.${n & 255}.0/24`,
    }));
    const desired = { ...desiredOf(routes), classes: deriveClasses([routeViews(routes)]) };
    const maps = new RouteMaps();
    maps.follow(desired, undefined);
    const [frame] = compileRuleset(desired, { listenPort: LISTEN_PORT, owned: false });
    if (frame === undefined) throw new Error('no table');
    const table = { ...frame, sets: [...frame.sets, ...Array.from(maps.maps.values(), toSet)] };
    const { pass } = (await import('../../test/kernel/reconcilers/lab.ts')).firewallOf(lab);
    await pass(desired);

    let swaps = 0;
    const times: number[] = [];
    const swapping = (async () => {
      while (swaps < SWAPS) {
        const began = performance.now();
        await lab.kernel.nft.replaceTable(table);
        times.push(performance.now() - began);
        swaps += 1;
      }
    })();
    const outcomes = new Map<string, number>();
    let made = 0;
    const connect = async (): Promise<void> => {
      while (made < CONNECTIONS || swaps < SWAPS) {
        made += 1;
        const answer = await lab.ask(
          lab.client,
          WORLD.ipv4.client,
          `172.${16 + (made % 7)}.${made % 256}.${1 + (made % 250)}`,
        );
        const outcome = answer.startsWith('service 1 of ')
          ? 'taken'
          : answer === 'direct'
            ? 'bypassed'
            : answer;
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    };
    await Promise.all([swapping, ...Array.from({ length: AT_ONCE }, connect)]);
    console.log(
      `${swaps} swaps of a table of 2,000 routes (median ${median(times).toFixed(1)} ms, p95 ${quantile(times, 0.95).toFixed(1)}, ${spread(times)}) ` +
        `during ${made} new connections: ${[...outcomes].map(([what, count]) => `${count} ${what}`).join(', ')}`,
    );
  } finally {
    for (const work of undo.reverse()) await work();
  }
}
