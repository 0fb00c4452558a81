#include "loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

namespace arctic::relay {
namespace {

constexpr int kEventBatch = 256;
constexpr int kAcceptBatch = 64;
// Bits 20-23 of a mark say how the firewall uses it; the rest names the service.
constexpr uint32_t kServiceBits = 0xff0fffff;
constexpr int64_t kOutOfDescriptorsUs = 100 * 1000;

bool IsLocal(const Address& address) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return false;
  bool found = false;
  for (const ifaddrs* one = all; one != nullptr && !found; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    if (one->ifa_addr->sa_family == AF_INET && address.width == 4) {
      found = memcmp(&reinterpret_cast<sockaddr_in*>(one->ifa_addr)->sin_addr, address.bytes, 4) == 0;
    } else if (one->ifa_addr->sa_family == AF_INET6 && address.width == 16) {
      found = memcmp(&reinterpret_cast<sockaddr_in6*>(one->ifa_addr)->sin6_addr, address.bytes, 16) == 0;
    }
  }
  freeifaddrs(all);
  return found;
}

}  // namespace

Session::~Session() { OPENSSL_cleanse(key.data(), key.size()); }

void SetInt(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

void ResetAndClose(int fd) {
  const linger at_once{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
}

int PendingError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

socklen_t ToSockaddr(const Address& address, uint16_t port, sockaddr_storage* out) {
  memset(out, 0, sizeof *out);
  if (address.width == 4) {
    auto* four = reinterpret_cast<sockaddr_in*>(out);
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    memcpy(&four->sin_addr, address.bytes, 4);
    return sizeof *four;
  }
  auto* six = reinterpret_cast<sockaddr_in6*>(out);
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(port);
  memcpy(&six->sin6_addr, address.bytes, 16);
  return sizeof *six;
}

void FromSockaddr(const sockaddr_storage& from, Address* address, uint16_t* port) {
  if (from.ss_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(from);
    address->width = 4;
    memcpy(address->bytes, &four.sin_addr, 4);
    *port = ntohs(four.sin_port);
    return;
  }
  const auto& six = reinterpret_cast<const sockaddr_in6&>(from);
  address->width = 16;
  memcpy(address->bytes, &six.sin6_addr, 16);
  *port = ntohs(six.sin6_port);
}

std::string KeyOf(const SessionId& id) { return std::string(reinterpret_cast<const char*>(id.data()), id.size()); }

Loop::Loop(Relay* relay) : relay_(relay) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_.fd = relay->wake_fd_;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &wake_;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_.fd, &event);
  Now();
}

Loop::~Loop() {
  // Links first: their flows are reset by that, and their resets are not worth sending any more.
  while (!links_.empty()) CloseLink(*links_.begin(), nullptr);
  while (!flows_.empty()) {
    Flow* flow = *flows_.begin();
    CloseLocal(flow, true);
    EndFlow(flow);
  }
  endpoint_.reset();
  for (auto& listener : listeners_) {
    if (listener->fd >= 0) close(listener->fd);
  }
  const std::lock_guard<std::mutex> lock(relay_->mutex_);
  for (const Command& command : relay_->commands_) {
    if (const auto* listen = std::get_if<Listen>(&command)) close(listen->fd);
  }
  relay_->commands_.clear();
  close(epoll_);
}

void Loop::Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  now_us_ = static_cast<int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
}

void Loop::Run() {
  epoll_event events[kEventBatch];
  for (;;) {
    int timeout = 0;
    if (ready_.empty()) {
      const int64_t next = timers_.Next(now_us_);
      // Rounded up: a timer that is not due yet would turn the loop into a spin.
      timeout = next < 0 ? -1 : static_cast<int>(std::min<int64_t>((next + 999) / 1000, 60000));
    }
    const int count = epoll_wait(epoll_, events, kEventBatch, timeout);
    Now();
    shared().heartbeat += 1;
    for (int index = 0; index < count; index += 1) {
      auto* one = static_cast<Pollable*>(events[index].data.ptr);
      if (!one->dead) Dispatch(one, events[index].events);
    }
    timers_.Run(now_us_);
    std::vector<Pollable*> round;
    round.swap(ready_);
    for (Pollable* one : round) {
      one->queued = false;
      if (one->dead) continue;
      if (one->kind == Pollable::Kind::kLink) ReadLink(static_cast<Link*>(one));
      if (one->kind == Pollable::Kind::kFlow) ReadLocal(static_cast<Flow*>(one));
      if (one->kind == Pollable::Kind::kDatagrams && endpoint_->Read(one->fd)) Queue(one);
    }
    if (endpoint_ != nullptr) endpoint_->Flush();
    if (relay_->quit_) return;
    if (!graveyard_.empty()) {
      // What was queued and has died since must not be named once it is gone.
      ready_.erase(std::remove_if(ready_.begin(), ready_.end(), [](const Pollable* one) { return one->dead; }), ready_.end());
      graveyard_.clear();
    }
  }
}

