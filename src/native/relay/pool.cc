// Warm links to one peer, dialed ahead of need. The model is src/engines/tproxy/link-pool.ts.
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {

constexpr size_t kChosenAmong = 16;

Peer* Loop::PeerOf(const std::string& id) {
  std::unique_ptr<Peer>& peer = peers_[id];
  if (peer == nullptr) {
    peer = std::make_unique<Peer>();
    peer->id = id;
    peer->counters = shared().Peer(id);
  }
  return peer.get();
}

void Loop::CountPool(Peer* peer) {
  peer->counters->idle = peer->idle.size();
  peer->counters->leased = peer->leased;
}

// Of those used last the one that has carried the fastest flow: its windows are the widest. One in training would hold
// the flow back behind its PAD.
Link* Loop::TakeIdle(Peer* peer) {
  const auto better = [](const Link* one, const Link* other) {
    if ((one->training == 0) != (other->training == 0)) return one->training == 0;
    return one->worth > other->worth;
  };
  const size_t least = peer->idle.size() > kChosenAmong ? peer->idle.size() - kChosenAmong : 0;
  size_t chosen = peer->idle.size() - 1;
  for (size_t index = chosen; index-- > least;) {
    if (better(peer->idle[index], peer->idle[chosen])) chosen = index;
  }
  Link* link = peer->idle[chosen];
  peer->idle.erase(peer->idle.begin() + static_cast<long>(chosen));
  link->training = 0;
  return link;
}

void Loop::Lease(Peer* peer, Flow* flow) {
  if (flow->service->service.kcp && LeaseStream(peer, flow)) return;
  if (!peer->idle.empty()) {
    Attach(flow, TakeIdle(peer));
    Refill(peer);
    return;
  }
  flow->waiting_link = true;
  peer->waiting.push_back(flow);
  flow->timer.Set(&timers_, now_us_ + static_cast<int64_t>(limits_.wait_timeout) * 1000, [this, flow] {
    AbandonWaiting(flow, "unreachable");
  });
  Refill(peer);
}

// To the flow that waits longest, or to the idle ones.
void Loop::Offer(Link* link) {
  Peer* peer = link->peer;
  if (link->retiring) {
    CloseLink(link, nullptr);
    return;
  }
  if (!peer->waiting.empty()) {
    Flow* flow = peer->waiting.front();
    peer->waiting.pop_front();
    flow->waiting_link = false;
    flow->timer.Cancel();
    Attach(flow, link);
    return;
  }
  link->idle_since = now_us_;
  // No PING is out: the link's last word may be older than its last flow.
  link->pinged_at = 0;
  peer->idle.push_back(link);
  CountPool(peer);
  if (!link->used && !link->dead) StartTraining(link);
}

void Loop::Refill(Peer* peer) {
  CountPool(peer);
  if (!accepting_ || peer->backoff.armed() || !peer->configured) return;
  const size_t wanted = peer->waiting.size() + (peer->warm ? limits_.warm : 0);
  while (peer->idle.size() + peer->dialing < wanted && peer->dialing < kMostDialing &&
         peer->idle.size() + peer->leased + peer->dialing < limits_.most_links && !peer->backoff.armed()) {
    Dial(peer);
  }
}

void Loop::BackOff(Peer* peer) {
  if (peer->backoff.armed()) return;
  const int64_t least = static_cast<int64_t>(limits_.backoff_least) * 1000, most = static_cast<int64_t>(limits_.backoff_most) * 1000;
  const int64_t wait = std::min(most, std::max(least, peer->backoff_us));
  peer->backoff_us = std::min(most, wait * 2);
  peer->backoff.Set(&timers_, now_us_ + wait, [this, peer] { Refill(peer); });
}

void Loop::Dial(Peer* peer) {
  if (peer->current == nullptr) {
    // TypeScript answers with the newest session, if there is one.
    shared().Emit("want\t" + peer->id);
    BackOff(peer);
    return;
  }
  const int fd = socket(peer->address.width == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) {
    TuneCarrier(fd);
    sockaddr_storage to;
    const socklen_t length = ToSockaddr(peer->address, peer->port, &to);
    if (connect(fd, reinterpret_cast<sockaddr*>(&to), length) < 0 && errno != EINPROGRESS) {
      error = errno;
      close(fd);
    }
  }
  if (error != 0) {
    peer->counters->failed += 1;
    shared().Emit("dial\t" + peer->id + '\t' + std::to_string(error));
    BackOff(peer);
    return;
  }
  auto* link = new Link();
  link->fd = fd;
  link->dialer = true;
  link->stage = Link::Stage::kConnect;
  link->peer = peer;
  link->session = peer->current;
  link->heard_at = now_us_;
  peer->dialing += 1;
  links_.insert(link);
  Watch(link);
  link->timer.Set(&timers_, now_us_ + static_cast<int64_t>(limits_.handshake_timeout) * 1000,
                  [this, link] { CloseLink(link, "the carrier handshake took too long"); });
}

void Loop::CloseIdle(Peer* peer, bool retiring_only) {
  const std::vector<Link*> idle(peer->idle.begin(), peer->idle.end());
  for (Link* link : idle) {
    if (!link->dead && (!retiring_only || link->retiring)) CloseLink(link, nullptr);
  }
}

}  // namespace arctic::relay
