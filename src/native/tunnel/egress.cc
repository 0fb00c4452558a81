#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>

#include "clock.h"
#include "loop.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

namespace arctic::tunnel {
namespace {

constexpr uint32_t kWakeUp = 0xffffffff;
// The kernel's UDP_MAX_SEGMENTS, and less than a UDP datagram may have.
constexpr size_t kMostSegments = 64;
constexpr size_t kMostRun = 65000;
constexpr size_t kMostRuns = 64;

void Add(std::atomic<uint64_t>& counter, uint64_t value) { counter.fetch_add(value, std::memory_order_relaxed); }

struct Control {
  alignas(cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int))];
};

// The name to send to, as the socket's own family has it.
socklen_t WriteName(const sockaddr_in6& endpoint, bool ipv4_only, sockaddr_in6* name) {
  if (!ipv4_only || !IN6_IS_ADDR_V4MAPPED(&endpoint.sin6_addr)) {
    *name = endpoint;
    return sizeof *name;
  }
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = endpoint.sin6_port;
  memcpy(&ipv4.sin_addr, endpoint.sin6_addr.s6_addr + 12, 4);
  memcpy(name, &ipv4, sizeof ipv4);
  return sizeof ipv4;
}

// TOS by family, and the segment length of a run.
size_t WriteControl(Control* control, const sockaddr_in6& to, uint8_t tos, size_t segment) {
  msghdr message{};
  memset(control->bytes, 0, sizeof control->bytes);
  message.msg_control = control->bytes;
  message.msg_controllen = sizeof control->bytes;
  cmsghdr* item = CMSG_FIRSTHDR(&message);
  size_t used = 0;
  if (tos != 0) {
    const bool ipv4 = IN6_IS_ADDR_V4MAPPED(&to.sin6_addr);
    item->cmsg_level = ipv4 ? SOL_IP : SOL_IPV6;
    item->cmsg_type = ipv4 ? IP_TOS : IPV6_TCLASS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    const int value = tos;
    memcpy(CMSG_DATA(item), &value, sizeof value);
    used += CMSG_SPACE(sizeof(int));
    item = reinterpret_cast<cmsghdr*>(control->bytes + used);
  }
  if (segment != 0) {
    item->cmsg_level = SOL_UDP;
    item->cmsg_type = UDP_SEGMENT;
    item->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const uint16_t value = static_cast<uint16_t>(segment);
    memcpy(CMSG_DATA(item), &value, sizeof value);
    used += CMSG_SPACE(sizeof(uint16_t));
  }
  return used;
}

}  // namespace

Egress::Egress(int socket, bool aegis)
    : socket_(socket), aegis_(aegis) {
  int domain = 0;
  socklen_t length = sizeof domain;
  getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  ipv4_only_ = domain == AF_INET;
}

Egress::~Egress() {
  if (epoll_ >= 0) close(epoll_);
}

void Egress::Adopt() {
  if (!slot.Take(&table_)) return;
  if (epoll_ >= 0) close(epoll_);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = kWakeUp;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, slot.fd(), &event);
  limited_.clear();
  if (!table_) return;
  for (uint32_t i = 0; i < table_->peers.size(); ++i) {
    const PeerEntry& entry = table_->peers[i];
    if (!entry.limits.empty()) limited_.push_back(i);
    auto& shapers = entry.peer->shapers;
    for (auto shaper = shapers.begin(); shaper != shapers.end();) {
      const auto limit = entry.limits.find(shaper->first);
      if (limit == entry.limits.end()) {
        shaper = shapers.erase(shaper);
      } else {
        shaper->second.SetRate(limit->second);
        ++shaper;
      }
    }
    if (!entry.tun) continue;
    event.data.u32 = i;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, entry.tun->fd(), &event);
  }
}

