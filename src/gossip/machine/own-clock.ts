import type { PeerId } from '../../../events/brand.ts';
import type { Views } from '../../../projections/views.ts';
import { SKEW_LIMIT } from '../parameters.ts';
import type { Link } from './links.ts';

/** Names told to the operator. */
const MOST_NAMED = 3;

/**
 * Why this host must not date a change now; undefined when it may. A clock that is ahead of the others' dates what is changed in
 * their future, where they hold it back, and with it everything that this host changes later: an event never goes before the one
 * it follows. So it is asked first, and counts as wrong when more of the members that are heard are behind it than go with it,
 * this host among the latter; of two it is the one ahead. One that is behind does no harm: what it dates follows what it has seen.
 */
export function clockHoldReason(
  links: Iterable<Pick<Link, 'peer' | 'state' | 'skew'>>,
  views: Pick<Views, 'peers'>,
): string | undefined {
  const heard = [...links].flatMap(({ peer, state, skew }) =>
    (state === 'active' || state === 'suspect') && skew !== undefined ? [{ peer, ahead: -skew }] : [],
  );
  const behind = heard.filter(({ ahead }) => ahead > SKEW_LIMIT);
  if (2 * behind.length <= heard.length) return undefined;
  const nameOf = (peer: PeerId): string => views.peers.get(peer)?.name ?? peer;
  const names = behind.slice(0, MOST_NAMED).map(({ peer }) => nameOf(peer));
  const more = behind.length > names.length ? ` and ${behind.length - names.length} more` : '';
  const seconds = Math.round(Math.min(...behind.map(({ ahead }) => ahead)) / 1_000);
  return (
    `its clock is ${seconds} s ahead of that of ${names.join(', ')}${more}, so a change made now would be dated in the future, ` +
    "and held back by the others until then. Set the clock that is wrong ('timedatectl', 'chronyc tracking') and make the change " +
    'again; a peer whose agent is stopped has no say'
  );
}
