import { KernelError } from '../../kernel/contract.ts';
import type { ElementNames } from './difference.ts';
import type { RouteMaps } from './route-maps.ts';

/** How a transaction names the element that the kernel refused (kernel/nft/transaction.ts). */
const ELEMENT = /element ([0-9a-f]+)(?: -> [0-9a-f]+)? of set (\S+)/;

/** The same refusal, with the route it is about in an operator's words: `route 17 of sydney-london: any -> 10.0.0.0/8: ...`. */
export function explainRefusal(error: unknown, maps: RouteMaps, names: ElementNames): unknown {
  if (!(error instanceof KernelError)) return error;
  const [, key, set] = ELEMENT.exec(error.subject) ?? [];
  if (key === undefined || set === undefined) return error;
  const { item } = names.of(set, maps.maps.get(set)?.elements.get(key) ?? { key });
  const text = error.message.replace(/ \([A-Z0-9]+(?: at [^()]*)?\)$/, '');
  return new KernelError(error.code, error.errno, item, text, error.path);
}
