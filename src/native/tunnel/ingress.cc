#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#include <algorithm>

#include "loop.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace arctic::tunnel {
namespace {

void Add(std::atomic<uint64_t>& counter, uint64_t value) { counter.fetch_add(value, std::memory_order_relaxed); }

constexpr size_t kControl = CMSG_SPACE(sizeof(int)) * 3;

void ReadControl(msghdr* message, uint8_t* tos, size_t* segment) {
  for (cmsghdr* item = CMSG_FIRSTHDR(message); item != nullptr; item = CMSG_NXTHDR(message, item)) {
    if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
      int value = 0;
      memcpy(&value, CMSG_DATA(item), sizeof value);
      if (value > 0) *segment = static_cast<size_t>(value);
    } else if (item->cmsg_level == SOL_IP && item->cmsg_type == IP_TOS) {
      *tos = *CMSG_DATA(item);
    } else if (item->cmsg_level == SOL_IPV6 && item->cmsg_type == IPV6_TCLASS) {
      int value = 0;
      memcpy(&value, CMSG_DATA(item), sizeof value);
      *tos = static_cast<uint8_t>(value);
    }
  }
}

sockaddr_in6 Mapped(const sockaddr_in6& from) {
  if (from.sin6_family != AF_INET) return from;
  sockaddr_in ipv4;
  memcpy(&ipv4, &from, sizeof ipv4);
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = ipv4.sin_port;
  mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
  memcpy(mapped.sin6_addr.s6_addr + 12, &ipv4.sin_addr, 4);
  return mapped;
}

}  // namespace

Ingress::Ingress(int socket, bool aegis, SocketTotals* totals)
    : socket_(socket), aegis_(aegis), totals_(totals), buffers_(kSlots * kBuffer) {
  for (size_t slot = kSlots; slot-- > 0;) free_.push_back(slot);
}

void Ingress::Run() {
  pollfd watched[2] = {{socket_, POLLIN, 0}, {slot.fd(), POLLIN, 0}};
  while (!slot.stopped()) {
    if (sleeps_.Wait(-1, [&](int most) { return poll(watched, 2, most); }) < 0 && errno != EINTR) return;
    if ((watched[1].revents & POLLIN) != 0) slot.Drain();
    slot.Take(&table_);
    if ((watched[0].revents & (POLLIN | POLLERR)) == 0) continue;
    do {
      Receive();
      Work();
      entry_ = nullptr;
      slot.Take(&table_);
    } while (!waiting_.empty() && !slot.stopped());
  }
}

