/** Random clusters and files, small enough that names, addresses and routes meet. */
import fc from 'fast-check';
import type { ClusterState, ServiceState } from '../../../cli/compose/cluster-state.ts';
import {
  type ClusterSpec,
  type PeerSpec,
  type RouteSpec,
  routeKey,
  type ServiceSpec,
} from '../../../cli/compose/spec.ts';
import type { Cidr } from '../../../events/brand.ts';

/** What NameField allows: anything printable, also what YAML, variables and shells read as something else. */
const anyName = fc.oneof(
  { weight: 3, arbitrary: fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/) },
  fc.constantFrom(
    'true',
    'null',
    '~',
    '007',
    '1.5',
    '- a',
    'a: b',
    '# x',
    '*x',
    '&x',
    '!x',
    "it's",
    '"',
    '$$',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the notation of the file
    '${X}',
    '$',
    ' a ',
    '|',
    '>',
    '<<',
    '__proto__',
    '{',
    '[',
    '%',
    '@',
    '`',
    '?',
    'a #b',
    '日本',
    '\u0085',
    '\u2028',
    '🚀',
  ),
  fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: names have none
    .filter((text) => !/[\u0000-\u001f\u007f]/.test(text) && text.length <= 63 && !/\p{Cs}/u.test(text)),
);

const rule = (source: string | null, dest: string | null) => ({
  source_cidr: source as Cidr | null,
  dest_cidr: dest as Cidr | null,
});
const TRAFFIC = [
  rule(null, '10.1.0.0/16'),
  rule(null, '10.2.0.0/16'),
  rule('10.9.0.0/24', '10.1.0.0/16'),
  rule('10.9.0.0/24', null),
  rule(null, '2001:db8::/32'),
];

const route: fc.Arbitrary<RouteSpec> = fc
  .tuple(fc.constantFrom(...TRAFFIC), fc.constantFrom(0, 1, 100, 65_535))
  .map(([traffic, priority]) => ({ priority, ...traffic }));

const address = <A extends string>(...all: A[]) =>
  fc.constantFrom(null, ...all.map((one) => one as string as Cidr));

const serviceBody = fc.record({
  source: fc.nat(20),
  target: fc.nat(20),
  transport_type: fc.constantFrom('tcp' as const, 'kcp' as const),
  transparent: fc.boolean(),
  interface_enabled: fc.boolean(),
  ipv4: address('10.1.0.5/24', '10.1.0.6/24'),
  ipv6: address('2001:db8:1::5/64', '2001:db8:1::6/64'),
  bandwidth_limit_mbps: fc.constantFrom(0, 0.5, 50, 1_000_000),
  on_failure: fc.constantFrom('direct' as const, 'reject' as const),
  routes: fc.uniqueArray(route, { maxLength: 5, selector: routeKey }),
});

/** Services that keep the rules among `peers`, under these names. */
const servicesOf = (
  peers: readonly string[],
  names: readonly string[],
): fc.Arbitrary<readonly ServiceSpec[]> =>
  fc.tuple(...names.map((name) => serviceBody.map((body) => ({ name, ...body })))).map((all) => {
    const taken = new Set<string>();
    const free = (peer: string, cidr: Cidr | null): Cidr | null => {
      if (cidr === null || taken.has(`${peer} ${cidr}`)) return null;
      taken.add(`${peer} ${cidr}`);
      return cidr;
    };
    return all.map(({ name, source, target, transparent, ipv4, ipv6, ...body }): ServiceSpec => {
      const from = source % peers.length;
      const to = (from + 1 + (target % (peers.length - 1))) % peers.length;
      const source_peer = peers[from] ?? '';
      const interface_enabled = body.interface_enabled || body.routes.length === 0;
      return {
        ...body,
        name,
        source_peer,
        target_peer: peers[to] ?? '',
        fully_transparent: transparent && interface_enabled && body.transport_type === 'tcp',
        interface_enabled,
        interface_ipv4: interface_enabled ? free(source_peer, ipv4) : null,
        interface_ipv6: interface_enabled ? free(source_peer, ipv6) : null,
      };
    });
  });

const peersOf = (names: readonly string[]): fc.Arbitrary<readonly PeerSpec[]> =>
  fc.tuple(
    ...names.map((name, at) =>
      fc
        .constantFrom('open' as const, 'open' as const, 'internal' as const)
        .map((api_access): PeerSpec => ({ name, address: `10.0.0.${at + 1}:8080`, api_access })),
    ),
  );

const uniqueNames = (min: number, max: number) => fc.uniqueArray(anyName, { minLength: min, maxLength: max });

/** A file that keeps every rule. */
export const anySpec: fc.Arbitrary<ClusterSpec> = fc
  .tuple(uniqueNames(2, 4), uniqueNames(0, 5))
  .chain(([peers, services]) =>
    fc.record({
      license: fc.constant(undefined),
      peers: peersOf(peers),
      services: servicesOf(peers, services),
    }),
  );

/** Two files about the same peers, whose services partly have the same names: what is, and what is to be. */
export const twoSpecs: fc.Arbitrary<readonly [ClusterSpec, ClusterSpec]> = fc
  .tuple(uniqueNames(2, 3), uniqueNames(0, 5))
  .chain(([peers, names]) => {
    const spec = fc.subarray([...names]).chain((own) =>
      fc.record({
        license: fc.constant(undefined),
        peers: peersOf(peers),
        services: servicesOf(peers, own),
      }),
    );
    return fc.tuple(spec, spec);
  });

/** The cluster that a file describes, with ids. */
export function stateOf(spec: ClusterSpec): ClusterState {
  const peerId = (name: string) => `peer_${spec.peers.findIndex((peer) => peer.name === name)}`;
  return {
    members: spec.peers.map((peer, at) => ({
      ...peer,
      id: peerId(peer.name),
      endpoints: [`http://${peer.address}`],
      is_local: at === 0,
      unreachable: false,
    })),
    services: spec.services.map(
      (service, at): ServiceState => ({
        ...service,
        id: `svc_${at}`,
        source_peer_id: peerId(service.source_peer),
        target_peer_id: peerId(service.target_peer),
        routes: service.routes.map((one, number) => ({ ...one, id: number + 1 })),
      }),
    ),
  };
}
