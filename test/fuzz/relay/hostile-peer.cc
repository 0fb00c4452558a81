// A member of the cluster that holds a session's key and behaves as badly as it can: frames of any type in any order
// and length, forged lengths, cut streams, floods of OPEN, links left half open. The relay under it, without N-API, must
// stay alive and answer an honest flow after each round; the sanitizers find the rest, leaks too.
// Usage: hostile-peer SECONDS [SEED]
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "carrier-end.h"

using namespace arctic::relay;

namespace {

void Misbehave(uint16_t carriers, uint16_t server, uint16_t closed) {
  End link;
  if (rng() % 8 == 0) {
    // Never gets as far as a session.
    link.fd = ConnectTo(carriers);
    std::vector<uint8_t> noise(rng() % 200);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(rng());
    if (rng() % 2 == 0 && noise.size() >= 4) memcpy(noise.data(), "ARC1", 4);
    send(link.fd, noise.data(), noise.size(), MSG_NOSIGNAL);
    return;
  }
  Require(link.Shake(carriers), "a member's handshake");
  uint32_t flow = 0;
  for (unsigned frames = rng() % 40; frames > 0; frames -= 1) {
    uint8_t bytes[256];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
    if (rng() % 2 == 0) arctic::Store32(bytes, flow);
    bool sent = true;
    switch (rng() % 14) {
      case 0:
      case 1:
        flow += rng() % 16 != 0;
        sent = link.SendOpen(flow, rng() % 3 == 0 ? closed : server, rng() % 4 == 0 ? "svc_other" : "svc");
        break;
      case 2:
      case 3:
      case 4:
        sent = link.Send(FrameType::kData, bytes, 1 + rng() % sizeof bytes);
        break;
      case 5:
        sent = link.Send(FrameType::kFinish, bytes, 4);
        break;
      case 6:
        sent = link.Send(FrameType::kReset, bytes, 6);
        break;
      case 7:
        sent = link.Send(FrameType::kPing, bytes, 8);
        break;
      case 8:
        sent = link.Send(FrameType::kRekey, nullptr, 0);
        break;
      case 9:
        sent = link.Send(FrameType::kPad, bytes, rng() % sizeof bytes);
        break;
      case 10:
        // Any type, any length, properly sealed.
        sent = link.Send(static_cast<FrameType>(rng() % 14), bytes, rng() % sizeof bytes);
        break;
      case 11:
        // The same sealed frame again.
        sent = link.last.empty() || link.SendRaw(link.last);
        break;
      case 12: {
        // Two frames in the wrong order.
        std::vector<uint8_t> early(kHeaderLength + 8 + kTagLength);
        link.seal->Seal(FrameType::kPing, early.data(), 8);
        sent = link.Send(FrameType::kPing, bytes, 8) && link.SendRaw(early);
        break;
      }
      default:
        sent = send(link.fd, bytes, 1 + rng() % 30, MSG_NOSIGNAL) > 0;
    }
    if (!sent) return;
  }
}

void BeHonest(uint16_t carriers, uint16_t server) {
  End link;
  Require(link.Shake(carriers), "an honest handshake");
  std::vector<uint8_t> sent(100000), got;
  for (uint8_t& byte : sent) byte = static_cast<uint8_t>(rng());
  Require(link.SendOpen(1, server, "svc"), "OPEN");
  for (size_t at = 0; at < sent.size(); at += 20000) Require(link.Send(FrameType::kData, sent.data() + at, 20000), "DATA");
  uint8_t number[4];
  arctic::Store32(number, 1);
  Require(link.Send(FrameType::kFinish, number, 4), "FINISH");
  for (;;) {
    FrameType type;
    std::vector<uint8_t> payload;
    Require(link.Receive(&type, &payload), "an answer");
    if (type == FrameType::kFinish) break;
    Require(type == FrameType::kData, "DATA of the echo");
    got.insert(got.end(), payload.begin(), payload.end());
  }
  Require(got == sent, "every byte");
}

// What TypeScript does: a session nobody knows is no session.
void AnswerEvents(Relay* relay) {
  const std::string events = relay->shared().DrainEvents();
  for (size_t at = 0; (at = events.find("session\t", at)) != std::string::npos; at += 8) {
    NoSession none;
    for (size_t index = 0; index < none.id.size(); index += 1) {
      none.id[index] = static_cast<uint8_t>(strtoul(events.substr(at + 8 + 2 * index, 2).c_str(), nullptr, 16));
    }
    relay->Post(none);
  }
}

// Echoes on every connection until told to stop.
void Echo(int listener, const std::atomic<bool>* stop) {
  std::vector<pollfd> all = {{listener, POLLIN, 0}};
  while (!*stop) {
    if (poll(all.data(), all.size(), 50) <= 0) continue;
    const size_t count = all.size();
    for (size_t index = 0; index < count; index += 1) {
      if (all[index].revents == 0) continue;
      if (index == 0) {
        all.push_back({accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), POLLIN, 0});
        continue;
      }
      uint8_t bytes[65536];
      const ssize_t got = recv(all[index].fd, bytes, sizeof bytes, 0);
      if (got <= 0 || send(all[index].fd, bytes, static_cast<size_t>(got), MSG_NOSIGNAL) < got) {
        close(all[index].fd);
        all[index].fd = -1;
      }
    }
    for (size_t index = all.size() - 1; index > 0; index -= 1) {
      if (all[index].fd < 0) all.erase(all.begin() + static_cast<long>(index));
    }
  }
  for (const pollfd& one : all) close(one.fd);
}

}  // namespace

