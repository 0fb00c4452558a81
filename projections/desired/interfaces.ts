import { hash } from 'node:crypto';
import type { ServiceId } from '../../events/brand.ts';
import type { DesiredInterface } from './contract.ts';
import { serviceMarks } from './marks.ts';
import type { Relevant } from './relevant.ts';

/** IFNAMSIZ - 1 (linux/if.h). */
const NAME_LENGTH = 15;

/** Name of a service's interface: its id cut to what the kernel takes. */
export const interfaceName = (service: ServiceId): string => service.slice(0, NAME_LENGTH);

/** Locally administered unicast address (bit 1 of the first octet set, bit 0 clear: IEEE 802 section 8), from the service id. */
export function interfaceMac(service: ServiceId): string {
  const bytes = hash('sha256', `arctic mac ${service}`, 'buffer').subarray(0, 6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** One interface for each service that asks for one and has this host as its source. */
export function deriveInterfaces(relevant: Relevant): readonly DesiredInterface[] {
  const marks = serviceMarks(relevant);
  return relevant.entries
    .filter((service) => service.requires_interface)
    .map((service) => ({
      service_id: service.id,
      name: interfaceName(service.id),
      mac: interfaceMac(service.id),
      mark: marks.get(service.id) ?? 0,
      ipv4_cidr: service.desired_ipv4_cidr,
      ipv6_cidr: service.desired_ipv6_cidr,
    }));
}
