import type { ServiceId } from '../events/brand.ts';
import type { Views } from '../projections/views.ts';

/** What people call a service; its id once it is gone. */
export const nameOfService = (views: Views, id: string): string =>
  views.services.get(id as ServiceId)?.name ?? id;
