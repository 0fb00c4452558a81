import type { Cidr } from '../../events/brand.ts';
import { type Checked, checkInterface, checkNetwork, type Family } from '../../events/cidr.ts';
import { ArcticError } from '../../events/errors.ts';

/** A network in canonical form; a fault is INVALID_CIDR at `pointer`, with the corrected CIDR where there is one. */
export const networkCidr = (text: string, pointer: string): Cidr => taken(checkNetwork(text), pointer);

/** The address of an interface with its prefix length (`10.1.0.1/24`), in canonical form; a fault is INVALID_CIDR. */
export const interfaceCidr = (text: string, family: Family, pointer: string): Cidr =>
  taken(checkInterface(text, family), pointer);

function taken(checked: Checked, pointer: string): Cidr {
  if ('cidr' in checked) return checked.cidr;
  throw new ArcticError('INVALID_CIDR', `${checked.fault}.`, [{ pointer, message: checked.fault }]);
}
