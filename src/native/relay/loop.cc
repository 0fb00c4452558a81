#include "loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

namespace arctic::relay {
namespace {

constexpr int kEventBatch = 256;
// Events of one round with which the thread has more to do than to wait.
constexpr int kCrowd = 4;

}  // namespace

Session::~Session() { OPENSSL_cleanse(key.data(), key.size()); }

void SetInt(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

void SetResetOnClose(int fd, bool reset) {
  const linger at_once{reset ? 1 : 0, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void ResetAndClose(int fd) {
  SetResetOnClose(fd, true);
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
    const int count = sleeps_.Wait(timeout, [&](int most) { return epoll_wait(epoll_, events, kEventBatch, most); });
    Now();
    crowded_ = count >= kCrowd;
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
      if (one->kind == Pollable::Kind::kFlow) ReadAndFlush(static_cast<Flow*>(one));
      if (one->kind == Pollable::Kind::kDatagrams) OnDatagrams(static_cast<DatagramSocket*>(one));
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
      OnDatagrams(static_cast<DatagramSocket*>(one));
      return;
  }
}

void Loop::Watch(Pollable* one) {
  epoll_event event{};
  const bool level = one->kind == Pollable::Kind::kListener || one->kind == Pollable::Kind::kDatagrams;
  event.events = level ? EPOLLIN : EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
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

void Loop::Maintain() {
  const int64_t ping_every = static_cast<int64_t>(limits_.ping_every) * 1000;
  const int64_t silence = static_cast<int64_t>(limits_.silence_timeout) * 1000;
  const int64_t idle_flow = limits_.flow_idle_timeout == 0 ? INT64_MAX : static_cast<int64_t>(limits_.flow_idle_timeout) * 1000;
  maintenance_.Set(&timers_, now_us_ + std::max<int64_t>(100000, std::min({ping_every / 3, silence / 4, idle_flow / 2})), [this] { Maintain(); });
  CheckFlows();
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (!link->dead && link->sending) CountPath(link);
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
