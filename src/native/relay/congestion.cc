// Congestion control by path. On a short path without loss BBR costs a quarter of what a core can carry, because it paces by
// timers, and it has nothing to win there; on any other one its search for the bandwidth is what makes a link quick.
// TypeScript says which kind the path to a peer is (src/engines/tproxy/path-kind.ts); until it does, a link's own handshake does.
#include <errno.h>
#include <netinet/tcp.h>

#include "loop.h"

namespace arctic::relay {

// A socket begins with the short path's choice: what BBR sets up for its pacing stays with a socket it is taken from.
void Loop::SetCongestion(int fd, bool short_path) {
  // Refused by a kernel that has it not; the one in force is reported.
  const std::string& name = short_path ? limits_.short_congestion : limits_.congestion_control;
  if (!name.empty()) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
  const uint32_t low_water = short_path ? limits_.short_low_water : limits_.not_sent_low_water;
  if (low_water > 0) SetInt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, static_cast<int>(low_water));
}

// The link's peer is known now.
void Loop::ChooseCongestion(Link* link) {
  bool short_path = link->peer->path == PathKind::kShort;
  if (link->peer->path == PathKind::kUnknown) {
    PathSample path;
    short_path = SamplePath(link->fd, &path) && path.min_rtt_us > 0 && path.min_rtt_us < limits_.short_path_us;
  }
  if (short_path == link->short_path) return;
  link->short_path = short_path;
  SetCongestion(link->fd, short_path);
}

void Loop::Obey(const SetPath& given) {
  Peer* peer = PeerOf(given.peer);
  peer->path = given.kind;
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (link->dead || link->peer != peer || link->stream != nullptr || link->stage != Link::Stage::kEstablished) continue;
    const bool before = link->short_path;
    ChooseCongestion(link);
    // One that was paced stays paced: no further flow after this one.
    if (link->dialer && link->short_path && !before) link->retiring = true;
  }
  CloseIdle(peer, true);
}

}  // namespace arctic::relay
