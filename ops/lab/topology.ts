/**
 * The lab's wiring as plain data.
 *
 *   client eth0 --- lan0 entry wan0 === wan0 exit lan0 --- eth0 server          two agents
 *   ... entry wan0 === core === wan0 exit ...,  third wan0 === core, ...        more than two
 *
 * Every link has an IPv4 and an IPv6 network of its own. All addresses are private to the namespaces.
 */

export interface LabInterface {
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface LabHost {
  readonly name: string;
  readonly namespace: string;
  readonly directory: string;
  /** The interface towards the wide area, or the only one. */
  readonly address: LabInterface;
  readonly interfaces: readonly LabInterface[];
}

export interface HostPlan {
  readonly name: string;
  readonly forwards: boolean;
  readonly interfaces: readonly LabInterface[];
  /** As `ip route add` takes them. */
  readonly routes: readonly string[];
}

export interface LinkPlan {
  readonly ends: readonly [
    { readonly host: string; readonly name: string },
    { readonly host: string; readonly name: string },
  ];
}

export interface TopologyPlan {
  readonly hosts: readonly HostPlan[];
  readonly links: readonly LinkPlan[];
}

export const CLIENT_NETWORK = { ipv4: '10.91.1.0/24', ipv6: 'fd91:1::/64' } as const;
export const SERVER_NETWORK = { ipv4: '10.91.3.0/24', ipv6: 'fd91:3::/64' } as const;

function at(network: number, host: number, name: string): LabInterface {
  return { name, ipv4: `10.91.${network}.${host}`, ipv6: `fd91:${network}::${host}` };
}

function defaultVia(gateway: LabInterface): string[] {
  return [`default via ${gateway.ipv4}`, `default via ${gateway.ipv6}`];
}

function routeVia(
  network: { readonly ipv4: string; readonly ipv6: string },
  gateway: LabInterface,
): string[] {
  return [`${network.ipv4} via ${gateway.ipv4}`, `${network.ipv6} via ${gateway.ipv6}`];
}

/** The first agent is the client's gateway, the second the server's; further ones stand on the wide area only. */
export function planTopology(agents: readonly string[]): TopologyPlan {
  const [entry, exit] = agents;
  if (entry === undefined || exit === undefined) throw new Error('a lab needs at least two agents');
  if (agents.length > 200) throw new Error('a lab has addresses for 200 agents');

  const client = at(1, 2, 'eth0');
  const server = at(3, 2, 'eth0');
  const entryLan = at(1, 1, 'lan0');
  const exitLan = at(3, 1, 'lan0');
  const ends: HostPlan[] = [
    { name: 'client', forwards: false, interfaces: [client], routes: defaultVia(entryLan) },
    { name: 'server', forwards: false, interfaces: [server], routes: defaultVia(exitLan) },
  ];
  const links: LinkPlan[] = [
    {
      ends: [
        { host: 'client', name: 'eth0' },
        { host: entry, name: 'lan0' },
      ],
    },
    {
      ends: [
        { host: 'server', name: 'eth0' },
        { host: exit, name: 'lan0' },
      ],
    },
  ];

  if (agents.length === 2) {
    const near = at(2, 1, 'wan0');
    const far = at(2, 2, 'wan0');
    return {
      hosts: [
        ...ends,
        { name: entry, forwards: true, interfaces: [near, entryLan], routes: defaultVia(far) },
        // No default route here: an address that nobody has is refused at once instead of going round in circles.
        { name: exit, forwards: true, interfaces: [far, exitLan], routes: routeVia(CLIENT_NETWORK, near) },
      ],
      links: [
        ...links,
        {
          ends: [
            { host: entry, name: 'wan0' },
            { host: exit, name: 'wan0' },
          ],
        },
      ],
    };
  }

  const wanOf = (index: number): LabInterface => at(20 + index, 1, 'wan0');
  const gatewayOf = (index: number): LabInterface => at(20 + index, 254, `wan${index}`);
  const lans = [[entryLan], [exitLan]];
  const hosts = agents.map((name, index): HostPlan => {
    const interfaces = [wanOf(index), ...(lans[index] ?? [])];
    return { name, forwards: true, interfaces, routes: defaultVia(gatewayOf(index)) };
  });
  const core: HostPlan = {
    name: 'core',
    forwards: true,
    interfaces: agents.map((_, index) => gatewayOf(index)),
    routes: [...routeVia(CLIENT_NETWORK, wanOf(0)), ...routeVia(SERVER_NETWORK, wanOf(1))],
  };
  const spokes = agents.map(
    (host, index): LinkPlan => ({
      ends: [
        { host, name: 'wan0' },
        { host: 'core', name: `wan${index}` },
      ],
    }),
  );
  return { hosts: [...ends, ...hosts, core], links: [...links, ...spokes] };
}