int main(int count, char** arguments) {
  const int seconds = count > 1 ? atoi(arguments[1]) : 5;
  rng.seed(count > 2 ? static_cast<unsigned>(atoi(arguments[2])) : 1);
  uint16_t server = 0, closed = 0, carriers = 0;
  const int echo = ListenOn(&server);
  close(ListenOn(&closed));
  std::atomic<bool> stop{false};
  std::thread echoing(Echo, echo, &stop);
  uint64_t rounds = 0;
  {
    Relay relay;
    Require(relay.Start() == 0, "start");
    Limits limits;
    limits.most_links = 64;
    limits.wait_timeout = limits.connect_timeout = limits.handshake_timeout = 2000;
    limits.idle_timeout = limits.ping_every = limits.silence_timeout = 60000;
    limits.backoff_least = 50;
    limits.backoff_most = 500;
    limits.rekey_frames = 16;
    limits.rekey_after = 3600000;
    limits.most_flows = 256;
    limits.most_handshakes = 64;
    limits.user_timeout = 5000;
    limits.aegis = 1;
    limits.most_service_flows = limits.most_peer_flows = 256;
    limits.most_source_handshakes = 64;
    relay.Post(limits);
    Configure config;
    Service service;
    service.id = "svc";
    service.peer = "peer";
    Prefix loopback;
    loopback.address.bytes[0] = 127;
    loopback.length = 8;
    service.rules.push_back({std::nullopt, loopback});
    config.exits.push_back(service);
    relay.Post(config);
    SetSession session;
    session.id = kSession;
    session.key = kSessionKey;
    session.peer = "peer";
    relay.Post(session);
    Listen listen;
    listen.fd = ListenOn(&carriers);
    listen.port = carriers;
    relay.Post(listen);
    for (const time_t end = time(nullptr) + seconds; time(nullptr) < end; rounds += 1) {
      Misbehave(carriers, server, closed);
      if (rounds % 20 == 0) BeHonest(carriers, server);
      AnswerEvents(&relay);
    }
    relay.Stop();
    Require(relay.shared().flows == 0, "no flow is left");
  }
  stop = true;
  echoing.join();
  printf("%llu rounds\n", static_cast<unsigned long long>(rounds));
}
