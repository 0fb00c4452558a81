import type { Area, Condition, Finding } from './contract.ts';
import type { Facts } from './facts.ts';
import { CONDITIONS } from './table.ts';

export interface Evaluation {
  /** What is the matter, the worst first, then in the order of the table. */
  readonly findings: readonly Finding[];
  /** Codes whose facts were there. */
  readonly judged: ReadonlySet<string>;
}

const RANK = { critical: 0, warning: 1, info: 2 } as const;

/** Judges the facts by the table. Pure. A consequence of something that holds, for the same subject, is left out. */
export function evaluate(facts: Facts, conditions: readonly Condition[] = CONDITIONS): Evaluation {
  const judged = new Set<string>();
  const held = new Map<string, readonly Finding[]>();
  for (const condition of conditions) {
    const instances = condition.detect(facts);
    if (instances === undefined) continue;
    judged.add(condition.code);
    const { code, severity, area, symptoms } = condition;
    held.set(
      code,
      instances.map((instance) => ({ code, severity, area, symptoms, ...instance })),
    );
  }
  const isConsequence = (condition: Condition, finding: Finding): boolean =>
    condition.dependsOn.some((code) =>
      held
        .get(code)
        ?.some(
          (cause) =>
            cause.subject === undefined || cause.subject === finding.subject || finding.subject === undefined,
        ),
    );
  const findings = conditions.flatMap((condition) =>
    (held.get(condition.code) ?? []).filter((finding) => !isConsequence(condition, finding)),
  );
  return { judged, findings: findings.sort((a, b) => RANK[a.severity] - RANK[b.severity]) };
}

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** What an area that holds the agent back looks like while nothing is the matter with it. */
export type Calm = (
  facts: Facts,
) => readonly { readonly name: string; readonly area: Area; readonly detail: string }[];

const calm: Calm = ({ agent, license, reconcilers }) => [
  {
    name: 'projections',
    area: 'projections',
    detail: `at position ${agent?.position ?? 0}`,
  },
  { name: 'bootstrap', area: 'bootstrap', detail: agent?.clusterId ?? '-' },
  {
    name: 'license',
    area: 'license',
    detail: !license ? 'no license is installed' : `${license.licenseId} is ${license.state}`,
  },
  // TCP is accelerated without the tunnel, so the tunnel holds nobody back.
  ...(reconcilers ?? [])
    .filter(({ name }) => name !== 'iptun')
    .map(({ name, state, condition }) => ({
      name: `reconciler ${name}`,
      area: 'reconcilers' as const,
      detail: condition === null ? state : `${state}; ${condition}`,
    })),
];

/** The checks of readyz: one a part of the agent that can hold it back, not ok while such a condition holds. */
export function readiness(facts: Facts): readonly Check[] {
  const holding = CONDITIONS.filter((condition) => condition.holdsBackReady === true).flatMap((condition) =>
    (condition.detect(facts) ?? []).map((instance) => ({ area: condition.area, ...instance })),
  );
  return calm(facts).map(({ name, area, detail }) => {
    const cause = holding.find(
      (one) => one.area === area && (one.subject === undefined || name.endsWith(` ${one.subject}`)),
    );
    if (area === 'license' && !facts.license) return { name, ok: false, detail };
    return { name, ok: cause === undefined, detail: cause?.text ?? detail };
  });
}