int Egress::Timeout() const {
  uint64_t least = UINT64_MAX;
  for (const uint32_t index : limited_) {
    for (const auto& [service, shaper] : table_->peers[index].peer->shapers) {
      if (shaper.empty()) continue;
      const uint64_t wait = shaper.Wait();
      if (wait < least) least = wait;
    }
  }
  if (least == UINT64_MAX) return -1;
  return static_cast<int>((least + 999999) / 1000000);
}

void Egress::Run() {
  std::vector<epoll_event> events(64);
  while (!slot.stopped()) {
    Adopt();
    const int count = sleeps_.Wait(Timeout(), [&](int most) {
      return epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), most);
    });
    if (count < 0 && errno != EINTR) return;
    const size_t budget = std::max(kMostBytes, kMostVisit / static_cast<size_t>(std::max(count, 1)));
    bool woken = false;
    for (int i = 0; i < count; ++i) {
      const uint32_t index = events[i].data.u32;
      if (index == kWakeUp) {
        slot.Drain();
        woken = true;
        continue;
      }
      const PeerEntry& entry = table_->peers[index];
      if ((events[i].events & EPOLLIN) != 0) {
        Visit(entry, budget);
      } else {
        // The device is gone; whoever took it away gives us another.
        epoll_ctl(epoll_, EPOLL_CTL_DEL, entry.tun->fd(), nullptr);
        Add(entry.peer->totals.tun_faults, 1);
      }
    }
    if (woken && table_) {
      for (const PeerEntry& entry : table_->peers) {
        if (!entry.peer->keepalive.exchange(false, std::memory_order_relaxed)) continue;
        packer_.Start(entry.most_text);
        packer_.AppendEmpty();
        Flush(entry);
      }
    }
    for (const uint32_t index : limited_) {
      const PeerEntry& entry = table_->peers[index];
      packer_.Start(entry.most_text);
      Shape(entry, MonotonicNanoseconds());
      Flush(entry);
    }
  }
}

void Egress::Visit(const PeerEntry& entry, size_t budget) {
  packer_.Start(entry.most_text);
  for (bool more = true;;) {
    if (more) more = Fill(entry, &budget);
    if (waiting_.empty()) return;
    size_t bytes = 0;
    for (int frames = 0; frames < kMostFrames && bytes < kMostBytes && !waiting_.empty(); ++frames) {
      bytes += waiting_.front_length();
      Frame(entry, waiting_.front(), waiting_.front_length(), false);
      waiting_.Pop();
    }
    Flush(entry);
  }
}

bool Egress::Fill(const PeerEntry& entry, size_t* budget) {
  const uint64_t now = MonotonicNanoseconds();
  bool more = false;
  while (uint8_t* frame = waiting_.Room()) {
    more = *budget > 0;
    if (!more) break;
    const ssize_t got = read(entry.tun->fd(), frame, FrameQueue::kRoom);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) {
        epoll_ctl(epoll_, EPOLL_CTL_DEL, entry.tun->fd(), nullptr);
        Add(entry.peer->totals.tun_faults, 1);
      }
      more = false;
      break;
    }
    const size_t length = static_cast<size_t>(got);
    if (length <= sizeof(VnetHeader)) continue;
    *budget -= std::min(*budget, length);
    Packet packet;
    const uint8_t* bytes = frame + sizeof(VnetHeader);
    if (entry.limits.empty() && ParsePacket(bytes, length - sizeof(VnetHeader), &packet) &&
        flows_.MayOvertake(entry.peer->id, packet, bytes, length - sizeof(VnetHeader), now))
      Frame(entry, frame, length, true);
    else
      waiting_.Push(length);
  }
  Flush(entry, true);
  return more;
}

