import { type NativeAddon, READABLE, systemCall } from '../native/addon.ts';
import type { AddressClaim, AddressClaims, AddressConflict } from './contract.ts';
import { MSG_DONTWAIT } from './netlink/socket.ts';
import { AF_PACKET, arpProbe, contender, contenderFilter, packetAddress } from './rt/arp.ts';

/** RFC 5227 section 1.1: probes of one round, and the time between them; here the longest it allows, always. */
const PROBES = 3;
const PROBE_MS = 1_000;
/** How long answers to the last one are waited for (ANNOUNCE_WAIT). */
const WAIT_MS = 2_000;
/** From finding another host to asking whether it is still there. */
const ASK_AGAIN_MS = 30_000;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const FRAME_BYTES = 64;

export interface AddressClaimsOptions {
  readonly addon: NativeAddon;
  readonly netnsPath: string | undefined;
  /** A conflict was found or is over. */
  readonly onChange: () => void;
}

interface Held {
  readonly claim: AddressClaim;
  conflict: AddressConflict | undefined;
  end(): void;
}

/** Asks the networks of claimed IPv4 addresses who else has them, and listens from then on. */
export function createAddressClaims({ addon, netnsPath, onChange }: AddressClaimsOptions): AddressClaims & {
  stop(): void;
} {
  const held = new Map<string, Held>();
  let own: ReadonlySet<string> = new Set();

  function begin(claim: AddressClaim): Held {
    const { linkIndex, mac, address } = claim;
    const subject = `ARP for ${address} on device ${linkIndex}`;
    const fd = systemCall(
      'socket',
      netnsPath === undefined
        ? addon.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0)
        : addon.socketInNamespace(netnsPath, AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0),
      subject,
    );
    const buffer = Buffer.alloc(FRAME_BYTES);
    let slot = -1;
    let timer: NodeJS.Timeout | undefined;
    /** The first round ended without a word: from then on the address is ours to keep. */
    let settled = false;
    let heard = false;

    function tell(conflict: AddressConflict | undefined): void {
      if (one.conflict?.mac === conflict?.mac) return;
      one.conflict = conflict;
      onChange();
    }

    function onReady(): void {
      for (;;) {
        const length = addon.recv(fd, buffer, MSG_DONTWAIT);
        // ENETDOWN is told once when the device goes down; it may come up again.
        if (length < 0) return;
        const other = contender(buffer.subarray(0, length), mac, address);
        if (other === undefined || own.has(other)) continue;
        heard = true;
        tell({ ...claim, other, before: !settled });
        schedule(ASK_AGAIN_MS, () => ask(PROBES));
      }
    }

    function schedule(ms: number, work: () => void): void {
      clearTimeout(timer);
      timer = setTimeout(work, ms);
      timer.unref();
    }

    /** A round of probes; one that nobody answers ends a conflict. */
    function ask(left: number): void {
      if (left === PROBES) heard = false;
      // A device that is down yet takes none: the next may find it up.
      addon.send(fd, arpProbe(mac, address), MSG_DONTWAIT);
      if (left > 1) schedule(PROBE_MS, () => ask(left - 1));
      else
        schedule(WAIT_MS, () => {
          if (heard) return;
          settled = true;
          tell(undefined);
        });
    }

    const one: Held = {
      claim,
      conflict: undefined,
      end() {
        clearTimeout(timer);
        if (slot >= 0) addon.pollStop(slot);
        addon.close(fd);
      },
    };
    try {
      systemCall('filter', addon.attachFilter(fd, contenderFilter(address)), subject);
      systemCall('bind', addon.bind(fd, packetAddress(linkIndex)), subject);
      slot = systemCall('poll', addon.pollStart(fd, READABLE, onReady), subject);
    } catch (error) {
      one.end();
      throw error;
    }
    ask(PROBES);
    return one;
  }

  function hold(claims: readonly AddressClaim[]): void {
    const wanted = new Map(claims.map((claim) => [JSON.stringify(claim), claim]));
    for (const [key, one] of held) {
      if (wanted.has(key)) continue;
      held.delete(key);
      one.end();
    }
    for (const [key, claim] of wanted) if (!held.has(key)) held.set(key, begin(claim));
  }

  return {
    hold: async (claims, macs) => {
      own = macs;
      hold(claims);
      return [...held.values()].flatMap(({ conflict }) => conflict ?? []);
    },
    stop: () => hold([]),
  };
}
