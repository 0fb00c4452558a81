/** A log worth exporting, its export, what verification says of it, and what a forger can do without a key. */
import { exportAudit } from '../../../events/audit-export.ts';
import { type AuditFilter, closeLine, FIRST_LINK, linkOf, splitLink } from '../../../events/audit-format.ts';
import { type AuditReport, createAuditVerifier } from '../../../events/audit-verify.ts';
import { createSigner } from '../../../events/ed25519.ts';
import type { Log } from '../../../events/log-contract.ts';
import { createChanges } from '../../../projections/change.ts';
import {
  agentStarted,
  keyOf,
  openHost,
  operator,
  overTheWire,
  routeAdded,
  routeUpdated,
  seedOf,
  setClock,
  temporaryDirectory,
} from './given-log.ts';

const ALL: AuditFilter = { since: null, until: null, types: null, actor: null };
export const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

interface Teardown {
  teardown(run: () => void): void;
}

/** A log with a history of its own and of another origin, local events among them, in transactions of several sizes. */
export function givenLog(t: Teardown): Log {
  const directory = temporaryDirectory(t);
  const clock = setClock();
  const other = openHost({ path: `${directory}/other.db`, n: 2, clock });
  const log = openHost({ path: `${directory}/arctic.db`, n: 1, clock });
  t.teardown(() => {
    log.close();
    other.close();
  });
  const member = (of: Log, n: number) => ({
    peer_id: of.origin as never,
    public_key: base64(keyOf(n)),
    address: `10.0.0.${n}:8080`,
    endpoints: [],
  });
  log.append([agentStarted], operator);
  log.append(
    [
      {
        type: 'peer.registered',
        entity: log.origin,
        data: {
          ...member(log, 1),
          name: 'one',
          api_access: 'open',
          cluster_id: 'clu_01JD0000000000000000000000' as never,
          license_id: 'lic_test' as never,
          version: '1.4.0',
        },
      },
      { type: 'peer.admitted', entity: other.origin, data: { ...member(other, 2), name: '=cmd|two' } },
    ],
    operator,
  );
  for (let n = 1; n <= 12; n += 1) {
    clock.advance(1_000);
    log.append([routeAdded(n), routeAdded(100 + n)], operator);
    other.append([routeUpdated(n, n), routeUpdated(n, n + 1), routeAdded(200 + n)], {
      ...operator,
      actor: { kind: 'system', id: null, address: null },
    });
    if (n % 4 === 0) log.append([agentStarted], operator);
    if (n % 3 === 0)
      log.receive(
        other.origin,
        keyOf(2),
        overTheWire(
          other.range(
            other.origin,
            other.versionVector()[other.origin] === undefined
              ? 1
              : (log.versionVector()[other.origin] ?? 0) + 1,
            1_000,
          ),
        ),
      );
  }
  return log;
}

export const exported = (
  log: Log,
  filter: Partial<AuditFilter> = {},
  options: { csv?: boolean; seal?: boolean } = {},
): string[] =>
  [
    ...exportAudit(log, createChanges(), {
      format: options.csv === true ? 'csv' : 'jsonl',
      filter: { ...ALL, ...filter },
      exportedAtMs: Date.UTC(2026, 1, 1),
      seal: options.seal === false ? undefined : createSigner(seedOf(1)),
    }),
  ]
    .join('')
    .split('\n')
    .slice(0, -1);

export function verified(lines: readonly string[], rootKeys: readonly string[] = []): AuditReport {
  const verifier = createAuditVerifier({ rootKeys, changes: createChanges() });
  for (const line of lines) verifier.push(line);
  return verifier.finish();
}

/** What a forger can do without any key: number and link everything anew. */
export function relinked(lines: readonly string[], renumber = true): string[] {
  let link = FIRST_LINK;
  return lines.map((line, at) => {
    const core = splitLink(line)?.core ?? line;
    const numbered = renumber ? core.replace(/^\{"line":\d+/, `{"line":${at + 1}`) : core;
    link = linkOf(link, numbered);
    return closeLine(numbered, link);
  });
}

export const FILTERS: readonly Partial<AuditFilter>[] = [
  {},
  { types: ['route.updated'] },
  { types: ['route.added'] },
  { types: ['agent.started'] },
  { types: ['nothing.such'] },
  { actor: 'system' },
  { actor: 'cli_01JD0000000000000000000000' },
  { since: '10' },
  { until: '20' },
  { since: '8', until: '30', types: ['route.added'] },
  { since: '2026-01-01T00:00:04.000Z', until: '2026-01-01T00:00:08.000Z' },
];
