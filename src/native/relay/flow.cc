// Flows: a local TCP connection joined with a leased link. The model is src/engines/tproxy/flow.ts.
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {
namespace {

// Of TCP (RFC 9293, section 3.7.1), without any option.
constexpr size_t kLeastSegment = 536;

}  // namespace

// Counted, but not watched yet.
Flow* Loop::BeginFlow(int fd, Side side, std::shared_ptr<ServiceState> service) {
  service->counters->connections += 1;
  service->counters->active += 1;
  auto* flow = new Flow();
  flow->fd = fd;
  flow->side = side;
  flow->begun_at = flow->moved_at = now_us_;
  flow->service = std::move(service);
  flows_.insert(flow);
  shared().flows = flows_.size();
  return flow;
}

void Loop::OnFlow(Flow* flow, uint32_t events) {
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) flow->hangup = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) flow->readable = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) flow->writable = true;
  if ((events & EPOLLPRI) != 0) flow->urgent = true;
  if (flow->connecting) {
    if (flow->writable) FinishConnect(flow);
    return;
  }
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (flow->waiting_link || flow->sent != Ended::kNo)) {
    // Nobody reads here (any more), so recv will not tell of a reset.
    const int error = PendingError(flow->fd);
    if (error != 0 && flow->waiting_link) {
      AbandonWaiting(flow, nullptr);
      return;
    }
    if (error != 0) {
      ResetFlow(flow, error);
      return;
    }
  }
  if (flow->writable && !flow->parked.empty()) FlushLocal(flow);
  if (!flow->dead) ReadLocal(flow);
}

// The entry's flow gets its link; OPEN leaves together with the first data.
void Loop::Attach(Flow* flow, Link* link) {
  Peer* peer = link->peer;
  if (link->stream == nullptr) {
    peer->leased += 1;
    peer->backoff_us = 0;
    if (link->used) {
      flow->reused = true;
      peer->counters->reused += 1;
      flow->service->counters->reused += 1;
    }
    link->used = true;
  }
  link->flow = flow;
  link->number += 1;
  flow->link = link;
  flow->open.flow = link->number;
  CountPool(peer);
  RenewEstimate(link);
  uint8_t payload[kMaxOpen];
  const size_t length = EncodeOpen(flow->open, payload);
  Append(link, FrameType::kOpen, payload, length);
  // By the end of the round the client's first data may be here.
  Queue(flow);
}

bool Loop::OnFlowFrame(Flow* flow, FrameType type, const uint8_t* payload, size_t length) {
  const uint32_t number = flow->link->number;
  switch (type) {
    case FrameType::kData:
      if (flow->received != Ended::kNo) return false;
      if (flow->sent == Ended::kReset) {
        flow->discarded += length;
        return flow->discarded <= kMostDiscarded;
      }
      WriteLocal(flow, payload, length);
      return true;
    case FrameType::kOpened:
      if (flow->side != Side::kEntry || Load32(payload) != number) return false;
      if (flow->open_us == 0) NoteOpened(flow);
      flow->connected = true;
      return true;
    case FrameType::kFinish:
      if (Load32(payload) != number || flow->received != Ended::kNo) return false;
      flow->received = Ended::kFinished;
      // Everything before it has been written: `Blocked` holds FINISH back, too. The close at the end says it as well.
      if (flow->fd >= 0 && flow->sent == Ended::kNo) shutdown(flow->fd, SHUT_WR);
      ReleaseWhenDone(flow);
      return true;
    case FrameType::kReset: {
      const uint32_t of = Load32(payload);
      // A RESET that crossed with the end of the flow before this one.
      if (of < number) return true;
      if (of != number || flow->received == Ended::kReset) return false;
      flow->received = Ended::kReset;
      Link* link = flow->link;
      if (flow->sent == Ended::kNo) {
        flow->sent = Ended::kReset;
        uint8_t answer[kResetLength];
        Store32(answer, number);
        Store16(answer + 4, ECONNRESET);
        Append(link, FrameType::kReset, answer, sizeof answer);
        if (!link->dead) Flush(link);
      }
      if (flow->dead) return true;
      CloseLocal(flow, true);
      ReleaseWhenDone(flow);
      return true;
    }
    default:
      return false;
  }
}

