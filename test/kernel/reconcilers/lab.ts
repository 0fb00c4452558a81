/** Client, router and server, with a stand-in for the engine on the router that says what it was given. */
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import type { Test } from 'tap';
import type { Cidr, Hlc, RouteKey, ServiceId } from '../../../events/brand.ts';
import { type DesiredFirewall, MARK } from '../../../projections/desired/contract.ts';
import { deriveClasses } from '../../../projections/desired/firewall.ts';
import type { RouteView } from '../../../projections/views.ts';
import type { Kernel } from '../../../src/kernel/contract.ts';
import { createKernel } from '../../../src/kernel/kernel.ts';
import { loadAddon } from '../../../src/native/addon.ts';
import { openDialer, openListener, readMark } from '../../../src/native/transparent.ts';
import { createFirewallReconciler, type FirewallOptions } from '../../../src/reconcilers/firewall.ts';
import { joinByVeth, makeSpaces, type Netns } from '../netns.ts';

const addon = loadAddon();
export const LISTEN_PORT = 17_000;
export const SERVER_PORT = 8080;
/** Bits of a mark that name the service, whatever the kind. */
const SERVICE_BITS = 0x000f_ffff;

/** Sources live behind the client, destinations behind the server; every address of them answers. */
export const WORLD = {
  ipv4: { sources: '192.168.0.0/16', dests: '172.16.0.0/12', client: '10.1.0.2', server: '10.2.0.2' },
  ipv6: { sources: 'fd55::/16', dests: 'fd77::/16', client: 'fd01::2', server: 'fd02::2' },
} as const;

export interface Lab {
  readonly client: Netns;
  readonly router: Netns;
  readonly server: Netns;
  readonly kernel: Kernel;
  /** Connects and answers who took the connection: `service <n> of <client> to <destination>`, `direct`, or an error code. */
  ask(from: Netns, source: string, dest: string, options?: AskOptions): Promise<string>;
  /** A plain server on SERVER_PORT of a host, which answers `text`. */
  serve(netns: Netns, text: string): Promise<unknown>;
  startEngine(): Promise<{ close(): Promise<void> }>;
}

interface AskOptions {
  readonly port?: number;
  readonly mark?: number;
}

export async function makeLab(t: Test): Promise<Lab> {
  const [client, router, server] = await makeSpaces(t, 'client', 'router', 'server');
  await joinByVeth(
    { netns: client, name: 'uplink', addresses: ['10.1.0.2/24', 'fd01::2/64'] },
    { netns: router, name: 'lan0', addresses: ['10.1.0.1/24', 'fd01::1/64'] },
  );
  await joinByVeth(
    { netns: router, name: 'wan0', addresses: ['10.2.0.1/24', 'fd02::1/64'] },
    { netns: server, name: 'uplink', addresses: ['10.2.0.2/24', 'fd02::2/64'] },
  );
  const ip = (netns: Netns, ...args: string[]): Promise<string> => netns.exec('ip', ...args);
  await ip(client, 'route', 'add', 'default', 'via', '10.1.0.1');
  await ip(client, '-6', 'route', 'add', 'default', 'via', 'fd01::1');
  await ip(client, 'route', 'add', 'local', WORLD.ipv4.sources, 'dev', 'lo', 'table', 'local');
  await ip(client, '-6', 'route', 'add', 'local', WORLD.ipv6.sources, 'dev', 'lo', 'table', 'local');
  await ip(router, 'route', 'add', WORLD.ipv4.sources, 'via', '10.1.0.2');
  await ip(router, '-6', 'route', 'add', WORLD.ipv6.sources, 'via', 'fd01::2');
  await ip(router, 'route', 'add', 'default', 'via', '10.2.0.2');
  await ip(router, '-6', 'route', 'add', 'default', 'via', 'fd02::2');
  await ip(server, 'route', 'add', 'local', WORLD.ipv4.dests, 'dev', 'lo', 'table', 'local');
  await ip(server, '-6', 'route', 'add', 'local', WORLD.ipv6.dests, 'dev', 'lo', 'table', 'local');
  await ip(server, 'route', 'add', 'default', 'via', '10.2.0.1');
  await ip(server, '-6', 'route', 'add', 'default', 'via', 'fd02::1');

  const kernel = createKernel({ netnsPath: router.path });
  await kernel.start();
  t.teardown(() => kernel.stop());
  await kernel.sysctl.write('net.ipv4.ip_forward', '1');
  await kernel.sysctl.write('net.ipv6.conf.all.forwarding', '1');

  const serve = async (
    netns: Netns,
    port: number,
    transparent: boolean,
    answer: (socket: Socket) => string,
  ) => {
    const servers = await Promise.all(
      ['0.0.0.0', '::'].map(async (address) => {
        const one = createServer((socket) => {
          socket.on('error', () => undefined);
          socket.end(answer(socket));
        });
        one.listen({ fd: openListener(addon, { address, port, transparent, netnsPath: netns.path }) });
        await once(one, 'listening');
        return one;
      }),
    );
    const close = async (): Promise<void> => {
      await Promise.all(servers.map((one) => new Promise((done) => one.close(done))));
    };
    t.teardown(close);
    return { close };
  };
  await serve(server, SERVER_PORT, false, () => 'direct');

  return {
    client,
    router,
    server,
    kernel,
    serve: (netns, text) => serve(netns, SERVER_PORT, false, () => text),
    startEngine: () =>
      serve(router, LISTEN_PORT, true, (socket) => {
        const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
        const mark = readMark(addon, fd);
        const kind = (mark & MARK.kindMask) >>> 0;
        // The kind must be our own: a socket with another would be captured or sent to the local table again.
        if (kind !== MARK.own) return `mark 0x${mark.toString(16)}`;
        return `service ${mark & SERVICE_BITS} of ${socket.remoteAddress} to ${socket.localAddress}`;
      }),
    async ask(from, source, dest, options = {}) {
      const fd = openDialer(addon, {
        sourceAddress: source,
        transparent: true,
        netnsPath: from.path,
        ...(options.mark === undefined ? {} : { mark: options.mark }),
      });
      const socket = new Socket({ fd, ...{ manualStart: true } }).connect({
        host: dest,
        port: options.port ?? SERVER_PORT,
      });
      socket.setTimeout(3_000, () => socket.destroy(new Error('ETIMEDOUT')));
      let text = '';
      try {
        for await (const chunk of socket.setEncoding('utf8')) text += String(chunk);
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? String((error as Error).message);
      } finally {
        socket.destroy();
      }
      return text;
    },
  };
}

