#include "endpoint.h"

#include <errno.h>
#include <netinet/udp.h>
#include <openssl/rand.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

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
constexpr int kMostRounds = 8;
constexpr int64_t kMostPatienceUs = 1000;
constexpr int kMostUnknown = 32;
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

Endpoint::~Endpoint() {
  for (auto& [name, line] : lines_) {
    if (line->gone) continue;
    batch_.Clear();
    line->association->Close(*now_us_, &batch_);
    SendBatch(line.get());
  }
  for (const int socket : sockets_) {
    if (socket >= 0) close(socket);
  }
}

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

void Endpoint::Datagram(uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket) {
  if (length == 0) return;
  if (bytes[0] == static_cast<uint8_t>(Type::kHello)) {
    OnHello(bytes, length, from, from_length, socket);
    return;
  }
  if (bytes[0] == static_cast<uint8_t>(Type::kWelcome)) {
    OnWelcome(bytes, length, from, from_length, socket);
    return;
  }
  DatagramHeader header;
  if (!DecodeHeader(bytes, length, &header)) {
    refused_ += 1;
    return;
  }
  const auto found = lines_.find(header.association);
  if (found == lines_.end()) {
    refused_ += 1;
    return;
  }
  Line* line = found->second.get();
  if (!line->association->Receive(bytes, length, *now_us_)) {
    refused_ += 1;
    return;
  }
  if (!line->confirmed) {
    line->confirmed = true;
    line->timer.Cancel();
    pending_ -= 1;
    // The answer measures the round trip, which the dialer's handshake has told the dialer only.
    line->association->Ping();
  }
  // The peer is where its newest datagram came from.
  if ((header.counter & kControlBit) == 0 && line->association->NewestFrom(header.counter) &&
      (line->to_length != from_length || memcmp(&line->to, &from, from_length) != 0)) {
    memcpy(&line->to, &from, from_length);
    line->to_length = from_length;
    line->socket = socket;
  }
  if (!line->dirty) {
    line->dirty = true;
    dirty_.push_back(line);
  }
  if (heard_.empty() || heard_.back() != line) heard_.push_back(line);
}