void Loop::Dispatch(Pollable* one, uint32_t events) {
  switch (one->kind) {
    case Pollable::Kind::kWake: {
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = read(one->fd, &count, sizeof count);
      ObeyAll();
      return;
    }
    case Pollable::Kind::kListener:
      Accept(static_cast<Listener*>(one));
      return;
    case Pollable::Kind::kLink:
      OnLink(static_cast<Link*>(one), events);
      return;
    case Pollable::Kind::kFlow:
      OnFlow(static_cast<Flow*>(one), events);
      return;
    case Pollable::Kind::kDatagrams:
      if (endpoint_->Read(one->fd)) Queue(one);
      return;
  }
}

void Loop::Watch(Pollable* one) {
  epoll_event event{};
  const bool level = one->kind == Pollable::Kind::kListener || one->kind == Pollable::Kind::kDatagrams;
  event.events = level ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = one;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, one->fd, &event);
}

void Loop::Queue(Pollable* one) {
  if (one->queued || one->dead) return;
  one->queued = true;
  ready_.push_back(one);
}

void Loop::Bury(Pollable* one) {
  one->dead = true;
  graveyard_.emplace_back(one);
}

void Loop::ObeyAll() {
  std::vector<Command> commands;
  {
    const std::lock_guard<std::mutex> lock(relay_->mutex_);
    commands.swap(relay_->commands_);
  }
  for (const Command& command : commands) {
    std::visit([this](const auto& one) { Obey(one); }, command);
  }
}

void Loop::Obey(const Limits& limits) {
  limits_ = limits;
  if (!maintenance_.armed()) Maintain();
  if (!fairness_.armed()) ShareFairly();
}

void Loop::Update(std::unordered_map<std::string, std::shared_ptr<ServiceState>>* states, const std::vector<Service>& services,
                  Side side) {
  const char* name = side == Side::kEntry ? "entry" : "exit";
  std::unordered_map<std::string, std::shared_ptr<ServiceState>> next;
  for (const Service& service : services) {
    auto found = states->find(service.id);
    // A service that moved to another peer is another service as far as its flows are concerned.
    if (found != states->end() && found->second->service.peer != service.peer) {
      shared().ForgetService(service.id, name);
      found = states->end();
    }
    std::shared_ptr<ServiceState> state = found == states->end() ? std::make_shared<ServiceState>() : found->second;
    const bool fresh = state->counters == nullptr;
    if (fresh) state->counters = shared().Service(service.id, name);
    if (fresh || state->service.bits_per_second != service.bits_per_second) {
      state->bucket.SetRate(service.bits_per_second, now_us_);
      if (!state->waiting.empty()) Grant(state.get());
    }
    state->service = service;
    next.emplace(service.id, std::move(state));
  }
  for (const auto& [id, state] : *states) {
    const auto kept = next.find(id);
    if (kept != next.end() && kept->second == state) continue;
    if (kept == next.end()) shared().ForgetService(id, name);
    const std::vector<Flow*> flows(flows_.begin(), flows_.end());
    for (Flow* flow : flows) {
      if (!flow->dead && flow->service == state) ResetFlow(flow, ECONNABORTED);
    }
  }
  *states = std::move(next);
}

void Loop::Obey(const Configure& config) {
  Update(&exits_, config.exits, Side::kExit);
  Update(&entries_, config.entries, Side::kEntry);
  by_mark_.clear();
  for (const auto& [id, state] : entries_) by_mark_[state->service.mark & kServiceBits] = state;
  for (auto& [id, peer] : peers_) {
    peer->configured = false;
    peer->warm = false;
  }
  for (const PeerAddress& given : config.peers) {
    Peer* peer = PeerOf(given.id);
    const bool moved = peer->port != 0 && (peer->port != given.port || peer->address.width != given.address.width ||
                                           memcmp(peer->address.bytes, given.address.bytes, given.address.width) != 0);
    peer->configured = true;
    peer->address = given.address;
    peer->port = given.port;
    if (moved) {
      for (Link* link : links_) {
        if (link->dialer && link->peer == peer) link->retiring = true;
      }
      CloseIdle(peer, false);
    }
  }
  for (const auto& [id, state] : entries_) {
    Peer* peer = PeerOf(state->service.peer);
    peer->warm = peer->configured;
  }
  WantLines();
  for (auto& [id, peer] : peers_) {
    if (!peer->configured) CloseIdle(peer.get(), false);
    Refill(peer.get());
  }
}

