import type { Area, Finding } from '../../src/health/contract.ts';
import { evaluate } from '../../src/health/evaluate.ts';
import type { Facts } from '../../src/health/facts.ts';
import { CONDITIONS } from '../../src/health/table.ts';
import { fold } from '../output.ts';
import type { Style } from '../style.ts';
import { printable } from '../terminal.ts';

/** The order in which a cause comes before what it causes. */
const AREAS: readonly Area[] = [
  'host',
  'kernel',
  'settings',
  'installation',
  'ports',
  'database',
  'trust roots',
  'agent',
  'API',
  'projections',
  'bootstrap',
  'license',
  'clock',
  'peers',
  'reconcilers',
  'services',
  'drift',
];

export interface AreaReport {
  readonly area: Area;
  readonly state: 'ok' | 'info' | 'warning' | 'critical' | 'not checked';
  readonly findings: readonly Finding[];
}

export interface Report {
  readonly status: 'ok' | 'warning' | 'critical';
  readonly areas: readonly AreaReport[];
  readonly findings: readonly Finding[];
  readonly gaps: readonly string[];
}

/** Judges the facts; what the agent reports about itself fills in what could not be judged from here. */
export function report(facts: Facts, reported: readonly Finding[], gaps: readonly string[]): Report {
  const { findings: own, judged } = evaluate(facts);
  const findings = [...own, ...reported.filter(({ code }) => !judged.has(code))];
  const areas = AREAS.map((area): AreaReport => {
    const here = findings.filter((one) => one.area === area);
    const known = CONDITIONS.some((one) => one.area === area && judged.has(one.code));
    const worst = here[0]?.severity;
    const severities = here.map(({ severity }) => severity);
    const state = severities.includes('critical')
      ? 'critical'
      : severities.includes('warning')
        ? 'warning'
        : (worst ?? (known ? 'ok' : 'not checked'));
    return { area, state, findings: here };
  });
  const severities = findings.map(({ severity }) => severity);
  return {
    status: severities.includes('critical') ? 'critical' : severities.includes('warning') ? 'warning' : 'ok',
    areas,
    findings,
    gaps,
  };
}

/** The report for a person: a line an area, and under it what is the matter and what to do. */
export function renderReport({ areas, findings, gaps }: Report, style: Style, width: number): string {
  const paint = (state: AreaReport['state']): string => {
    if (state === 'ok') return style.green('ok');
    if (state === 'critical') return style.red('CRITICAL');
    if (state === 'warning') return style.yellow('WARNING');
    return state === 'info' ? 'ok' : style.dim('not checked');
  };
  const lines = areas.flatMap(({ area, state, findings: here }) => [
    `${area.padEnd(14)}${paint(state)}`,
    ...here.flatMap(({ text, remedy, severity }) => [
      fold(printable(`${severity === 'info' ? 'Note: ' : ''}${text}`), width, '    '),
      fold(printable(`Fix: ${remedy}`), width, '    '),
    ]),
  ]);
  const count = (severity: Finding['severity']) => findings.filter((one) => one.severity === severity).length;
  const plural = (n: number, word: string) => `${n} ${word}${n === 1 ? '' : 's'}`;
  const summary =
    count('critical') + count('warning') === 0
      ? 'Nothing is the matter.'
      : `${count('critical')} critical, ${plural(count('warning'), 'warning')}.`;
  return [
    ...lines,
    ...(gaps.length === 0
      ? []
      : ['', 'Not checked:', ...gaps.map((gap) => fold(printable(`- ${gap}`), width, '  '))]),
    '',
    summary,
    '',
  ].join('\n');
}