export interface RouteSpec {
  readonly service: number;
  readonly source: string | null;
  readonly dest: string | null;
  readonly priority?: number;
}

const ulid = (prefix: string, n: number): string => `${prefix}_${String(n).padStart(26, '0')}`;
export const serviceId = (n: number): ServiceId => ulid('svc', n) as ServiceId;

/** Routes as the views would list them. */
export const routeViews = (routes: readonly RouteSpec[]): readonly RouteView[] =>
  routes.map((spec, index) => ({
    key: ulid('rte', index + 1) as RouteKey,
    id: index + 1,
    service_id: serviceId(spec.service),
    priority: spec.priority ?? 100,
    source_cidr: spec.source as Cidr | null,
    dest_cidr: spec.dest as Cidr | null,
    created_at: '',
    created_hlc: index.toString(16).padStart(17, '0') as Hlc,
    version: 1,
  }));

/** What a host with these routes should hold; service n has mark n. */
export function desiredOf(
  routes: readonly RouteSpec[],
  interfaces: Readonly<Record<number, string>> = {},
  refused: readonly number[] = [],
): DesiredFirewall {
  const services = new Set([...routes.map((route) => route.service), ...Object.keys(interfaces).map(Number)]);
  return {
    services: [...services].map((n) => ({
      service_id: serviceId(n),
      mark: (MARK.service | n) >>> 0,
      interface_name: interfaces[n] ?? null,
      on_failure: refused.includes(n) ? 'reject' : 'direct',
    })),
    classes: deriveClasses([routeViews(routes)]),
    transparent_exit: false,
  };
}

/** The reconciler of the router, with what it desires in the test's hands. */
export function firewallOf(lab: Lab, options: Partial<FirewallOptions> = {}) {
  const memory = new Map<string, string>();
  const state = { desired: desiredOf([]) };
  const reconciler = createFirewallReconciler(
    { listenPort: () => LISTEN_PORT, ...options },
    {
      kernel: lab.kernel,
      desired: () => state.desired,
      serviceName: (id) => `name-of-${Number(id.slice(4))}`,
      memory: { get: (key) => memory.get(key), set: (key, value) => void memory.set(key, value) },
    },
  );
  /** One pass; answers the items that differed. */
  const pass = async (desired?: DesiredFirewall): Promise<readonly string[]> => {
    if (desired) state.desired = desired;
    const plan = reconciler.plan(state.desired, await reconciler.observe());
    if (plan.differences.length > 0) await reconciler.apply(plan);
    return plan.differences.map((difference) => difference.item);
  };
  return { reconciler, state, memory, pass };
}
