/** The Linux kernel over netlink. */
import { closeSync, constants, openSync } from 'node:fs';
import { release } from 'node:os';
import { loadAddon, type NativeAddon } from '../native/addon.ts';
import { createAddressClaims } from './address-claims.ts';
import {
  type Flows,
  type Kernel,
  KernelError,
  type KernelFeatures,
  type KernelNotice,
  type Nft,
  type Rtnetlink,
} from './contract.ts';
import { openSockDiag, type SockDiag } from './diag/sock-diag.ts';
import { type NftService, openNft } from './nft/nft.ts';
import { openRtnetlink, type RtnetlinkService } from './rt/rtnetlink.ts';
import { createSysctl } from './sysctl.ts';
import { watchSysctl } from './sysctl-watch.ts';
import { startWatch, type Watch } from './watch.ts';
import { legacyTables } from './xtables.ts';

export interface KernelOptions {
  /** Work on another network namespace (`/run/netns/x`): tests and labs. Files of /proc/sys outside `net` stay the host's. */
  readonly netnsPath?: string;
  /** Given by tests that watch or break single system calls. */
  readonly addon?: NativeAddon;
}

/** Sockets open in `start`; before it and after `stop` every request fails with EBADF. Needs CAP_NET_ADMIN. */
export function createKernel(options: KernelOptions = {}): Kernel {
  const { netnsPath } = options;
  const addon = options.addon ?? loadAddon();
  const listeners = new Set<(notice: KernelNotice) => void>();
  let services: { readonly nft: NftService; readonly rt: RtnetlinkService } | undefined;
  let watch: Watch | undefined;

  let stopPolling = (): void => undefined;

  function tellOfSysctl(): void {
    notify({ subsystem: 'sysctl', own: false, pid: undefined, program: undefined, overrun: false });
  }

  /** A netconf notice does not say what changed, nor who did it: what was read before does. */
  function receive(notice: KernelNotice): void {
    if (notice.subsystem !== 'sysctl') {
      notify(notice);
      return;
    }
    void parameters.check().then((changed) => {
      if (changed) tellOfSysctl();
    });
  }

  function notify(notice: KernelNotice): void {
    for (const listener of [...listeners]) listener(notice);
  }

  const silence = {
    begin: () => watch?.silence(),
    end: () => watch?.listen(),
    missed: () => {
      if (watch === undefined) return;
      notify({ subsystem: 'nftables', own: false, pid: undefined, program: undefined, overrun: true });
    },
  };

  function running(): { readonly nft: NftService; readonly rt: RtnetlinkService } {
    if (services === undefined) throw new KernelError('EBADF', 9, 'kernel', 'not started');
    return services;
  }

  function stopWatch(): void {
    stopPolling();
    watch?.stop();
    watch = undefined;
  }

  const nft: Nft = {
    readTable: async (family, name) => running().nft.readTable(family, name),
    compareTable: async (family, name, expected) => running().nft.compareTable(family, name, expected),
    ownsTable: async (family, name) => running().nft.ownsTable(family, name),
    replaceTable: async (table, lock) => running().nft.replaceTable(table, lock),
    changeTable: async (table, changes, lock) => running().nft.changeTable(table, changes, lock),
    deleteTable: async (family, name) => running().nft.deleteTable(family, name),
    listTables: async () => running().nft.listTables(),
    generation: async () => running().nft.generation(),
    isOursSince: async (generation) => running().nft.isOursSince(generation),
  };

  const rt: Rtnetlink = {
    links: async () => running().rt.links(),
    addresses: async (linkIndex) => running().rt.addresses(linkIndex),
    routes: async (filter) => running().rt.routes(filter),
    rules: async (family) => running().rt.rules(family),
    createMacvlan: async (request) => running().rt.createMacvlan(request),
    setLink: async (index, change) => running().rt.setLink(index, change),
    deleteLink: async (index) => running().rt.deleteLink(index),
    addAddress: async (linkIndex, cidr) => running().rt.addAddress(linkIndex, cidr),
    deleteAddress: async (linkIndex, cidr) => running().rt.deleteAddress(linkIndex, cidr),
    addRoute: async (route) => running().rt.addRoute(route),
    deleteRoute: async (route) => running().rt.deleteRoute(route),
    addRule: async (rule) => running().rt.addRule(rule),
    deleteRule: async (rule) => running().rt.deleteRule(rule),
  };

  /** Seldom asked for, so it has a socket only while it works. */
  async function withDiag<T>(work: (diag: SockDiag) => Promise<T>): Promise<T> {
    running();
    const diag = openSockDiag(addon, netnsPath);
    try {
      return await work(diag);
    } finally {
      await diag.close();
    }
  }

  const flows: Flows = { reset: (filter) => withDiag((diag) => diag.reset(filter)) };

  const claims = createAddressClaims({
    addon,
    netnsPath,
    onChange: () =>
      notify({ subsystem: 'address', own: false, pid: undefined, program: undefined, overrun: false }),
  });

  const parameters = watchSysctl(createSysctl(addon, netnsPath));
  const { sysctl } = parameters;

  return {
    nft,
    rt,
    claims: {
      hold: async (wanted, own) => {
        running();
        return claims.hold(wanted, own);
      },
    },
    flows,
    sysctl,

    start: async () => {
      if (services !== undefined) return;
      const opened = openNft({ addon, netnsPath, silence });
      try {
        services = { nft: opened, rt: openRtnetlink(addon, netnsPath) };
      } catch (error) {
        await opened.close();
        throw error;
      }
    },

    stop: async () => {
      listeners.clear();
      stopWatch();
      claims.stop();
      const closing = services;
      services = undefined;
      await Promise.all([closing?.nft.close(), closing?.rt.close()]);
    },

    features: async (): Promise<KernelFeatures> => {
      const { nft: tables, rt: links } = running();
      const probed = await tables.probe();
      const controls = (await sysctl.read('net.ipv4.tcp_available_congestion_control')) ?? '';
      return {
        release: release(),
        nftDestroy: probed.destroy,
        nftBatchEndAck: probed.batchEndAck,
        nftOwner: probed.owner,
        nftPersist: probed.persist,
        tproxy: probed.tproxy,
        macvlan: await links.probeMacvlan(),
        tun: canOpen('/dev/net/tun'),
        ipv6: (await sysctl.read('net.ipv6.conf.all.forwarding')) !== undefined,
        flowReset: await withDiag((diag) => diag.probe()),
        xtables: legacyTables(addon, netnsPath),
        congestionControls: controls.split(/\s+/).filter((name) => name !== ''),
      };
    },

    watch: (listener) => {
      const { nft: tables, rt: links } = running();
      // Each call is a subscription of its own, also with the same function.
      const own = (notice: KernelNotice) => listener(notice);
      listeners.add(own);
      try {
        if (watch === undefined) stopPolling = parameters.poll(tellOfSysctl);
        watch ??= startWatch({
          addon,
          netnsPath,
          ownPorts: { nftables: tables.portId, route: links.portId },
          onNotice: receive,
        });
      } catch (error) {
        listeners.delete(own);
        throw error;
      }
      return () => {
        listeners.delete(own);
        if (listeners.size === 0) stopWatch();
      };
    },
  };
}

function canOpen(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}
