/** From errno and extended acknowledgement to a KernelError that names our object. */
import { errnoName } from '../../native/addon.ts';
import { KernelError } from '../contract.ts';
import type { Place } from './datagram.ts';

const TEXTS: Readonly<Record<string, string>> = {
  EPERM: 'not permitted; CAP_NET_ADMIN is needed, or another process owns the object',
  ENOENT: 'the kernel knows no such object',
  ESRCH: 'the kernel knows no such entry',
  EEXIST: 'exists already',
  EBUSY: 'is in use',
  EINVAL: 'the kernel refuses the value',
  ERANGE: 'the value is out of range',
  ENODEV: 'no such device',
  ENFILE: 'the set is full',
  EMSGSIZE: 'the transaction is larger than the socket may send',
  ENOBUFS: 'the kernel ran out of buffer space',
  EOPNOTSUPP: 'this kernel does not support it',
  EAFNOSUPPORT: 'this kernel does not have the address family',
  EADDRNOTAVAIL: 'no such address on the device',
  ENETUNREACH: 'the gateway is not reachable through any device',
  ENETDOWN: 'the device is down',
  ERESTART: 'the ruleset changed since it was read',
};

/** linux/netlink.h: a stale NFNL_BATCH_GENID is answered ERESTART, which no other refusal of a batch uses. */
const ERESTART = 85;
const ESTALE = 116;

/** Builds the error for a refusal. `text` is the kernel's own sentence, where it sent one. */
export function refusal(errno: number, place: Place, text?: string): KernelError {
  const stale = errno === ERESTART;
  const name = errnoName(errno);
  const sentence = text ?? TEXTS[name] ?? 'the kernel refused';
  return new KernelError(
    stale ? 'ESTALE' : name,
    stale ? ESTALE : errno,
    place.subject,
    sentence,
    place.path,
  );
}

/** The outcome is not known: the acknowledgement was lost. Observe before anything else. */
export function unknownOutcome(subject: string): KernelError {
  return new KernelError(
    'EUNKNOWN',
    0,
    subject,
    'the kernel sent no acknowledgement; whether it applied is not known',
  );
}
