// Connections that arrive: captured ones at the entry, carriers at the exit.
#include <errno.h>
#include <ifaddrs.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {
namespace {

constexpr int kAcceptBatch = 64;
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

void Loop::Accept(Listener* listener) {
  for (int batch = 0; batch < kAcceptBatch; batch += 1) {
    sockaddr_storage from;
    socklen_t length = sizeof from;
    const int fd = accept4(listener->fd, reinterpret_cast<sockaddr*>(&from), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      if (listener->captured) {
        AcceptCaptured(fd, from, listener->port);
      } else {
        AcceptCarrier(fd, from);
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
  if (const char* full = Full(*service)) {
    service->counters->refused += 1;
    shared().Emit(std::string("full\t") + full + '\t' + service->service.id);
    ResetAndClose(fd);
    return;
  }
  Flow* flow = BeginFlow(fd, Side::kEntry, service);
  flow->open = std::move(open);
  flow->open.service = service->service.id;
  // Tried at once; the first EAGAIN says otherwise.
  flow->readable = flow->writable = true;
  Watch(flow);
  Lease(PeerOf(service->service.peer), flow);
}

void Loop::AcceptCarrier(int fd, const sockaddr_storage& from) {
  Address address;
  uint16_t port = 0;
  FromSockaddr(from, &address, &port);
  std::string source(reinterpret_cast<const char*>(address.bytes), address.width);
  size_t& of_source = handshakes_by_source_[source];
  // One source must not keep the others out.
  if (handshakes_ >= limits_.most_handshakes || of_source >= limits_.most_source_handshakes ||
      links_.size() + flows_.size() >= descriptors_) {
    if (of_source == 0) handshakes_by_source_.erase(source);
    shared().refused_carriers += 1;
    close(fd);
    return;
  }
  handshakes_ += 1;
  of_source += 1;
  auto* link = new Link();
  link->source = std::move(source);
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

// Established or closed: the place is free again.
void Loop::EndHandshake(Link* link) {
  handshakes_ -= 1;
  const auto found = handshakes_by_source_.find(link->source);
  if (found != handshakes_by_source_.end() && --found->second == 0) handshakes_by_source_.erase(found);
  link->source = std::string();
}

}  // namespace arctic::relay
