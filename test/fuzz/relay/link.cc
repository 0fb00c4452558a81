// A member plays a script of frames to a relay that lives as long as the process: as the dialer of a link, or as the acceptor
// of one that the relay has dialed for a client. libFuzzer's entry; driver.cc where there is no clang.
// Script: one byte (bit 0: accept), then (how << 4 | type, length, payload) again and again.
#include <poll.h>

#include "carrier-end.h"

using namespace arctic::relay;

namespace {

enum How : uint8_t { kSealed, kOpenFrame, kRaw, kAgain, kSwapped, kForgedLength, kNumbered };

struct World {
  Relay relay;
  uint16_t carriers = 0, client = 0, links = 0, server = 0;
  int link_listener = -1, server_listener = -1;

  World() {
    Require(relay.Start() == 0, "start");
    Limits limits;
    limits.warm = 1;
    limits.most_links = 64;
    limits.wait_timeout = limits.connect_timeout = limits.handshake_timeout = 2000;
    limits.idle_timeout = limits.ping_every = limits.silence_timeout = 60000;
    limits.backoff_least = limits.backoff_most = 1;
    limits.rekey_frames = 16;
    limits.rekey_after = 3600000;
    limits.most_flows = limits.most_service_flows = limits.most_peer_flows = 64;
    limits.most_handshakes = limits.most_source_handshakes = 64;
    limits.user_timeout = 5000;
    limits.aegis = 1;
    relay.Post(limits);
    link_listener = ListenOn(&links);
    server_listener = ListenOn(&server);
    SetSession session;
    session.id = kSession;
    session.key = kSessionKey;
    session.peer = "peer";
    session.initiator = false;
    session.current = true;
    relay.Post(session);
    Configure config;
    Service exit;
    exit.id = "svc";
    exit.peer = "peer";
    Prefix loopback;
    loopback.address.bytes[0] = 127;
    loopback.length = 8;
    exit.rules.push_back({std::nullopt, loopback});
    config.exits.push_back(exit);
    Service entry;
    entry.id = "entry";
    entry.peer = "peer";
    entry.mark = 0x41000001;
    config.entries.push_back(entry);
    PeerAddress peer;
    peer.id = "peer";
    const uint8_t here[4] = {127, 0, 0, 1};
    memcpy(peer.address.bytes, here, 4);
    peer.port = links;
    config.peers.push_back(peer);
    relay.Post(config);
    Listen listen;
    listen.fd = ListenOn(&carriers);
    listen.port = carriers;
    relay.Post(listen);
    // Accepted connections have the mark of their listener.
    listen.fd = ListenOn(&client);
    const int mark = 0x41000001;
    setsockopt(listen.fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
    listen.captured = true;
    listen.port = 1;
    relay.Post(listen);
  }
};

void Drain(int listener) {
  for (pollfd one{listener, POLLIN, 0}; poll(&one, 1, 0) > 0;) close(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
}

void Play(End* end, World* world, const uint8_t* data, size_t size) {
  std::vector<uint8_t> held;
  for (size_t at = 0; at + 2 <= size;) {
    const auto how = static_cast<How>(data[at] >> 4);
    const auto type = static_cast<FrameType>(data[at] & 15);
    const size_t length = std::min<size_t>(data[at + 1], size - at - 2);
    std::vector<uint8_t> payload(data + at + 2, data + at + 2 + length);
    at += 2 + length;
    bool sent = true;
    switch (how) {
      case kOpenFrame:
        sent = end->SendOpen(length > 0 ? payload[0] : 1, world->server, length > 1 && payload[1] % 4 == 0 ? "other" : "svc");
        break;
      case kRaw:
        sent = end->SendRaw(payload);
        break;
      case kAgain:
        sent = end->SendRaw(end->last);
        break;
      case kSwapped: {
        held.resize(kHeaderLength + length + kTagLength);
        if (length > 0) memcpy(held.data() + kHeaderLength, payload.data(), length);
        end->seal->Seal(type, held.data(), static_cast<uint32_t>(length));
        break;
      }
      case kForgedLength: {
        std::vector<uint8_t> frame(kHeaderLength + length + kTagLength);
        end->seal->Seal(type, frame.data(), static_cast<uint32_t>(length));
        frame[3] ^= 1;
        sent = end->SendRaw(frame);
        break;
      }
      case kNumbered:
        // FINISH and RESET of flow 1 and the like.
        payload.insert(payload.begin(), {0, 0, 0, 1});
        sent = end->Send(type, payload.data(), payload.size());
        break;
      default:
        sent = end->Send(type, payload.data(), length);
    }
    if (sent && how != kSwapped && !held.empty()) {
      sent = end->SendRaw(held);
      held.clear();
    }
    if (!sent) return;
  }
  // What it has to say is read, so that its side goes on; then the link is cut.
  shutdown(end->fd, SHUT_WR);
  uint8_t bytes[4096];
  while (recv(end->fd, bytes, sizeof bytes, 0) > 0) {
  }
}

}  // namespace

// The relay outlives main here, and with it what OpenSSL keeps for its thread; hostile-peer.cc is held to leaking nothing.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  if (size < 1) return 0;
  End end;
  if ((data[0] & 1) == 0) {
    Require(end.Shake(world.carriers), "a member's handshake");
    Play(&end, &world, data + 1, size - 1);
  } else {
    const int client = ConnectTo(world.client);
    send(client, "hello", 5, MSG_NOSIGNAL);
    pollfd one{world.link_listener, POLLIN, 0};
    Require(poll(&one, 1, 5000) == 1, "the relay dials");
    // A link that was given up meanwhile does not shake hands.
    if (end.Answer(accept4(world.link_listener, nullptr, nullptr, SOCK_CLOEXEC))) Play(&end, &world, data + 1, size - 1);
    close(client);
  }
  Drain(world.server_listener);
  world.relay.shared().DrainEvents();
  return 0;
}