void Endpoint::OnHello(const uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket) {
  Hello hello;
  if (!PeekHello(bytes, length, &hello)) {
    refused_ += 1;
    return;
  }
  if (*now_us_ - unknown_since_ > 1'000'000) {
    unknown_since_ = *now_us_;
    unknown_ = 0;
  }
  // Whoever invents sessions has few of them looked up, and cannot keep others from being recognised.
  const std::shared_ptr<Session> session = owner_->FindSession(hello.session, unknown_ < kMostUnknown);
  if (session == nullptr) {
    unknown_ += 1;
    refused_ += 1;
    return;
  }
  // The dialer is the initiator of the session when this host is not.
  const bool initiator = !session->initiator;
  if (session->retired || !ProveHello(bytes, session->key, initiator)) {
    refused_ += 1;
    return;
  }
  size_t waiting = 0;
  for (auto& [name, line] : lines_) {
    if (line->gone || line->session != session || line->association->dialer()) continue;
    if (line->dialer_nonce == hello.nonce) {
      // The answer got lost. One who repeats a HELLO of somebody else gains nothing by hearing it again.
      sendto(socket, line->welcome, sizeof line->welcome, 0, reinterpret_cast<const sockaddr*>(&from), from_length);
      return;
    }
    if (!line->confirmed) waiting += 1;
  }
  if (waiting >= kMostPendingOfOne || pending_ >= most_handshakes_) {
    refused_ += 1;
    return;
  }
  Welcome welcome;
  welcome.dialer = hello.association;
  welcome.acceptor = FreshName();
  RAND_bytes(welcome.nonce.data(), static_cast<int>(welcome.nonce.size()));
  Secrets secrets;
  DeriveSecrets(session->key, session->id, initiator, hello.nonce, welcome.nonce, &secrets);
  Line* line = Add(session, from, from_length, socket, welcome.acceptor);
  line->dialer_nonce = hello.nonce;
  // Its first real round trip tells better; a long guess only means patience.
  line->association = std::make_unique<Association>(false, secrets.to_dialer, secrets.to_acceptor, hello.association, *now_us_,
                                                    200'000, settings_);
  EncodeWelcome(welcome, bytes, secrets, line->welcome);
  pending_ += 1;
  line->timer.Set(timers_, *now_us_ + handshake_us_, [this, line] {
    if (!line->confirmed) End(line, nullptr);
  });
  sendto(socket, line->welcome, sizeof line->welcome, 0, reinterpret_cast<const sockaddr*>(&from), from_length);
}

void Endpoint::OnWelcome(const uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket) {
  Welcome welcome;
  Dial* dial = nullptr;
  if (PeekWelcome(bytes, length, &welcome)) {
    for (auto& [id, one] : dials_) {
      if (one->asking && one->name == welcome.dialer) dial = one.get();
    }
  }
  if (dial == nullptr || dial->session == nullptr) {
    refused_ += 1;
    return;
  }
  Secrets secrets;
  DeriveSecrets(dial->session->key, dial->session->id, dial->session->initiator, dial->nonce, welcome.nonce, &secrets);
  if (!ProveWelcome(bytes, dial->hello, secrets)) {
    refused_ += 1;
    return;
  }
  dial->asking = false;
  dial->timer.Cancel();
  Line* line = Add(dial->session, from, from_length, socket, dial->name);
  line->confirmed = true;
  line->association = std::make_unique<Association>(true, secrets.to_acceptor, secrets.to_dialer, welcome.acceptor, *now_us_,
                                                    *now_us_ - dial->sent_at, settings_);
  Line* before = dial->up;
  dial->up = line;
  // The first datagram under the keys proves this side to the other.
  line->association->Ping();
  line->association->SetProbing(dial->probed);
  Touch(line);
  if (before != nullptr) {
    before->retiring = true;
    EndWhenEmpty(before);
  }
  SetStanding(dial, Standing::kUp);
  owner_->OnLineUp(dial->peer);
}

uint32_t Endpoint::FreshName() {
  for (;;) {
    uint32_t name = 0;
    RAND_bytes(reinterpret_cast<uint8_t*>(&name), sizeof name);
    if (name == 0 || lines_.count(name) > 0) continue;
    const bool dialed = std::any_of(dials_.begin(), dials_.end(), [name](const auto& one) { return one.second->name == name; });
    if (!dialed) return name;
  }
}

Line* Endpoint::Add(std::shared_ptr<Session> session, const sockaddr_storage& to, socklen_t length, int socket, uint32_t name) {
  auto line = std::make_unique<Line>();
  Line* raw = line.get();
  raw->name = name;
  raw->session = std::move(session);
  memcpy(&raw->to, &to, length);
  raw->to_length = length;
  raw->socket = socket;
  lines_.emplace(name, std::move(line));
  return raw;
}

void Endpoint::SetStanding(Dial* dial, Standing standing) {
  if (dial->standing == standing) return;
  dial->standing = standing;
  owner_->OnStanding(dial->peer, standing);
}

void Endpoint::Want(const std::string& peer, const sockaddr_storage& to, socklen_t length, std::shared_ptr<Session> session,
                    bool probed) {
  std::unique_ptr<Dial>& dial = dials_[peer];
  const bool known = dial != nullptr;
  if (!known) {
    dial = std::make_unique<Dial>();
    dial->peer = peer;
  }
  const bool moved = dial->to_length != length || memcmp(&dial->to, &to, length) != 0;
  memcpy(&dial->to, &to, length);
  dial->to_length = length;
  dial->probed = probed;
  if (Line* line = UpTo(peer)) {
    line->association->SetProbing(probed);
    Touch(line);
  }
  if (known && !moved) return;
  if (session != nullptr) dial->session = std::move(session);
  Begin(dial.get());
}

void Endpoint::Renew(const std::string& peer, std::shared_ptr<Session> session) {
  const auto found = dials_.find(peer);
  if (found == dials_.end() || found->second->session == session) return;
  found->second->session = std::move(session);
  Begin(found->second.get());
}

void Endpoint::Unwant(const std::string& peer) {
  const auto found = dials_.find(peer);
  if (found == dials_.end()) return;
  Line* line = found->second->up;
  SetStanding(found->second.get(), Standing::kNone);
  dials_.erase(found);
  if (line == nullptr) return;
  line->retiring = true;
  EndWhenEmpty(line);
}

void Endpoint::Retire(const std::shared_ptr<Session>& session, bool removed) {
  for (auto& [id, dial] : dials_) {
    if (dial->session != session) continue;
    dial->session = nullptr;
    dial->asking = false;
    dial->timer.Cancel();
  }
  std::vector<Line*> lines;
  for (auto& [name, line] : lines_) {
    if (!line->gone && line->session == session) lines.push_back(line.get());
  }
  for (Line* line : lines) {
    if (removed) {
      Leave(line);
    } else if (line->association->dialer()) {
      // Until the one under the next session is up, this one serves.
      const auto dial = dials_.find(session->peer);
      const bool serves = dial != dials_.end() && dial->second->up == line;
      if (serves && dial->second->session != nullptr) continue;
      if (serves) dial->second->up = nullptr;
      line->retiring = true;
      EndWhenEmpty(line);
    }
  }
}

void Endpoint::Begin(Dial* dial) {
  dial->timer.Cancel();
  if (SocketFor(dial->to) < 0) {
    SetStanding(dial, Standing::kUnreachable);
    return;
  }
  if (dial->session == nullptr) return;
  dial->name = FreshName();
  RAND_bytes(dial->nonce.data(), static_cast<int>(dial->nonce.size()));
  Hello hello;
  hello.association = dial->name;
  hello.session = dial->session->id;
  hello.nonce = dial->nonce;
  EncodeHello(hello, dial->session->key, dial->session->initiator, dial->hello);
  dial->asking = true;
  dial->attempts = 0;
  dial->began_at = *now_us_;
  if (dial->standing != Standing::kUp && dial->standing != Standing::kUnreachable) SetStanding(dial, Standing::kTrying);
  SayHello(dial);
}

void Endpoint::SayHello(Dial* dial) {
  dial->attempts += 1;
  dial->sent_at = *now_us_;
  sendto(SocketFor(dial->to), dial->hello, sizeof dial->hello, 0, reinterpret_cast<const sockaddr*>(&dial->to), dial->to_length);
  const int64_t wait = dial->attempts < 8 ? std::min<int64_t>(200'000 << dial->attempts / 2, kSlowRetryUs) : kSlowRetryUs;
  dial->timer.Set(timers_, *now_us_ + wait, [this, dial] {
    if (*now_us_ - dial->began_at >= kUnreachableUs && dial->up == nullptr) SetStanding(dial, Standing::kUnreachable);
    SayHello(dial);
  });
}

Line* Endpoint::UpTo(const std::string& peer) {
  const auto found = dials_.find(peer);
  if (found == dials_.end() || found->second->up == nullptr) return nullptr;
  Line* line = found->second->up;
  return line->gone || line->association->dead() ? nullptr : line;
}

void Endpoint::Touch(Line* line) {
  if (line->dirty || line->gone) return;
  line->dirty = true;
  dirty_.push_back(line);
}

void Endpoint::Flush() {
  for (int round = 0; round < kMostRounds && !dirty_.empty(); round += 1) {
    std::vector<Line*> lines;
    lines.swap(dirty_);
    for (Line* line : lines) {
      line->dirty = false;
      if (!line->gone) Pump(line);
    }
  }
  graveyard_.clear();
}

void Endpoint::Pump(Line* line) {
  Association& association = *line->association;
  for (int batches = 0; batches < kMostRounds; batches += 1) {
    batch_.Clear();
    association.Send(*now_us_, &batch_);
    SendBatch(line);
    if (batch_.room() > Batch::kMost / 2) break;
  }
  if (!association.dead()) owner_->OnStreams(line);
  if (association.dead()) {
    End(line, association.reason());
    return;
  }
  if (line->gone) return;
  EndWhenEmpty(line);
  if (line->gone || !line->confirmed) return;
  const int64_t next = association.NextAt(*now_us_);
  if (next != Association::kNever) {
    line->timer.Set(timers_, std::max(next, *now_us_ + 1), [this, line] { Touch(line); });
  }
}

void Endpoint::EndWhenEmpty(Line* line) {
  if (!line->retiring || line->gone || line->association->streams() > 0) return;
  Leave(line);
}

// Tells the peer, and ends it.
void Endpoint::Leave(Line* line) {
  batch_.Clear();
  line->association->Close(*now_us_, &batch_);
  SendBatch(line);
  End(line, nullptr);
}

// `reason` is for the log; null when this side wanted it so.
void Endpoint::End(Line* line, const char* reason) {
  if (line->gone) return;
  line->gone = true;
  line->timer.Cancel();
  if (!line->confirmed) pending_ -= 1;
  owner_->OnLineDown(line, reason);
  // Timers and lists may name it until the end of the round.
  const auto found = lines_.find(line->name);
  graveyard_.push_back(std::move(found->second));
  lines_.erase(found);
  dirty_.erase(std::remove(dirty_.begin(), dirty_.end(), line), dirty_.end());
  for (auto& [id, dial] : dials_) {
    if (dial->up != line) continue;
    dial->up = nullptr;
    SetStanding(dial.get(), Standing::kTrying);
    if (!dial->asking) Begin(dial.get());
  }
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
