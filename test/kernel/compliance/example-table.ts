/** A table that has every kind of thing our tables have. */
import type { NftElement, NftRule, NftSet, NftTable } from '../../../src/kernel/contract.ts';
import {
  compare,
  counter,
  goTo,
  hostWord,
  IPPROTO_TCP,
  jumpTo,
  loadPayload,
  loadSocket,
  lookupMap,
  maskBytes,
  maskRegister,
  matchCtState,
  matchFamily,
  matchInputInterface,
  matchL4Protocol,
  matchLocalDestination,
  matchMark,
  rejectWithReset,
  setMark,
  storeMeta,
  tproxyTo,
  verdict,
} from '../../../src/kernel/nft/expressions.ts';

export const key4 = (source: number, destination: number) =>
  source.toString(16).padStart(8, '0') + destination.toString(16).padStart(8, '0');

export function routeElements(count: number, mark = 0x100): NftElement[] {
  return Array.from({ length: count }, (_, index) => ({
    key: key4(0x0a000000 + index, 0x0b000000 + index),
    data: hostWord(mark + (index % 64)),
  }));
}

export const MAP4: NftSet = {
  name: 'routes4',
  keyTypes: ['ipv4_addr', 'ipv4_addr'],
  dataType: 'mark',
  elements: [],
};
export const MAP6: NftSet = {
  name: 'routes6',
  keyTypes: ['ipv6_addr', 'ipv6_addr'],
  dataType: 'mark',
  elements: [{ key: `fd${'0'.repeat(30)}fd01${'0'.repeat(28)}`, data: hostWord(0x101) }],
};

/** One rule of a class of routes: mask both addresses, look the pair up, mark. */
export function classRule(map: string, family: 'ipv4' | 'ipv6', prefixLength: number): NftRule {
  const size = family === 'ipv4' ? 4 : 16;
  const words = size / 4;
  const source = family === 'ipv4' ? 12 : 8;
  const mask = maskBytes(prefixLength, size);
  return {
    comment: `${map} /${prefixLength}`,
    expressions: [
      loadPayload('network', source, size, 0),
      maskRegister(mask, 0),
      loadPayload('network', source + size, size, words),
      maskRegister(mask, words),
      lookupMap(map, 0, 0),
      storeMeta('mark'),
      goTo('apply'),
    ],
  };
}

/** What a transparent socket of this host holds is marked and let through. */
export const established = (mark: number): NftRule => ({
  comment: 'established',
  expressions: [
    ...matchL4Protocol(IPPROTO_TCP),
    loadSocket('transparent'),
    compare('==', '01'),
    loadSocket('wildcard'),
    compare('==', '00'),
    ...setMark(mark),
    verdict('accept'),
  ],
});
export const LOCAL: NftRule = {
  comment: 'local',
  expressions: [...matchLocalDestination(), verdict('return')],
};
export const NO_LISTENER: NftRule = {
  comment: 'no listener',
  expressions: [...matchL4Protocol(IPPROTO_TCP), rejectWithReset()],
};

/** A table with one of everything the firewall uses. */
export function exampleTable(elements: readonly NftElement[]): NftTable {
  return {
    family: 'inet',
    name: 'arctic',
    sets: [
      { ...MAP4, elements },
      MAP6,
      {
        name: 'devices',
        keyTypes: ['ifname'],
        elements: [{ key: Buffer.from('eth0'.padEnd(16, '\0')).toString('hex') }],
      },
      { name: 'ports', keyTypes: ['inet_service'], elements: [{ key: '1f90' }, { key: '0050' }] },
    ],
    chains: [
      {
        name: 'prerouting',
        base: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
        rules: [
          established(0x77),
          LOCAL,
          { comment: 'own', expressions: [...matchMark(0x100, 0xff00), counter(), verdict('accept')] },
          { comment: 'ipv4', expressions: [...matchFamily('ipv4'), jumpTo('classes4')] },
          { comment: 'ipv6', expressions: [...matchFamily('ipv6'), jumpTo('classes6')] },
          {
            comment: '',
            expressions: [...matchInputInterface('eth9'), ...matchCtState('new'), verdict('drop')],
          },
        ],
      },
      { name: 'classes4', rules: [classRule('routes4', 'ipv4', 32), classRule('routes4', 'ipv4', 9)] },
      { name: 'classes6', rules: [classRule('routes6', 'ipv6', 64)] },
      {
        name: 'apply',
        rules: [
          {
            comment: 'to the engine',
            expressions: [...matchL4Protocol(IPPROTO_TCP), ...tproxyTo(17000), verdict('accept')],
          },
          NO_LISTENER,
          {
            comment: 'port',
            expressions: [loadPayload('transport', 2, 2), compare('!=', '0050'), verdict('return')],
          },
        ],
      },
    ],
  };
}
