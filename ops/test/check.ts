/** `npm run check`: types, lint, format and the dependency rule. */
import { CHECKS, ROOT } from './checks.ts';

for (const check of CHECKS) {
  const { passed, report } = await check.run(ROOT);
  process.stdout.write(passed ? `ok    ${check.name}: ${report}\n` : `FAIL  ${check.name}\n${report}\n`);
  if (!passed) process.exitCode = 1;
}
