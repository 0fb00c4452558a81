// The endpoint's sockets: what the kernel gives and takes in batches.
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "endpoint.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace arctic::kcp {
namespace {

constexpr int kSocketBuffer = 8 * 1024 * 1024;
// Bytes that one socket may bring before others have their turn.
constexpr size_t kReadBudget = 1024 * 1024;
constexpr int64_t kMostPatienceUs = 1000;
// Most segments and bytes of one UDP_SEGMENT send (Linux: UDP_MAX_SEGMENTS was 64 before 6.9).
constexpr size_t kMostSegments = 45;

void SetInt(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

int OpenSocket(int family, uint16_t port, int mark) {
  const int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  SetInt(fd, SOL_SOCKET, SO_MARK, mark);
  for (const auto& [force, ordinary] : {std::pair{SO_SNDBUFFORCE, SO_SNDBUF}, std::pair{SO_RCVBUFFORCE, SO_RCVBUF}}) {
    if (setsockopt(fd, SOL_SOCKET, force, &kSocketBuffer, sizeof kSocketBuffer) < 0) SetInt(fd, SOL_SOCKET, ordinary, kSocketBuffer);
  }
  SetInt(fd, SOL_UDP, UDP_GRO, 1);
  sockaddr_storage address{};
  address.ss_family = static_cast<sa_family_t>(family);
  socklen_t length = sizeof(sockaddr_in);
  if (family == AF_INET6) {
    SetInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    SetInt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
    length = sizeof(sockaddr_in6);
  } else {
    SetInt(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  }
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) < 0) {
    const int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

size_t SegmentLength(msghdr* message, size_t whole) {
  for (cmsghdr* item = CMSG_FIRSTHDR(message); item != nullptr; item = CMSG_NXTHDR(message, item)) {
    if (item->cmsg_level != SOL_UDP || item->cmsg_type != UDP_GRO) continue;
    int value = 0;
    memcpy(&value, CMSG_DATA(item), sizeof value);
    if (value > 0) return static_cast<size_t>(value);
  }
  return whole == 0 ? 1 : whole;
}

}  // namespace

int Endpoint::Listen(uint16_t port, int mark, const std::function<void(int)>& watched) {
  int error = 0;
  for (int index = 0; index < 2; index += 1) {
    const int fd = OpenSocket(index == 0 ? AF_INET : AF_INET6, port, mark);
    if (fd < 0) {
      // A host without IPv6 does without.
      if (index == 0 || (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)) error = -fd;
      continue;
    }
    sockets_[index] = fd;
    watched(fd);
  }
  buffers_.resize(static_cast<size_t>(kBatch) * kBuffer);
  for (auto& [id, dial] : dials_) Begin(dial.get());
  return error;
}

int Endpoint::SocketFor(const sockaddr_storage& to) const { return sockets_[to.ss_family == AF_INET6 ? 1 : 0]; }

Endpoint::Taken Endpoint::Read(int socket) {
  mmsghdr messages[kBatch];
  iovec parts[kBatch];
  sockaddr_storage names[kBatch];
  alignas(cmsghdr) uint8_t controls[kBatch][CMSG_SPACE(sizeof(int))];
  size_t taken = 0;
  Taken result;
  result.more = true;
  while (taken < kReadBudget) {
    for (int i = 0; i < kBatch; i += 1) {
      parts[i] = {buffers_.data() + static_cast<size_t>(i) * kBuffer, kBuffer};
      memset(&messages[i], 0, sizeof messages[i]);
      messages[i].msg_hdr.msg_name = &names[i];
      messages[i].msg_hdr.msg_namelen = sizeof names[i];
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_control = controls[i];
      messages[i].msg_hdr.msg_controllen = sizeof controls[i];
    }
    const int count = recvmmsg(socket, messages, kBatch, MSG_DONTWAIT, nullptr);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      result.more = false;
      break;
    }
    for (int i = 0; i < count; i += 1) {
      if ((messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) continue;
      const size_t length = messages[i].msg_len, segment = SegmentLength(&messages[i].msg_hdr, length);
      auto* bytes = static_cast<uint8_t*>(parts[i].iov_base);
      taken += length;
      for (size_t at = 0; at < length; at += segment) {
        result.datagrams += 1;
        Datagram(bytes + at, std::min(segment, length - at), names[i], messages[i].msg_hdr.msg_namelen, socket);
      }
    }
    if (count < kBatch) {
      result.more = false;
      break;
    }
  }
  std::vector<Line*> heard;
  heard.swap(heard_);
  for (Line* line : heard) {
    if (line->gone) continue;
    if (line->association->dead()) {
      End(line, line->association->reason());
      continue;
    }
    const int64_t patience = std::min(kMostPatienceUs, line->association->rate().least_rtt() / 64);
    result.patience_us = result.patience_us == 0 ? patience : std::min(result.patience_us, patience);
    owner_->OnStreams(line);
  }
  return result;
}

void Endpoint::SendBatch(Line* line) {
  const uint8_t* at = batch_.bytes();
  size_t index = 0;
  while (index < batch_.count()) {
    // A run of equal lengths, the last of which may be shorter.
    const size_t segment = batch_.length(index);
    size_t count = 1, length = segment;
    while (gso_ && index + count < batch_.count() && count < kMostSegments && batch_.length(index + count - 1) == segment &&
           batch_.length(index + count) <= segment) {
      length += batch_.length(index + count);
      count += 1;
    }
    if (!SendRun(line, at, length, count > 1 ? segment : 0) && count > 1) {
      // This kernel or device cannot do it: one by one from now on.
      gso_ = false;
      continue;
    }
    at += length;
    index += count;
  }
}

// False when the kernel refuses segmentation. Anything else is the network's loss, which the protocol repairs.
bool Endpoint::SendRun(Line* line, const uint8_t* bytes, size_t length, size_t segment) {
  iovec part{const_cast<uint8_t*>(bytes), length};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {};
  msghdr message{};
  message.msg_name = &line->to;
  message.msg_namelen = line->to_length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (segment > 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_UDP;
    item->cmsg_type = UDP_SEGMENT;
    item->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const auto value = static_cast<uint16_t>(segment);
    memcpy(CMSG_DATA(item), &value, sizeof value);
  }
  ssize_t sent;
  do {
    sent = sendmsg(line->socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0 || segment == 0 || (errno != EINVAL && errno != EMSGSIZE && errno != EIO && errno != EOPNOTSUPP);
}

}  // namespace arctic::kcp
