import t from 'tap';
import { parseRules } from '../../../ops/demo/ruleset.ts';

const LISTING = `table inet arctic { # handle 3
\tmap m4_0_24 { # handle 4
\t\ttype ipv4_addr . ipv4_addr : mark
\t\telements = { 0.0.0.0 . 10.91.3.0 : 0x00000001 }
\t}

\tchain prerouting { # handle 1
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tmeta nfproto ipv4 jump sel4 comment "IPv4 # routes" # handle 9
\t}

\tchain apply { # handle 2
\t\tmeta l4proto tcp tproxy to :61001 counter packets 12 bytes 720 accept # handle 11
\t}
}
`;

t.test('rules are read with their chain and handle, without what counts', async (t) => {
  t.same(parseRules(LISTING), [
    { chain: 'prerouting', text: 'meta nfproto ipv4 jump sel4 comment "IPv4 # routes"', handle: '9' },
    { chain: 'apply', text: 'meta l4proto tcp tproxy to :61001 counter accept', handle: '11' },
  ]);
});
