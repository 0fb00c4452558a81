/**
 * An agent that speaks other protocol versions than this release, for tests of an upgrade host by host:
 * `ARCTIC_LAB_PROTOCOLS=2,1 node --import=tsx ops/lab/next-release.ts agent`. Everything else of it is this release.
 */
import { runAgent } from '../../src/agent.ts';

const protocols = (process.env['ARCTIC_LAB_PROTOCOLS'] ?? '').split(',').map(Number);
if (protocols.some((one) => !Number.isInteger(one) || one < 1))
  throw new Error('ARCTIC_LAB_PROTOCOLS names protocol versions: 2,1');
process.exitCode = await runAgent(process.env, { protocols });