void Loop::ReadLocal(Flow* flow) {
  size_t budget = kBudget;
  while (!flow->dead && flow->link != nullptr && flow->sent == Ended::kNo && flow->readable && !flow->connecting &&
         !flow->throttled && flow->link->writable) {
    ServiceState& service = *flow->service;
    if (service.bucket.limited()) {
      if (!flow->granted && (!service.waiting.empty() || !service.bucket.Passes(now_us_))) {
        Throttle(flow);
        return;
      }
      flow->granted = false;
    }
    if (budget == 0) {
      Queue(flow);
      return;
    }
    const size_t wanted = service.bucket.Quantum(flow->link->record);
    const ssize_t got = recv(flow->fd, scratch_.get() + kHeaderLength, wanted, 0);
    if (got > 0) {
      const size_t bytes = static_cast<size_t>(got);
      service.bucket.Take(bytes);
      service.counters->bytes_in += bytes;
      flow->bytes_in += bytes;
      flow->moved_at = now_us_;
      budget -= std::min(budget, bytes);
      if (bytes < wanted && !flow->hangup && !flow->urgent) flow->readable = false;
      // An OPENED that waited leaves with it.
      flow->timer.Cancel();
      SendScratch(flow->link, bytes);
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    flow->readable = false;
    if (got < 0) {
      if (errno != EAGAIN) ResetFlow(flow, errno);
      return;
    }
    flow->sent = Ended::kFinished;
    Link* link = flow->link;
    uint8_t payload[kFlowLength];
    Store32(payload, link->number);
    Append(link, FrameType::kFinish, payload, sizeof payload);
    if (!link->dead) Flush(link);
    if (!flow->dead) ReleaseWhenDone(flow);
    return;
  }
}

// What waited for the first data leaves without it.
void Loop::ReadAndFlush(Flow* flow) {
  ReadLocal(flow);
  if (!flow->dead && flow->link != nullptr) Flush(flow->link);
}

void Loop::WriteLocal(Flow* flow, const uint8_t* bytes, size_t length) {
  flow->service->counters->bytes_out += length;
  flow->bytes_out += length;
  flow->moved_at = now_us_;
  // Nagle's algorithm has nothing against a first write that fits any segment. An accepted connection has it from its listener.
  if (flow->side == Side::kExit && !flow->no_delay && (flow->bytes_out > length || length > kLeastSegment)) {
    flow->no_delay = true;
    SetInt(flow->fd, IPPROTO_TCP, TCP_NODELAY, 1);
  }
  while (flow->writable && length > 0) {
    const ssize_t sent = send(flow->fd, bytes, length, MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes += sent;
      length -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      flow->writable = false;
    } else if (errno != EINTR) {
      ResetFlow(flow, errno);
      return;
    }
  }
  if (flow->ack_held) {
    // A server under Nagle's algorithm holds the rest of its answer back until the beginning is acknowledged.
    flow->ack_held = false;
    SetInt(flow->fd, IPPROTO_TCP, TCP_QUICKACK, 1);
  }
  if (length == 0) return;
  flow->parked.assign(bytes, bytes + length);
  flow->parked_at = 0;
}

void Loop::FlushLocal(Flow* flow) {
  while (flow->writable && flow->parked_at < flow->parked.size()) {
    const ssize_t sent =
        send(flow->fd, flow->parked.data() + flow->parked_at, flow->parked.size() - flow->parked_at, MSG_NOSIGNAL);
    if (sent >= 0) {
      flow->parked_at += static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      flow->writable = false;
    } else if (errno != EINTR) {
      ResetFlow(flow, errno);
      return;
    }
  }
  if (flow->parked_at < flow->parked.size()) return;
  flow->parked.clear();
  flow->parked_at = 0;
  if (flow->link != nullptr) ReadLink(flow->link);
}

// Tells the peer that this side is gone, and lets go of the local connection with RST.
void Loop::ResetFlow(Flow* flow, int error) {
  if (flow->dead) return;
  CloseLocal(flow, true);
  Link* link = flow->link;
  if (link == nullptr) {
    if (flow->waiting_link) {
      AbandonWaiting(flow, nullptr);
    } else {
      EndFlow(flow);
    }
    return;
  }
  // A client that leaves while the exit connects is no failure.
  if (flow->side == Side::kEntry) flow->left = true;
  if (flow->sent != Ended::kReset) {
    flow->sent = Ended::kReset;
    uint8_t payload[kResetLength];
    Store32(payload, link->number);
    Store16(payload + 4, static_cast<uint16_t>(error));
    Append(link, FrameType::kReset, payload, sizeof payload);
    if (!link->dead) Flush(link);
    if (flow->dead) return;
    if (flow->received == Ended::kNo) {
      flow->timer.Set(&timers_, now_us_ + kDiscardUs, [this, flow] {
        if (flow->link != nullptr) CloseLink(flow->link, "the peer sends on after a reset");
      });
    }
  }
  // What stalled the link is gone.
  if (link->stalled || link->readable || link->begin != link->end) Queue(link);
  ReleaseWhenDone(flow);
}

// An entry's flow that has no link yet.
void Loop::AbandonWaiting(Flow* flow, const char* why) {
  Peer* peer = PeerOf(flow->service->service.peer);
  peer->waiting.erase(std::remove(peer->waiting.begin(), peer->waiting.end(), flow), peer->waiting.end());
  flow->waiting_link = false;
  if (why != nullptr) shared().Emit(std::string(why) + '\t' + peer->id + '\t' + flow->service->service.id);
  CloseLocal(flow, true);
  EndFlow(flow);
}

void Loop::CloseLocal(Flow* flow, bool reset) {
  if (flow->fd < 0) return;
  if (reset) {
    ResetAndClose(flow->fd);
  } else {
    if (!flow->connecting) SetResetOnClose(flow->fd, false);
    close(flow->fd);
  }
  flow->fd = -1;
  flow->connecting = false;
  flow->readable = flow->writable = false;
  flow->parked.clear();
  flow->parked_at = 0;
  flow->timer.Cancel();
  if (flow->throttled) {
    auto& waiting = flow->service->waiting;
    waiting.erase(std::remove(waiting.begin(), waiting.end(), flow), waiting.end());
    flow->throttled = false;
  }
}

void Loop::ReleaseWhenDone(Flow* flow) {
  if (flow->dead || flow->sent == Ended::kNo || flow->received == Ended::kNo || flow->link == nullptr) return;
  Link* link = flow->link;
  flow->link = nullptr;
  link->flow = nullptr;
  NoteWorth(link, flow);
  CapRate(link, 0);
  CloseLocal(flow, flow->sent == Ended::kReset || flow->received == Ended::kReset);
  EndFlow(flow);
  Release(link);
}

void Loop::EndFlow(Flow* flow) {
  if (flow->dead) return;
  flow->service->counters->active -= 1;
  if (flow->side == Side::kExit) PeerOf(flow->service->service.peer)->exit_flows -= 1;
  if (!flow->connected && !flow->left) flow->service->counters->failed += 1;
  flows_.erase(flow);
  shared().flows = flows_.size();
  flow->timer.Cancel();
  Bury(flow);
}

void Loop::Throttle(Flow* flow) {
  flow->throttled = true;
  flow->throttled_at = now_us_;
  flow->limiter_waits += 1;
  ServiceState* service = flow->service.get();
  service->counters->limiter_waits += 1;
  service->waiting.push_back(flow);
  if (!service->grant.armed()) {
    service->grant.Set(&timers_, now_us_ + service->bucket.Wait(), [this, service] { Grant(service); });
  }
}

// Lets the flows that wait read in turn, one quantum each, while tokens are left.
void Loop::Grant(ServiceState* service) {
  size_t turns = service->waiting.size();
  while (turns > 0 && !service->waiting.empty() && service->bucket.Passes(now_us_)) {
    turns -= 1;
    Flow* flow = service->waiting.front();
    service->waiting.pop_front();
    flow->throttled = false;
    flow->limiter_wait_us += static_cast<uint64_t>(now_us_ - flow->throttled_at);
    service->counters->limiter_wait_us += static_cast<uint64_t>(now_us_ - flow->throttled_at);
    flow->granted = true;
    ReadLocal(flow);
  }
  if (!service->waiting.empty()) {
    const int64_t wait = service->bucket.limited() ? std::max<int64_t>(service->bucket.Wait(), 1) : 1;
    service->grant.Set(&timers_, now_us_ + wait, [this, service] { Grant(service); });
  }
}

}  // namespace arctic::relay
