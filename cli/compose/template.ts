/** What `compose init` writes: a file that is valid as it stands and shows everything a file can say. */
export const template = (schema: string | undefined): string => `${
  schema === undefined ? '' : `# yaml-language-server: $schema=${schema}\n`
}# A cluster as a file. 'arctic compose diff' shows what would change, 'arctic compose apply' changes it.
version: v1

# Bootstraps peers that are not bootstrapped yet; relative to this file.
license: license.json

peers:
  # The name is what services refer to; the address is that by which the other peers reach the API.
  - name: london
    address: 10.0.0.1:8080
  - name: paris
    address: 10.0.0.2:8080
    # api_access: internal   # its API answers only its own recovery token

services:
  - name: london-paris
    source_peer: london
    target_peer: paris
    transport_type: tcp # or kcp, for lossy links, or auto
    # fully_transparent: true   # servers see the client's address; needs tcp and an interface
    # interface:
    #   enabled: true
    #   ipv4: 10.1.0.5/24
    # qos:
    #   bandwidth_limit_mbps: 100   # each direction; 0 is unlimited
    routes:
      - priority: 100
        dest_cidr: 192.168.100.0/24
        # source_cidr: 10.1.0.0/16
`;
