/** TUN devices. They live as long as the descriptor: a dead agent leaves none behind, and its marked packets go directly. */
import type { Rtnetlink } from '../../kernel/contract.ts';
import { type NativeAddon, systemCall } from '../../native/addon.ts';

/** linux/if_tun.h */
const IFF_VNET_HDR = 0x4000;

export interface HeldDevice {
  readonly name: string;
  readonly index: number;
  readonly fd: number;
  /** Of this opening, for the native side to tell it from an earlier one. */
  readonly token: number;
}

/** Makes the device, with offloads, an alias that names the peer, and the MTU; leaves it up. Throws SystemCallError or KernelError. */
export async function openDevice(
  addon: NativeAddon,
  rt: Pick<Rtnetlink, 'setLink' | 'deleteLink'>,
  wanted: {
    readonly name: string;
    readonly peerId: string;
    readonly mtu: number;
    readonly token: number;
  },
): Promise<HeldDevice> {
  const fd = systemCall('TUNSETIFF', addon.openTun(wanted.name, IFF_VNET_HDR), wanted.name);
  try {
    systemCall('TUNSETOFFLOAD', addon.tunnelPrepareTun(fd), wanted.name);
    const index = systemCall('if_nametoindex', addon.interfaceIndex(wanted.name), wanted.name);
    await rt.setLink(index, { alias: `arctic:tunnel:${wanted.peerId}`, mtu: wanted.mtu });
    await rt.setLink(index, { up: true });
    return { name: wanted.name, index, fd, token: wanted.token };
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}
