// Flows: a local TCP connection joined with a leased link. The model is src/engines/tproxy/flow.ts.
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {

void Loop::OnFlow(Flow* flow, uint32_t events) {
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) flow->hangup = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) flow->readable = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) flow->writable = true;
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
  if (!flow->dead) ReadLocal(flow);
  if (!link->dead) Flush(link);
}

bool Loop::HandleOpen(Link* link, const uint8_t* payload, size_t length) {
  Open open;
  if (!DecodeOpen(payload, length, &open) || open.flow != link->number + 1) return false;
  link->number = open.flow;
  const auto found = exits_.find(open.service);
  const std::string& peer = link->session->peer;
  if (found == exits_.end() || !found->second->service.Allows(peer, open)) {
    shared().refused_flows += 1;
    if (found != exits_.end() && found->second->service.peer == peer) found->second->counters->refused += 1;
    shared().Emit("refused\t" + peer + '\t' + open.service + '\t' + AddressText(open.destination) + " port " +
                  std::to_string(open.destination_port) + '\t' + AddressText(open.source));
    Refuse(link, EACCES);
    return true;
  }
  const std::shared_ptr<ServiceState> state = found->second;
  const char* full = link->peer->exit_flows >= limits_.most_peer_flows ? "one peer" : Full(*state);
  if (full != nullptr) {
    state->counters->refused += 1;
    shared().Emit(std::string("full\t") + full + '\t' + state->service.id);
    Refuse(link, ENOBUFS);
    return true;
  }
  int fd = -1;
  const int error = DialDestination(state->service, open, &fd);
  if (error != 0) {
    state->counters->failed += 1;
    Refuse(link, error);
    return true;
  }
  state->counters->connections += 1;
  state->counters->active += 1;
  auto* flow = new Flow();
  flow->fd = fd;
  flow->side = Side::kExit;
  flow->begun_at = flow->moved_at = now_us_;
  flow->reused = link->number > 1;
  if (flow->reused) state->counters->reused += 1;
  link->peer->exit_flows += 1;
  flow->service = state;
  flow->link = link;
  flow->open = std::move(open);
  flow->connecting = true;
  link->flow = flow;
  RenewEstimate(link);
  flows_.insert(flow);
  shared().flows = flows_.size();
  Watch(flow);
  flow->timer.Set(&timers_, now_us_ + static_cast<int64_t>(limits_.connect_timeout) * 1000,
                  [this, flow] { ResetFlow(flow, ETIMEDOUT); });
  return true;
}

// Answers an OPEN with RESET, and waits for the entry to end its direction.
void Loop::Refuse(Link* link, int error) {
  uint8_t payload[kResetLength];
  Store32(payload, link->number);
  Store16(payload + 4, static_cast<uint16_t>(error));
  Append(link, FrameType::kReset, payload, sizeof payload);
  if (link->dead) return;
  link->refusing = true;
  link->discarded = 0;
  link->timer.Set(&timers_, now_us_ + kDiscardUs, [this, link] { CloseLink(link, "the peer sends on after a reset"); });
  Flush(link);
}

// Transparently from the client's own port first; when that is taken, from another.
int Loop::DialDestination(const Service& service, const Open& open, int* fd) {
  const int error = TryDial(service, open, true, fd);
  const bool taken = error == EADDRINUSE || error == EADDRNOTAVAIL;
  return taken && service.transparent ? TryDial(service, open, false, fd) : error;
}

int Loop::TryDial(const Service& service, const Open& open, bool keep_port, int* out) {
  const bool six = open.destination.width == 16;
  const int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const auto fail = [fd] {
    const int error = errno;
    close(fd);
    return error;
  };
  SetInt(fd, SOL_SOCKET, SO_MARK, static_cast<int>(limits_.own_mark));
  SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  sockaddr_storage address;
  if (service.transparent) {
    SetInt(fd, six ? SOL_IPV6 : SOL_IP, six ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1);
    if (keep_port) {
      SetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    } else {
      // Otherwise bind would reserve one port for all destinations.
      SetInt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    }
    const socklen_t length = ToSockaddr(open.source, keep_port ? open.source_port : 0, &address);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) < 0) return fail();
  }
  const socklen_t length = ToSockaddr(open.destination, open.destination_port, &address);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) < 0 && errno != EINPROGRESS) return fail();
  *out = fd;
  return 0;
}

void Loop::FinishConnect(Flow* flow) {
  // A failed connect is told as EPOLLERR; without it there is nothing to ask for.
  const int error = flow->hangup ? PendingError(flow->fd) : 0;
  if (error != 0) {
    ResetFlow(flow, error);
    return;
  }
  flow->connecting = false;
  flow->connected = true;
  NoteOpened(flow);
  flow->timer.Cancel();
  Link* link = flow->link;
  if (link != nullptr) {
    uint8_t payload[kFlowLength];
    Store32(payload, link->number);
    Append(link, FrameType::kOpened, payload, sizeof payload);
    if (flow->dead) return;
    // The destination often answers at once: OPENED leaves with that, otherwise by itself. Nobody waits for it.
    flow->timer.Set(&timers_, now_us_ + kOpenedUs, [this, flow] {
      if (flow->link != nullptr) Flush(flow->link);
    });
    ReadLink(link);
  }
  if (!flow->dead) ReadLocal(flow);
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
    const size_t wanted = service.bucket.Quantum(kMaxPayload);
    const ssize_t got = recv(flow->fd, scratch_.get() + kHeaderLength, wanted, 0);
    if (got > 0) {
      const size_t bytes = static_cast<size_t>(got);
      service.bucket.Take(bytes);
      service.counters->bytes_in += bytes;
      flow->bytes_in += bytes;
      flow->moved_at = now_us_;
      budget -= std::min(budget, bytes);
      if (bytes < wanted && !flow->hangup) flow->readable = false;
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

void Loop::WriteLocal(Flow* flow, const uint8_t* bytes, size_t length) {
  flow->service->counters->bytes_out += length;
  flow->bytes_out += length;
  flow->moved_at = now_us_;
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
  flow->service->counters->failed += 1;
  if (why != nullptr) shared().Emit(std::string(why) + '\t' + peer->id + '\t' + flow->service->service.id);
  CloseLocal(flow, true);
  EndFlow(flow);
}

void Loop::CloseLocal(Flow* flow, bool reset) {
  if (flow->fd < 0) return;
  // A connection that is not there yet has nobody to reset.
  if (reset && !flow->connecting) {
    ResetAndClose(flow->fd);
  } else {
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
  if (!flow->connected) flow->service->counters->failed += 1;
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
