/** Kernel parameters under /proc/sys, also those of another network namespace. */
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { errnoName, type NativeAddon } from '../native/addon.ts';
import { type Kernel, KernelError } from './contract.ts';

/**
 * `net.ipv4.ip_forward` -> `/proc/sys/net/ipv4/ip_forward`. As in sysctl(8), a dot inside an interface name is written
 * as a slash: `net.ipv4.conf.eth0/100.rp_filter`. Throws KernelError EINVAL for anything that is no key.
 */
export function sysctlPath(key: string): string {
  const parts = key.split('.').map((part) => part.replaceAll('/', '.'));
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'))) {
    throw new KernelError('EINVAL', 22, `sysctl ${key}`, 'not a kernel parameter');
  }
  return `/proc/sys/${parts.join('/')}`;
}

export function createSysctl(addon: NativeAddon, netnsPath: string | undefined): Kernel['sysctl'] {
  /** Opens the file; undefined when there is no such key. */
  function open(key: string, flags: number): number | undefined {
    const path = sysctlPath(key);
    const missing = (code: string) => code === 'ENOENT' || code === 'ENOTDIR';
    if (netnsPath !== undefined) {
      const fd = addon.openInNamespace(netnsPath, path, flags);
      if (fd >= 0) return fd;
      if (missing(errnoName(-fd))) return undefined;
      throw new KernelError(errnoName(-fd), -fd, `sysctl ${key}`, 'cannot be opened');
    }
    try {
      return openSync(path, flags);
    } catch (error) {
      const { code = 'EIO', errno = -5 } = error as NodeJS.ErrnoException;
      if (missing(code)) return undefined;
      throw new KernelError(code, -errno, `sysctl ${key}`, 'cannot be opened');
    }
  }

  return {
    read: async (key) => {
      const fd = open(key, constants.O_RDONLY);
      if (fd === undefined) return undefined;
      try {
        return readFileSync(fd, 'utf8').trim();
      } finally {
        closeSync(fd);
      }
    },
    write: async (key, value) => {
      const fd = open(key, constants.O_WRONLY);
      if (fd === undefined)
        throw new KernelError('ENOENT', 2, `sysctl ${key}`, 'the kernel has no such parameter');
      try {
        writeSync(fd, value);
      } catch (error) {
        const { code = 'EIO', errno = -5 } = error as NodeJS.ErrnoException;
        throw new KernelError(code, -errno, `sysctl ${key}`, `the kernel refuses ${JSON.stringify(value)}`);
      } finally {
        closeSync(fd);
      }
    },
  };
}
