#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "aegis128l.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace arctic::tunnel {
namespace {

// linux/if_tun.h of 6.2; older headers do not have them, older kernels refuse them.
constexpr unsigned kTunUso4 = 0x20, kTunUso6 = 0x40;

class Writer {
 public:
  Writer(uint8_t* to, size_t room) : to_(to), room_(room) {}
  void U64(uint64_t value) {
    if (used_ + 8 <= room_) {
      for (int i = 0; i < 8; ++i) to_[used_ + static_cast<size_t>(i)] = static_cast<uint8_t>(value >> (8 * i));
    }
    used_ += 8;
  }
  void Bytes(const void* bytes, size_t length) {
    if (used_ + length <= room_) memcpy(to_ + used_, bytes, length);
    used_ += length;
  }
  size_t used() const { return used_; }

 private:
  uint8_t* to_;
  size_t room_, used_ = 0;
};

template <typename T>
uint64_t Get(const std::atomic<T>& counter) {
  return static_cast<uint64_t>(counter.load(std::memory_order_relaxed));
}

// Calls `each` with every number of a peer's counters, in the order in which they are written.
template <typename F>
void EachCounter(const Peer& peer, const F& each) {
  const Totals& t = peer.totals;
  for (const auto* counter :
       {&t.sent_packets, &t.sent_bytes, &t.sent_datagrams, &t.sent_wire_bytes, &t.dropped_unready, &t.dropped_socket,
        &t.dropped_limit, &t.received_packets, &t.received_bytes, &t.received_datagrams, &t.received_wire_bytes})
    each(Get(*counter));
  each(Get(t.lost));
  for (const auto* counter : {&t.replayed, &t.forged, &t.malformed, &t.refused, &t.congested, &t.undelivered, &t.too_big,
                              &t.tun_faults})
    each(Get(*counter));
  each(peer.opens_aegis.load(std::memory_order_relaxed) ? 1 : 0);
}

// Of all that is written of a peer, so that nothing new is missed. Never zero.
uint64_t Digest(const TableBuilder::Known& known) {
  // FNV-1a's numbers, over words instead of bytes.
  uint64_t digest = 0xcbf29ce484222325;
  const auto mix = [&digest](uint64_t value) { digest = (digest ^ value) * 0x100000001b3; };
  EachCounter(*known.peer, mix);
  sockaddr_in6 endpoint;
  mix(known.peer->endpoint(&endpoint) ? ntohs(endpoint.sin6_port) : 0);
  uint64_t halves[2];
  memcpy(halves, &endpoint.sin6_addr, sizeof halves);
  for (const uint64_t half : halves) mix(half);
  for (const auto& [id, key] : known.sending) mix(Get(key->sent));
  for (const auto& [id, key] : known.receiving) mix(Get(key->received));
  return digest | 1;
}

void Write(const TableBuilder::Known& known, Writer* out) {
  out->U64(known.peer->id);
  EachCounter(*known.peer, [out](uint64_t value) { out->U64(value); });
  sockaddr_in6 endpoint;
  const bool set = known.peer->endpoint(&endpoint);
  out->U64(set ? ntohs(endpoint.sin6_port) : 0);
  out->Bytes(&endpoint.sin6_addr, 16);
  out->U64(known.sending.size());
  for (const auto& [key_id, key] : known.sending) {
    out->U64(key_id);
    out->U64(Get(key->sent));
  }
  out->U64(known.receiving.size());
  for (const auto& [key_id, key] : known.receiving) {
    out->U64(key_id);
    out->U64(Get(key->received));
  }
}

int Set(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

// struct sched_attr (linux/sched/types.h), which older C libraries do not have.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

// At 5 a sender of small packets hardly got to fill a batch, at 0 TCP inside lost a third (ops/docs/performance.md).
constexpr int kAheadOfPrograms = 2;
constexpr uint64_t kSliceNs = 100'000;

// What waits for these threads are packets of every program of the host, so they go before the programs, and often rather than
// long: kernels from 6.12 take the runtime as the length of a turn. Where that is not allowed they work with what they have.
void PreferLatency() {
  SchedulingAttributes wanted{};
  wanted.size = sizeof wanted;
  wanted.nice = std::max(-20, getpriority(PRIO_PROCESS, 0) - kAheadOfPrograms);
  wanted.runtime = kSliceNs;
  if (syscall(SYS_sched_setattr, 0, &wanted, 0) < 0) return;
}

}  // namespace

TableSlot::TableSlot() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
TableSlot::~TableSlot() { close(fd_); }

void TableSlot::Put(std::shared_ptr<const Table> table) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    table_ = std::move(table);
    version_.fetch_add(1, std::memory_order_release);
  }
  Wake();
}