void Egress::Frame(const PeerEntry& entry, uint8_t* frame, size_t length, bool overtakes) {
  Totals& totals = entry.peer->totals;
  VnetHeader header;
  memcpy(&header, frame, sizeof header);
  Segmenter segments;
  if (!segments.Load(header, frame + sizeof header, length - sizeof header)) {
    Add(totals.dropped_unready, 1);
    return;
  }
  // The device's own neighbour and group chatter.
  const Packet& packet = segments.packet();
  if (packet.version == 6 ? packet.dest[0] == 0xff : packet.dest[0] >= 224) return;
  uint64_t limit = 0, now = 0;
  uint32_t service = kNoService;
  if (!entry.limits.empty() && entry.policy) {
    service = entry.policy->Outbound(packet);
    const auto found = entry.limits.find(service);
    if (found != entry.limits.end()) {
      limit = found->second;
      now = MonotonicNanoseconds();
    }
  }
  const uint8_t tos = packet.tos;
  size_t packets = 0, bytes = 0;
  for (size_t i = 0; i < segments.count(); ++i) {
    const Segment segment = segments.At(i);
    if (limit != 0) {
      Shaper& shaper = entry.peer->shapers[service];
      shaper.SetRate(limit);
      Shaper::Queued queued{std::vector<uint8_t>(segment.length), segment.needs_csum, tos};
      segments.Write(i, queued.bytes.data());
      if (!shaper.Push(std::move(queued), now)) Add(totals.dropped_limit, 1);
      continue;
    }
    uint8_t* to = packer_.Append(segment.length, segment.needs_csum, tos);
    if (to == nullptr) {
      Flush(entry, overtakes);
      to = packer_.Append(segment.length, segment.needs_csum, tos);
    }
    if (to == nullptr) {
      Add(totals.dropped_unready, 1);
      continue;
    }
    segments.Write(i, to);
    packets += 1;
    bytes += segment.length;
  }
  Add(totals.sent_packets, packets);
  Add(totals.sent_bytes, bytes);
}

void Egress::Shape(const PeerEntry& entry, uint64_t now) {
  for (auto& [service, shaper] : entry.peer->shapers) {
    while (const Shaper::Queued* packet = shaper.Front(now)) {
      uint8_t* to = packer_.Append(packet->bytes.size(), packet->needs_csum, packet->tos);
      if (to == nullptr) {
        Flush(entry);
        to = packer_.Append(packet->bytes.size(), packet->needs_csum, packet->tos);
      }
      if (to != nullptr) {
        memcpy(to, packet->bytes.data(), packet->bytes.size());
        Add(entry.peer->totals.sent_packets, 1);
        Add(entry.peer->totals.sent_bytes, packet->bytes.size());
      }
      shaper.Pop();
    }
  }
}

void Egress::Flush(const PeerEntry& entry, bool overtakes) {
  const auto& datagrams = packer_.datagrams();
  if (datagrams.empty()) return;
  Totals& totals = entry.peer->totals;
  sockaddr_in6 endpoint;
  SendKey* key = entry.send.get();
  const uint64_t counter = key == nullptr ? 0 : key->sent.load(std::memory_order_relaxed);
  if (key == nullptr || !entry.peer->endpoint(&endpoint) || counter + datagrams.size() > kLastCounter) {
    Add(totals.dropped_unready, datagrams.size());
    packer_.Start(entry.most_text);
    return;
  }
  uint64_t next = counter;
  size_t bytes = 0;
  const bool aegis = aegis_ && key->aegis.ok() && entry.peer->opens_aegis.load(std::memory_order_relaxed);
  const Aead aead = aegis ? Aead::kAegis128L : key->aead;
  Cipher& cipher = aegis ? key->aegis : key->cipher;
  const uint8_t flags = static_cast<uint8_t>((aegis_ ? kCanAegis : 0) | (overtakes ? kOvertakes : 0));
  bool sealed = true;
  for (const Packer::Datagram& datagram : datagrams) {
    uint8_t* at = packer_.at(datagram.offset);
    next += 1;
    WriteHeader({aead, flags, key->index, next}, at);
    sealed = cipher.Seal(NonceOf(aead, next), at, kHeaderLength, at + kHeaderLength, datagram.text) && sealed;
    bytes += datagram.text + kOverhead;
  }
  // Stored before anything leaves: a counter is used once, whatever becomes of the datagram.
  key->sent.store(next, std::memory_order_relaxed);
  if (sealed) {
    SendRuns(entry, endpoint);
    Add(totals.sent_datagrams, datagrams.size());
    Add(totals.sent_wire_bytes, bytes);
  } else {
    // Text that may not be encrypted stays here.
    Add(totals.dropped_unready, datagrams.size());
  }
  packer_.Start(entry.most_text);
}