void Loop::Obey(const SetSession& given) {
  const std::string key = KeyOf(given.id);
  std::shared_ptr<Session>& session = sessions_[key];
  if (session == nullptr) {
    session = std::make_shared<Session>();
    session->id = given.id;
    session->key = given.key;
    session->peer = given.peer;
    session->initiator = given.initiator;
  }
  const std::shared_ptr<Session> known = session;
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (!link->dead && link->stage == Link::Stage::kAwaitSession && link->wanted_session == given.id) {
      ContinueHello(link, known);
    }
  }
  if (!given.current) return;
  Peer* peer = PeerOf(given.peer);
  peer->current = known;
  peer->backoff.Cancel();
  peer->backoff_us = 0;
  if (endpoint_ != nullptr) endpoint_->Renew(given.peer, known);
  Refill(peer);
}

void Loop::Obey(const NoSession& none) {
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (!link->dead && link->stage == Link::Stage::kAwaitSession && link->wanted_session == none.id) {
      CloseLink(link, "the carrier names a session that is not known here");
    }
  }
}

void Loop::Obey(const Retire& retire) {
  const auto found = sessions_.find(KeyOf(retire.id));
  if (found == sessions_.end()) return;
  const std::shared_ptr<Session> session = found->second;
  sessions_.erase(found);
  session->retired = true;
  Peer* peer = PeerOf(session->peer);
  if (peer->current == session) peer->current = nullptr;
  if (endpoint_ != nullptr) endpoint_->Retire(session, retire.removed);
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (link->dead || link->session != session) continue;
    if (retire.removed) {
      CloseLink(link, nullptr);
    } else {
      link->retiring = true;
    }
  }
  CloseIdle(peer, true);
  if (retire.removed) return;
  // Not at once: an OPEN of the dialer, who may hear of the renewal later, can be on its way.
  while (!grace_.empty() && !grace_.front()->armed()) grace_.pop_front();
  grace_.push_back(std::make_unique<Timer>());
  grace_.back()->Set(&timers_, now_us_ + static_cast<int64_t>(limits_.renewal_grace) * 1000, [this] {
    const std::vector<Link*> all(links_.begin(), links_.end());
    for (Link* link : all) {
      if (!link->dead && !link->dialer && link->retiring && link->flow == nullptr && !link->refusing) CloseLink(link, nullptr);
    }
  });
}

void Loop::Obey(const Listen& listen) {
  auto listener = std::make_unique<Listener>();
  // accept4 runs until EAGAIN.
  fcntl(listen.fd, F_SETFL, fcntl(listen.fd, F_GETFL) | O_NONBLOCK);
  listener->fd = listen.fd;
  listener->captured = listen.captured;
  listener->port = listen.port;
  Watch(listener.get());
  listeners_.push_back(std::move(listener));
}

void Loop::Obey(const StopAccepting&) {
  accepting_ = false;
  for (auto& listener : listeners_) {
    if (listener->fd < 0) continue;
    close(listener->fd);
    listener->fd = -1;
    listener->dead = true;
    listener->resume.Cancel();
  }
  const std::vector<Flow*> flows(flows_.begin(), flows_.end());
  for (Flow* flow : flows) {
    if (!flow->dead && flow->waiting_link) AbandonWaiting(flow, nullptr);
  }
}

void Loop::Obey(const ResetAll&) {
  const std::vector<Flow*> flows(flows_.begin(), flows_.end());
  for (Flow* flow : flows) {
    if (!flow->dead) ResetFlow(flow, ECONNABORTED);
  }
}