void TableSlot::Stop() {
  stopped_.store(true, std::memory_order_release);
  Wake();
}

void TableSlot::Wake() {
  const uint64_t one = 1;
  if (write(fd_, &one, sizeof one) < 0) return;
}

void TableSlot::Drain() {
  uint64_t count;
  if (read(fd_, &count, sizeof count) < 0) return;
}

bool TableSlot::Take(std::shared_ptr<const Table>* held) {
  if (version_.load(std::memory_order_acquire) == taken_) return false;
  std::shared_ptr<const Table> old;
  std::lock_guard<std::mutex> guard(mutex_);
  taken_ = version_.load(std::memory_order_relaxed);
  old = std::move(*held);
  *held = table_;
  return true;
}

// The length of the device's queue is what a burst of small packets may be long without loss.
constexpr int kQueueLength = 2000;

int PrepareTun(int fd) {
  int length = sizeof(VnetHeader);
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control >= 0) {
    request.ifr_qlen = kQueueLength;
    // A shorter queue works too.
    (void)ioctl(control, SIOCSIFTXQLEN, &request);
    close(control);
  }
  if (ioctl(fd, TUNSETVNETHDRSZ, &length) < 0) return -errno;
  const unsigned basic = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  if (ioctl(fd, TUNSETOFFLOAD, basic | kTunUso4 | kTunUso6) == 0) return 1;
  return ioctl(fd, TUNSETOFFLOAD, basic) < 0 ? -errno : 0;
}

int PrepareSocket(int fd) {
  int domain = 0;
  socklen_t length = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0) return -errno;
  // Without GRO every datagram comes by itself.
  Set(fd, SOL_UDP, UDP_GRO, 1);
  int failed = Set(fd, SOL_IP, IP_RECVTOS, 1);
  // DF until the path says otherwise; then the kernel fragments what was under way, and the device's MTU follows.
  if (failed == 0) failed = Set(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT);
  if (domain == AF_INET6) {
    if (failed == 0) failed = Set(fd, SOL_IPV6, IPV6_RECVTCLASS, 1);
    if (failed == 0) failed = Set(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT);
  }
  return failed;
}

int Loop::Start(int socket, bool aegis) {
  const int prepared = PrepareSocket(socket);
  if (prepared < 0) return prepared;
  socket_ = fcntl(socket, F_DUPFD_CLOEXEC, 3);
  if (socket_ < 0) return -errno;
  const bool usable = aegis && HasAegis();
  egress_ = std::make_unique<Egress>(socket_, usable);
  ingress_ = std::make_unique<Ingress>(socket_, usable, &totals_);
  const auto empty = std::make_shared<const Table>();
  egress_->slot.Put(empty);
  ingress_->slot.Put(empty);
  egress_thread_ = std::thread([this] {
    prctl(PR_SET_NAME, "arctic-tun-out");
    PreferLatency();
    egress_->Run();
  });
  ingress_thread_ = std::thread([this] {
    prctl(PR_SET_NAME, "arctic-tun-in");
    PreferLatency();
    ingress_->Run();
  });
  running_ = true;
  return 0;
}

void Loop::Stop() {
  if (!running_) return;
  running_ = false;
  egress_->slot.Stop();
  ingress_->slot.Stop();
  egress_thread_.join();
  ingress_thread_.join();
  egress_.reset();
  ingress_.reset();
  builder_ = TableBuilder();
  close(socket_);
  socket_ = -1;
}

int Loop::Apply(const uint8_t* bytes, size_t length) {
  if (!running_) return -ECANCELED;
  std::shared_ptr<const Table> table;
  const int failed = builder_.Build(bytes, length, &table);
  if (failed != 0) return failed;
  egress_->slot.Put(table);
  ingress_->slot.Put(table);
  return 0;
}

bool Loop::Keepalive(uint32_t peer) {
  const auto found = builder_.known().find(peer);
  if (!running_ || found == builder_.known().end()) return false;
  found->second.peer->keepalive.store(true, std::memory_order_relaxed);
  egress_->slot.Wake();
  return true;
}

size_t Loop::Read(uint8_t* to, size_t room) {
  Writer out(to, room);
  for (const auto* counter : {&totals_.foreign, &totals_.unknown, &totals_.forged}) out.U64(Get(*counter));
  std::vector<std::pair<TableBuilder::Known*, uint64_t>> told;
  for (auto& [id, known] : builder_.known()) {
    const uint64_t digest = Digest(known);
    if (digest != known.read) told.emplace_back(&known, digest);
  }
  out.U64(told.size());
  for (const auto& [known, digest] : told) Write(*known, &out);
  if (out.used() <= room)
    for (const auto& [known, digest] : told) known->read = digest;
  return out.used();
}

}  // namespace arctic::tunnel
