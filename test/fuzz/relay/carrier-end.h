// One end of a carrier that is not the relay's: it knows the session's key and does what it is told, right or wrong.
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <random>
#include <vector>

#include "../../../src/native/relay/relay.h"

namespace arctic::relay {

inline const Key kSessionKey = {7};
inline const SessionId kSession = {9};
inline std::mt19937 rng;

inline void Require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "failed: %s\n", what);
  abort();
}

inline int ListenOn(uint16_t* port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Require(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(fd, 1024) == 0, "listen");
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  *port = ntohs(address.sin_port);
  return fd;
}

inline int ConnectTo(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Require(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "connect");
  const timeval patience{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const int at_once = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
  return fd;
}

inline bool ReadFully(int fd, uint8_t* bytes, size_t length) {
  while (length > 0) {
    const ssize_t got = recv(fd, bytes, length, 0);
    if (got <= 0) return false;
    bytes += got;
    length -= static_cast<size_t>(got);
  }
  return true;
}

struct End {
  int fd = -1;
  std::unique_ptr<Direction> seal, open;
  // The frame sent last, sealed.
  std::vector<uint8_t> last;

  // As a dialer.
  bool Shake(uint16_t port) {
    fd = ConnectTo(port);
    Nonce nonce;
    for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(rng());
    uint8_t hello[kHelloLength];
    // Half of them can do better than the least.
    const Suite best = rng() % 2 == 0 && HasSuite(Suite::kAegis128L) ? Suite::kAegis128L : Suite::kAes256Gcm;
    EncodeHello(kSession, nonce, best, hello);
    send(fd, hello, sizeof hello, MSG_NOSIGNAL);
    uint8_t welcome[kWelcomeLength], confirm[kHeaderLength + 32 + kTagLength];
    Nonce theirs;
    Suite suite = Suite::kAes256Gcm;
    if (!ReadFully(fd, welcome, sizeof welcome) || !DecodeWelcome(welcome, &theirs, &suite)) return false;
    Require(suite == best, "the suite that was offered");
    Secrets secrets;
    DeriveSecrets(kSession, kSessionKey, true, nonce, theirs, best, suite, &secrets);
    seal = std::make_unique<Direction>(secrets.to_acceptor, Direction::Use::kSeal, suite);
    open = std::make_unique<Direction>(secrets.to_dialer, Direction::Use::kOpen, suite);
    if (!ReadFully(fd, confirm, sizeof confirm) || !open->OpenFrame(confirm, 32)) return false;
    return Send(FrameType::kConfirm, secrets.transcript.data(), 32);
  }
  // As the acceptor of a connection that has been accepted.
  bool Answer(int accepted) {
    fd = accepted;
    const timeval patience{2, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    uint8_t hello[kHelloLength], welcome[kWelcomeLength], confirm[kHeaderLength + 32 + kTagLength];
    SessionId id;
    Nonce theirs, ours;
    Suite offered;
    if (!ReadFully(fd, hello, sizeof hello) || !DecodeHello(hello, &id, &theirs, &offered)) return false;
    for (uint8_t& byte : ours) byte = static_cast<uint8_t>(rng());
    const Suite suite = rng() % 2 == 0 ? offered : Suite::kAes256Gcm;
    EncodeWelcome(ours, suite, welcome);
    Secrets secrets;
    DeriveSecrets(kSession, kSessionKey, false, theirs, ours, offered, suite, &secrets);
    seal = std::make_unique<Direction>(secrets.to_dialer, Direction::Use::kSeal, suite);
    open = std::make_unique<Direction>(secrets.to_acceptor, Direction::Use::kOpen, suite);
    send(fd, welcome, sizeof welcome, MSG_NOSIGNAL);
    if (!Send(FrameType::kConfirm, secrets.transcript.data(), 32)) return false;
    return ReadFully(fd, confirm, sizeof confirm) && open->OpenFrame(confirm, 32);
  }
  bool Send(FrameType type, const uint8_t* payload, size_t length) {
    std::vector<uint8_t> frame(kHeaderLength + length + kTagLength);
    if (length > 0) memcpy(frame.data() + kHeaderLength, payload, length);
    seal->Seal(type, frame.data(), static_cast<uint32_t>(length));
    last = std::move(frame);
    return SendRaw(last);
  }
  bool SendRaw(const std::vector<uint8_t>& bytes) {
    return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  bool SendOpen(uint32_t flow, uint16_t port, const char* service) {
    Open request;
    request.flow = flow;
    request.service = service;
    request.destination_port = port;
    const uint8_t loopback[4] = {127, 0, 0, 1};
    memcpy(request.destination.bytes, loopback, 4);
    memcpy(request.source.bytes, loopback, 4);
    uint8_t payload[kMaxOpen];
    return Send(FrameType::kOpen, payload, EncodeOpen(request, payload));
  }
  // The next frame that is not OPENED.
  bool Receive(FrameType* type, std::vector<uint8_t>* payload) {
    for (;;) {
      uint8_t head[kHeaderLength];
      Header header;
      if (!ReadFully(fd, head, sizeof head) || !DecodeHeader(head, &header)) return false;
      std::vector<uint8_t> frame(kHeaderLength + header.length + kTagLength);
      memcpy(frame.data(), head, sizeof head);
      if (!ReadFully(fd, frame.data() + kHeaderLength, frame.size() - kHeaderLength)) return false;
      if (!open->OpenFrame(frame.data(), header.length)) return false;
      if (header.type == FrameType::kOpened) continue;
      *type = header.type;
      payload->assign(frame.begin() + kHeaderLength, frame.end() - kTagLength);
      return true;
    }
  }
  ~End() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace arctic::relay
