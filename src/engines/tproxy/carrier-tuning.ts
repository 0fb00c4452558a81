import { SystemCallError } from '../../native/addon.ts';
import type { TcpSocketOptions } from '../../native/transparent.ts';

export interface CarrierTuningOptions {
  /** SO_MARK of everything the relay dials, and of its carriers: never captured again. */
  readonly ownMark: number;
  /** TCP_CONGESTION of carriers, used where the kernel has it. Default `bbr`. */
  readonly congestionControl?: string;
  /** The same on short paths without loss (path-kind.ts). Default `cubic`; only the native relay makes a difference. */
  readonly shortCongestionControl?: string;
  /** Send and receive buffer of carriers in bytes. Default 16 MB: a lossy link of 200 Mbit/s and 100 ms needs it. */
  readonly carrierBuffer?: number;
  /** TCP_NOTSENT_LOWAT of carriers in bytes. Default 1 MB; without it large buffers were slower and unsteady. */
  readonly notSentLowWater?: number;
  /** The same on short paths. Default 128 KiB: what waits longer than the caches hold it is copied twice as slowly. */
  readonly shortLowWater?: number;
  /** Milliseconds without an acknowledgement after which a carrier counts as dead. Default 30,000. */
  readonly userTimeout?: number;
  /**
   * Bytes of PAD each way that open the windows of a fresh link on a path of 2 ms and more, before a flow needs them.
   * Default 512 KiB; 0 is none. Only the native relay trains.
   */
  readonly training?: number;
  /** Seal with AEGIS-128L on links whose other end has it, too. Default true; only the native relay has it. */
  readonly aegis?: boolean;
  /** Links to one peer that are trained within 10 s. Default 4. */
  readonly trainedLinks?: number;
}

export interface CarrierTuning {
  readonly options: Required<CarrierTuningOptions>;
  /** Opens a carrier socket; a kernel without the wanted congestion control keeps its default from then on. */
  open(open: (tcp: TcpSocketOptions) => number): number;
}

export function createCarrierTuning(given: CarrierTuningOptions): CarrierTuning {
  const options = {
    ownMark: given.ownMark,
    congestionControl: given.congestionControl ?? 'bbr',
    shortCongestionControl: given.shortCongestionControl ?? 'cubic',
    carrierBuffer: given.carrierBuffer ?? 16 * 1024 * 1024,
    notSentLowWater: given.notSentLowWater ?? 1024 * 1024,
    shortLowWater: given.shortLowWater ?? 128 * 1024,
    userTimeout: given.userTimeout ?? 30_000,
    training: given.training ?? 512 * 1024,
    trainedLinks: given.trainedLinks ?? 4,
    aegis: given.aegis ?? true,
  };
  const tcp: TcpSocketOptions = {
    mark: options.ownMark,
    sendBuffer: options.carrierBuffer,
    receiveBuffer: options.carrierBuffer,
    notSentLowWater: options.notSentLowWater,
    userTimeout: options.userTimeout,
  };
  let congestionControl: string | undefined = options.congestionControl;
  return {
    options,
    open(open) {
      if (congestionControl === undefined) return open(tcp);
      try {
        return open({ ...tcp, congestionControl });
      } catch (error) {
        if (!isRefusedCongestionControl(error)) throw error;
        congestionControl = undefined;
        return open(tcp);
      }
    },
  };
}

function isRefusedCongestionControl(error: unknown): boolean {
  return (
    error instanceof SystemCallError &&
    error.message.includes('TCP_CONGESTION') &&
    (error.code === 'ENOENT' || error.code === 'EPERM')
  );
}
