/**
 * Audit export from a log on disk to a file, and verification of that file, in events a second, with the memory each took
 * above what the process had before. Bar: 50,000 events/s each, and memory that does not grow with the history.
 *
 *   node --import=tsx ops/bench/audit.ts [events]
 */
import { closeSync, createReadStream, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { readLines } from '../../cli/line-reader.ts';
import { exportAudit } from '../../events/audit-export.ts';
import { createAuditVerifier } from '../../events/audit-verify.ts';
import { systemClock, systemRandom } from '../../events/clock.ts';
import { createSigner } from '../../events/ed25519.ts';
import type { AnyNewEvent } from '../../events/envelope.ts';
import { openLog, openLogReader } from '../../events/log.ts';
import { createChanges } from '../../projections/change.ts';
import { describeMachine } from './machine.ts';
import { median, spread } from './statistics.ts';

const EVENTS = Number(process.argv[2] ?? 200_000);
const ROUTES = 5_000;
const A_TRANSACTION = 100;
const RUNS = 3;
const SERVICE = 'svc_01JD0000000000000000000000';

const route = (n: number): string => `rte_${String(n % ROUTES).padStart(26, '0')}`;
/** Routes come and are then changed again and again: a history much longer than the state. */
const eventAt = (n: number): AnyNewEvent =>
  n < ROUTES
    ? {
        type: 'route.added',
        entity: route(n),
        data: {
          service_id: SERVICE as never,
          number: n + 1,
          priority: 100,
          source_cidr: null,
          dest_cidr: `10.${(n >> 8) & 255}.${n & 255}.0/24`,
        },
      }
    : {
        type: 'route.updated',
        entity: route(n),
        data: { service_id: SERVICE as never, priority: n % 65_536 },
      };

const directory = mkdtempSync(join(tmpdir(), 'arctic-bench-'));
try {
  const path = join(directory, 'arctic.db');
  const signer = createSigner(systemRandom.bytes(32));
  const log = openLog({ path }, { signer, clock: systemClock, random: systemRandom, onError: console.error });
  const context = {
    actor: { kind: 'client', id: 'cli_01JD0000000000000000000000', address: '192.0.2.7' },
    correlationId: 'bench',
  } as const;
  log.append(
    [
      {
        type: 'service.created',
        entity: SERVICE,
        data: {
          name: 'bench',
          source_peer_id: log.origin,
          target_peer_id: 'peer_01JD0000000000000000000000' as never,
          transport_type: 'tcp',
          requires_interface: false,
          desired_ipv4_cidr: null,
          desired_ipv6_cidr: null,
          fully_transparent: false,
          bandwidth_limit_mbps: 0,
        },
      },
    ],
    context,
  );
  for (let n = 0; n < EVENTS; n += A_TRANSACTION)
    log.append(
      Array.from({ length: Math.min(A_TRANSACTION, EVENTS - n) }, (_, i) => eventAt(n + i)),
      context,
    );
  log.close();

  console.log(describeMachine());
  console.log(
    `load average: ${loadavg()
      .map((load) => load.toFixed(2))
      .join(' ')}; ${EVENTS} events, ${ROUTES} routes`,
  );
  for (const format of ['jsonl', 'csv'] as const) {
    const file = join(directory, `export.${format}`);
    const exportRates: number[] = [];
    const verifyRates: number[] = [];
    const exportCpu: number[] = [];
    const verifyCpu: number[] = [];
    let exportMemory = 0;
    let verifyMemory = 0;
    for (let run = 0; run < RUNS; run += 1) {
      const exporting = measure();
      const reader = openLogReader({ path });
      const out = openSync(file, 'w');
      const filter = { since: null, until: null, types: null, actor: null };
      for (const piece of exportAudit(reader, createChanges(), {
        format,
        filter,
        exportedAtMs: Date.now(),
        seal: signer,
      })) {
        writeSync(out, piece);
        exporting.look();
      }
      closeSync(out);
      reader.close();
      exportRates.push(EVENTS / exporting.seconds());
      exportCpu.push(EVENTS / exporting.cpuSeconds());
      exportMemory = Math.max(exportMemory, exporting.memory());

      const verifying = measure();
      const verifier = createAuditVerifier({ changes: createChanges() });
      for await (const { texts, flaws } of readLines(
        createReadStream(file, { highWaterMark: 1024 * 1024 }),
      )) {
        texts.forEach((text, index) => {
          verifier.push(text, flaws.get(index));
        });
        verifying.look();
      }
      const report = verifier.finish();
      if (!report.sound || !report.sealed || !report.changesRecomputed)
        throw new Error(JSON.stringify(report.faults));
      verifyRates.push(EVENTS / verifying.seconds());
      verifyCpu.push(EVENTS / verifying.cpuSeconds());
      verifyMemory = Math.max(verifyMemory, verifying.memory());
    }
    const mebibytes = Math.round(statSync(file).size / 1_048_576);
    for (const [what, rates, cpu, memory] of [
      ['export', exportRates, exportCpu, exportMemory],
      ['verify', verifyRates, verifyCpu, verifyMemory],
    ] as const)
      console.log(
        `${format.padEnd(5)} ${what}: ${spread(rates, 0)} events/s, bar 50000: ${median(rates) >= 50_000 ? 'met' : 'MISSED'}; ` +
          `${median(cpu).toFixed(0)} a second of processor time; ${Math.round(memory / 1_048_576)} MiB above the start; file ${mebibytes} MiB`,
      );
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** Time, processor time and the highest resident memory since now. */
function measure() {
  const began = performance.now();
  const cpu = process.cpuUsage();
  const base = process.memoryUsage.rss();
  let most = base;
  let calls = 0;
  return {
    look() {
      calls += 1;
      if (calls % 64 === 0) most = Math.max(most, process.memoryUsage.rss());
    },
    seconds: () => (performance.now() - began) / 1_000,
    /** Of all threads: what a loaded machine does not change. */
    cpuSeconds: () => {
      const { user, system } = process.cpuUsage(cpu);
      return (user + system) / 1e6;
    },
    memory: () => most - base,
  };
}