void Loop::Accept(Listener* listener) {
  for (int batch = 0; batch < kAcceptBatch; batch += 1) {
    sockaddr_storage from;
    socklen_t length = sizeof from;
    const int fd = accept4(listener->fd, reinterpret_cast<sockaddr*>(&from), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
      if (listener->captured) {
        AcceptCaptured(fd, from, listener->port);
      } else {
        AcceptCarrier(fd);
      }
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The connection stays in the backlog; without a pause epoll would name it again and again.
      epoll_ctl(epoll_, EPOLL_CTL_DEL, listener->fd, nullptr);
      listener->resume.Set(&timers_, now_us_ + kOutOfDescriptorsUs, [this, listener] { Watch(listener); });
      shared().Emit("descriptors");
      return;
    }
    if (errno == EAGAIN || errno == EBADF || errno == EINVAL) return;
  }
}

void Loop::AcceptCaptured(int fd, const sockaddr_storage& from, uint16_t listen_port) {
  uint32_t mark = 0;
  socklen_t length = sizeof mark;
  getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &length);
  sockaddr_storage to;
  length = sizeof to;
  getsockname(fd, reinterpret_cast<sockaddr*>(&to), &length);
  Open open;
  FromSockaddr(from, &open.source, &open.source_port);
  FromSockaddr(to, &open.destination, &open.destination_port);
  const auto found = mark == 0 ? by_mark_.end() : by_mark_.find(mark & kServiceBits);
  // Someone who dials the listener itself would be sent round in circles.
  const bool looped = open.destination_port == listen_port && IsLocal(open.destination);
  if (found == by_mark_.end() || looped) {
    shared().stray_connections += 1;
    shared().Emit("stray\t" + AddressText(open.source) + '\t' + std::to_string(mark));
    ResetAndClose(fd);
    return;
  }
  const std::shared_ptr<ServiceState> service = found->second;
  if (flows_.size() >= limits_.most_flows) {
    service->counters->refused += 1;
    shared().Emit("full\t" + std::to_string(flows_.size()));
    ResetAndClose(fd);
    return;
  }
  service->counters->connections += 1;
  service->counters->active += 1;
  auto* flow = new Flow();
  flow->fd = fd;
  flow->side = Side::kEntry;
  flow->begun_at = now_us_;
  flow->service = service;
  flow->connected = true;
  flow->open = std::move(open);
  flow->open.service = service->service.id;
  // Tried at once; the first EAGAIN says otherwise.
  flow->readable = flow->writable = true;
  flows_.insert(flow);
  shared().flows = flows_.size();
  Watch(flow);
  Lease(PeerOf(service->service.peer), flow);
}

void Loop::AcceptCarrier(int fd) {
  if (handshakes_ >= limits_.most_handshakes) {
    shared().refused_carriers += 1;
    close(fd);
    return;
  }
  handshakes_ += 1;
  auto* link = new Link();
  link->fd = fd;
  link->stage = Link::Stage::kHello;
  link->readable = link->writable = true;
  link->heard_at = now_us_;
  links_.insert(link);
  TuneCarrier(fd);
  Watch(link);
  link->timer.Set(&timers_, now_us_ + static_cast<int64_t>(limits_.handshake_timeout) * 1000,
                  [this, link] { CloseLink(link, "the carrier handshake took too long"); });
  ReadLink(link);
}

void Loop::Maintain() {
  const int64_t ping_every = static_cast<int64_t>(limits_.ping_every) * 1000;
  const int64_t silence = static_cast<int64_t>(limits_.silence_timeout) * 1000;
  maintenance_.Set(&timers_, now_us_ + std::max<int64_t>(100000, std::min(ping_every / 3, silence / 4)), [this] { Maintain(); });
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (link->dead || link->stage != Link::Stage::kEstablished || link->flow != nullptr || link->refusing) continue;
    if (link->stream != nullptr) continue;
    if (!link->dialer) {
      if (now_us_ - link->heard_at >= silence) CloseLink(link, nullptr);
      continue;
    }
    const bool beyond = link->peer->idle.size() > (link->peer->warm ? limits_.warm : 0);
    const bool silent = link->pinged_at > link->heard_at && now_us_ - link->pinged_at >= ping_every;
    if (silent) {
      CloseLink(link, "the peer does not answer on an idle link");
    } else if (beyond && now_us_ - link->idle_since >= static_cast<int64_t>(limits_.idle_timeout) * 1000) {
      CloseLink(link, nullptr);
    } else if (now_us_ - std::max({link->heard_at, link->pinged_at, link->idle_since}) >= ping_every) {
      link->pinged_at = now_us_;
      const uint8_t nothing[8] = {};
      Append(link, FrameType::kPing, nothing, sizeof nothing);
      Flush(link);
    }
  }
}

}  // namespace arctic::relay
