// Flows to one peer share one path. BBR shares slowly: a flow that comes late finds the queue full, loses its first window,
// ends its search at a hundredth of its share and grows by a quarter in eight round trips. So twice a second those that the
// network limits are paced at little more than their share of what the path has carried, which empties the queue; and
// those far below their share search again, under the same ceiling. So does one alone, which may have a link that shared the
// path with others a moment ago and still believes in that share.
#include "loop.h"
#include "path.h"

namespace arctic::relay {
namespace {

constexpr int64_t kEveryUs = 500 * 1000;
// Sent since the last look; less is no bulk.
constexpr uint64_t kBulk = 16 * 1024;
// A search takes some round trips before it shows.
constexpr int64_t kSearchUs = 2000 * 1000;
// Alone it searches again less often: the path itself may carry less than it did.
constexpr int64_t kSearchAloneUs = 10 * 1000 * 1000;
// Of its share; a lower estimate is not believed.
constexpr double kFarBelow = 0.6;
constexpr uint32_t kLongPathUs = 2000;
// The path is believed to carry a hundredth less with every look that does not show otherwise.
constexpr double kForget = 0.99;
// Room above the share: headers, probing, and growth where the path carries more than was seen.
constexpr double kRoom = 1.15;

}  // namespace

void Loop::ShareFairly() {
  fairness_.Set(&timers_, now_us_ + kEveryUs, [this] { ShareFairly(); });
  std::unordered_map<Peer*, std::vector<Link*>> senders;
  for (Link* link : links_) {
    if (link->dead || link->flow == nullptr) continue;
    const bool backlogged = !link->writable;
    if (backlogged || link->in_flow - std::min(link->looked_at_bytes, link->in_flow) >= kBulk) senders[link->peer].push_back(link);
    link->looked_at_bytes = link->in_flow;
  }
  for (const auto& [peer, links] : senders) ShareFairly(peer, links);
}

void Loop::ShareFairly(Peer* peer, const std::vector<Link*>& links) {
  struct Sender {
    Link* link;
    uint64_t rate;
    bool slow;
  };
  std::vector<Sender> limited;
  double total = 0, others = 0;
  for (Link* link : links) {
    PathSample path;
    if (!SamplePath(link->fd, &path)) continue;
    link->record = WholeSegments(path.mss);
    if (!path.bbr || path.min_rtt_us < kLongPathUs) continue;
    const int64_t since = now_us_ - link->looked_at;
    const bool fresh = since > 2 * kEveryUs;
    const double seconds = static_cast<double>(since) / 1e6;
    const double rate = fresh ? 0 : static_cast<double>(path.delivered - link->delivered_before) * path.mss / seconds;
    const bool receiver = !fresh && path.rwnd_limited_us - link->rwnd_limited_before > static_cast<uint64_t>(since) / 2;
    link->delivered_before = path.delivered;
    link->rwnd_limited_before = path.rwnd_limited_us;
    link->looked_at = now_us_;
    total += rate;
    // A receiver or a source that is slow is not the network's doing, and leaves its share to the others.
    if (receiver || path.not_sent == 0) {
      others += rate;
      CapRate(link, 0);
    } else {
      limited.push_back({link, path.bandwidth, !fresh && !path.startup});
    }
  }
  peer->carries = std::max(total, peer->carries * kForget);
  if (now_us_ - peer->best_at < kEveryUs) peer->carries = std::max(peer->carries, static_cast<double>(peer->best_bandwidth));
  if (limited.empty()) return;
  const bool alone = limited.size() == 1;
  const double share = std::max(peer->carries - others, peer->carries / 2) / static_cast<double>(limited.size());
  for (const Sender& one : limited) {
    CapRate(one.link, alone ? 0 : static_cast<uint64_t>(share * kRoom));
    const bool again = alone && one.link->searched_at >= one.link->flow->begun_at;
    const int64_t wait = again ? kSearchAloneUs : kSearchUs;
    if (!one.slow || static_cast<double>(one.rate) >= share * kFarBelow || now_us_ - one.link->searched_at < wait) continue;
    RestartBbr(one.link->fd);
    one.link->searched_at = now_us_;
  }
}

// Bytes a second; 0 is without a cap.
void Loop::CapRate(Link* link, uint64_t bytes_per_second) {
  if (link->cap == bytes_per_second) return;
  link->cap = bytes_per_second;
  SetMostPacing(link->fd, bytes_per_second);
}

}  // namespace arctic::relay