void Ingress::Receive() {
  mmsghdr headers[kBatch];
  iovec parts[kBatch];
  sockaddr_in6 names[kBatch];
  alignas(cmsghdr) uint8_t controls[kBatch][kControl];
  size_t overtaken = 0;
  while (!free_.empty() && overtaken < kMostOvertaking) {
    const size_t room = std::min(kBatch, free_.size());
    for (size_t i = 0; i < room; ++i) {
      parts[i] = {buffers_.data() + free_[free_.size() - 1 - i] * kBuffer, kBuffer};
      memset(&headers[i], 0, sizeof headers[i]);
      memset(&names[i], 0, sizeof names[i]);
      headers[i].msg_hdr.msg_name = &names[i];
      headers[i].msg_hdr.msg_namelen = sizeof names[i];
      headers[i].msg_hdr.msg_iov = &parts[i];
      headers[i].msg_hdr.msg_iovlen = 1;
      headers[i].msg_hdr.msg_control = controls[i];
      headers[i].msg_hdr.msg_controllen = kControl;
    }
    const int got = recvmmsg(socket_, headers, static_cast<unsigned>(room), MSG_DONTWAIT, nullptr);
    if (got <= 0) return;
    const size_t count = static_cast<size_t>(got);
    size_t taken[kBatch];
    for (size_t i = 0; i < count; ++i) {
      taken[i] = free_.back();
      free_.pop_back();
    }
    for (size_t i = 0; i < count; ++i) {
      Message& message = messages_[taken[i]];
      message = {headers[i].msg_len, headers[i].msg_len, 0, Mapped(names[i])};
      ReadControl(&headers[i].msg_hdr, &message.tos, &message.segment);
      if ((headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
        Add(totals_->foreign, 1);
        free_.push_back(taken[i]);
        continue;
      }
      // A flood of what is nobody's must not take the places of a peer's datagrams, nor come between the parts of a frame.
      if (message.segment >= message.length && !MayOpen(buffers_.data() + taken[i] * kBuffer, message.length)) {
        free_.push_back(taken[i]);
        continue;
      }
      const size_t left = Datagrams(taken[i], true);
      if (left > 0) {
        waiting_.push_back(taken[i]);
      } else {
        overtaken += 1;
        // Its buffer is used again.
        unpacker_.Flush();
        free_.push_back(taken[i]);
      }
    }
    unpacker_.Flush();
    if (count < room) return;
  }
}

void Ingress::Work() {
  size_t bytes = 0;
  for (size_t done = 0; done < kBatch && bytes < kMostBytes && !waiting_.empty(); ++done) {
    const size_t at = waiting_.front();
    waiting_.pop_front();
    bytes += messages_[at].length;
    Datagrams(at, false);
    // Nothing is written there before Flush.
    free_.push_back(at);
  }
  unpacker_.Flush();
}

size_t Ingress::Datagrams(size_t at, bool overtaking) {
  const Message& message = messages_[at];
  uint8_t* bytes = buffers_.data() + at * kBuffer;
  size_t others = 0;
  for (size_t i = 0; i < message.length; i += message.segment) {
    const size_t length = std::min(message.segment, message.length - i);
    if (MayOvertake(bytes + i, length) == overtaking)
      Datagram(bytes + i, length, message.tos, message.from);
    else
      others += 1;
  }
  return others;
}

bool Ingress::Known(const uint8_t* bytes, size_t length, DatagramHeader* header) {
  if (!table_ || !ReadHeader(bytes, length, header) || (header->aead == Aead::kAegis128L && !aegis_)) {
    Add(totals_->foreign, 1);
    return false;
  }
  if (table_->receiving.count(header->index) == 0) {
    Add(totals_->unknown, 1);
    return false;
  }
  return true;
}

bool Ingress::MayOpen(const uint8_t* bytes, size_t length) {
  DatagramHeader header;
  if (!Known(bytes, length, &header)) return false;
  const auto [begin, end] = table_->receiving.equal_range(header.index);
  for (auto it = begin; it != end; ++it)
    if (it->second.key->window.MayAccept(header.counter)) return true;
  for (auto it = begin; it != end; ++it) Add(table_->peers[it->second.entry].peer->totals.replayed, 1);
  return false;
}

void Ingress::Datagram(uint8_t* bytes, size_t length, uint8_t tos, const sockaddr_in6& from) {
  DatagramHeader header;
  if (!Known(bytes, length, &header)) return;
  const auto [begin, end] = table_->receiving.equal_range(header.index);
  const bool several = std::next(begin) != end;
  const size_t text = length - kOverhead;
  uint8_t spare[kBuffer];
  if (several) memcpy(spare, bytes, length);
  for (auto it = begin; it != end; ++it) {
    const PeerEntry& entry = table_->peers[it->second.entry];
    ReceiveKey& key = *it->second.key;
    Totals& totals = entry.peer->totals;
    if (!key.window.MayAccept(header.counter)) {
      Add(totals.replayed, 1);
      continue;
    }
    Cipher* cipher = key.Of(header.aead);
    if (cipher == nullptr || !cipher->Open(NonceOf(header.aead, header.counter), bytes, kHeaderLength, bytes + kHeaderLength, text)) {
      if (std::next(it) == end) {
        Add(totals.forged, 1);
        Add(totals_->forged, 1);
      } else {
        memcpy(bytes, spare, length);
      }
      continue;
    }
    const bool newest = header.counter > key.window.highest();
    totals.lost.fetch_add(key.window.Accept(header.counter), std::memory_order_relaxed);
    Add(key.received, 1);
    Add(totals.received_datagrams, 1);
    Add(totals.received_wire_bytes, length);
    // The peer is where its newest datagram came from, and can what that says.
    if (newest) {
      entry.peer->opens_aegis.store((header.flags & kCanAegis) != 0, std::memory_order_relaxed);
      sockaddr_in6 known;
      if (!entry.peer->endpoint(&known) || known.sin6_port != from.sin6_port ||
          memcmp(&known.sin6_addr, &from.sin6_addr, sizeof known.sin6_addr) != 0)
        entry.peer->set_endpoint(from);
    }
    if (!entry.tun || text == 0) return;
    if (entry_ != &entry) unpacker_.Flush();
    entry_ = &entry;
    const Unpacker::Result result = unpacker_.Feed(bytes + kHeaderLength, text, tos);
    if (result.malformed != 0) Add(totals.malformed, result.malformed);
    if (result.refused != 0) Add(totals.refused, result.refused);
    if (result.congested != 0) Add(totals.congested, result.congested);
    return;
  }
}

bool Ingress::MayDeliver(const Packet& packet, const uint8_t* bytes, size_t length) {
  return entry_->policy && entry_->policy->MayArrive(packet, bytes, length);
}

void Ingress::Deliver(const iovec* parts, int count, size_t packets, size_t bytes) {
  Totals& totals = entry_->peer->totals;
  ssize_t written;
  do {
    written = writev(entry_->tun->fd(), parts, count);
  } while (written < 0 && errno == EINTR);
  if (written < 0) {
    Add(totals.undelivered, packets);
    return;
  }
  Add(totals.received_packets, packets);
  Add(totals.received_bytes, bytes);
}

}  // namespace arctic::tunnel
