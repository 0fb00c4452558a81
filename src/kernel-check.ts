import { systemClock } from '../events/clock.ts';
import { ArcticError } from '../events/errors.ts';
import { evaluate } from './health/evaluate.ts';
import type { KernelFacts } from './health/facts.ts';
import { defaultInterface } from './host.ts';
import { kernelFactsOf } from './inspection.ts';
import type { Kernel, KernelFeatures } from './kernel/contract.ts';
import type { Settings } from './settings.ts';

/**
 * What this kernel can do and what else runs on it, each lack as a line of the log. Refuses a kernel without
 * TPROXY, and a host whose iptables-legacy rules stand where ours have to. Throws ArcticError UNAVAILABLE.
 */
export async function judgeKernel(
  settings: Settings,
  kernel: Kernel,
  features: KernelFeatures,
  logger: { warn(fields: object, text: string): void },
): Promise<KernelFacts> {
  if (!features.tproxy)
    throw new ArcticError(
      'UNAVAILABLE',
      'this kernel cannot redirect TCP (no TPROXY); load the module nft_tproxy or use a kernel with CONFIG_NFT_TPROXY.',
    );
  const wanted = settings.parentInterface ?? (await defaultInterface(kernel.rt));
  const facts = kernelFactsOf(features, {
    nftables: true,
    parentInterface: (await kernel.rt.links()).find((link) => link.name === wanted)?.name,
    closedInputs: [],
    foreignMarks: [],
  });
  const { findings } = evaluate({ now: systemClock.now(), kernel: facts });
  const refused = findings.find(({ code }) => code === 'host-xtables');
  if (refused !== undefined && !settings.allowXtables)
    throw new ArcticError('UNAVAILABLE', `${refused.text} ${refused.remedy}`);
  for (const { code, text, remedy } of findings) logger.warn({ code, remedy }, text);
  return settings.allowXtables ? { ...facts, xtables: [] } : facts;
}