void Egress::SendRuns(const PeerEntry& entry, const sockaddr_in6& endpoint) {
  const auto& datagrams = packer_.datagrams();
  sockaddr_in6 name;
  const socklen_t name_length = WriteName(endpoint, ipv4_only_, &name);
  mmsghdr messages[kMostRuns];
  iovec parts[kMostRuns];
  Control controls[kMostRuns];
  struct Run {
    size_t first, count;
  } runs[kMostRuns];
  size_t at = 0;
  while (at < datagrams.size()) {
    size_t made = 0;
    while (at < datagrams.size() && made < kMostRuns) {
      const size_t length = datagrams[at].text + kOverhead;
      size_t count = 1, total = length;
      // Equal lengths; the last may be shorter.
      while (gso_ && at + count < datagrams.size() && count < kMostSegments && total + length <= kMostRun &&
             datagrams[at + count].tos == datagrams[at].tos && datagrams[at + count].text + kOverhead <= length) {
        const size_t next = datagrams[at + count].text + kOverhead;
        total += next;
        count += 1;
        if (next < length) break;
      }
      runs[made] = {at, count};
      parts[made] = {packer_.at(datagrams[at].offset), total};
      mmsghdr& message = messages[made];
      memset(&message, 0, sizeof message);
      message.msg_hdr.msg_name = &name;
      message.msg_hdr.msg_namelen = name_length;
      message.msg_hdr.msg_iov = &parts[made];
      message.msg_hdr.msg_iovlen = 1;
      const size_t used = WriteControl(&controls[made], endpoint, datagrams[at].tos, count > 1 ? length : 0);
      if (used > 0) {
        message.msg_hdr.msg_control = controls[made].bytes;
        message.msg_hdr.msg_controllen = used;
      }
      at += count;
      made += 1;
    }
    size_t sent = 0;
    while (sent < made) {
      const int done = sendmmsg(socket_, messages + sent, static_cast<unsigned>(made - sent), MSG_NOSIGNAL);
      if (done > 0) {
        sent += static_cast<size_t>(done);
        continue;
      }
      const int error = done < 0 ? errno : EIO;
      if (error == EINTR) continue;
      // A run that does not fit the path, or a device that cannot segment: each by itself, cut by the kernel where it must.
      if (runs[sent].count > 1 && (error == EINVAL || error == EMSGSIZE || error == EIO)) {
        if (error == EIO) gso_ = false;
        else Add(entry.peer->totals.too_big, 1);
        SendSingly(entry, endpoint, runs[sent].first, runs[sent].count);
      } else {
        if (error == EMSGSIZE) Add(entry.peer->totals.too_big, 1);
        Add(entry.peer->totals.dropped_socket, runs[sent].count);
      }
      sent += 1;
    }
  }
}

void Egress::SendSingly(const PeerEntry& entry, const sockaddr_in6& endpoint, size_t first, size_t count) {
  sockaddr_in6 name;
  const socklen_t name_length = WriteName(endpoint, ipv4_only_, &name);
  for (size_t i = first; i < first + count; ++i) {
    const Packer::Datagram& datagram = packer_.datagrams()[i];
    iovec part{packer_.at(datagram.offset), datagram.text + kOverhead};
    Control control;
    msghdr message{};
    message.msg_name = &name;
    message.msg_namelen = name_length;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const size_t used = WriteControl(&control, endpoint, datagram.tos, 0);
    if (used > 0) {
      message.msg_control = control.bytes;
      message.msg_controllen = used;
    }
    if (sendmsg(socket_, &message, MSG_NOSIGNAL) < 0) Add(entry.peer->totals.dropped_socket, 1);
  }
}

}  // namespace arctic::tunnel
