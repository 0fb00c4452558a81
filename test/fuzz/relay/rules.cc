// What a member may not do to an exit, one thing after another: each is refused, and nothing of it reaches a destination.
#include <errno.h>
#include <poll.h>

#include <functional>

#include "carrier-end.h"

using namespace arctic::relay;

namespace {

constexpr uint32_t kPeerFlows = 2, kSourceHandshakes = 3, kLinks = 8;

Limits Few() {
  Limits limits;
  limits.most_links = kLinks;
  limits.handshake_timeout = 200;
  limits.wait_timeout = limits.connect_timeout = 2000;
  limits.idle_timeout = limits.ping_every = limits.silence_timeout = 60000;
  limits.backoff_least = limits.backoff_most = 50;
  limits.rekey_frames = 1000;
  limits.rekey_after = 3600000;
  limits.renewal_grace = 50;
  limits.most_flows = limits.most_service_flows = limits.most_handshakes = 64;
  limits.most_peer_flows = kPeerFlows;
  limits.most_source_handshakes = kSourceHandshakes;
  limits.user_timeout = 5000;
  limits.aegis = 1;
  return limits;
}

Service Exit(const char* id, const char* peer, uint8_t first, uint8_t last, uint8_t length) {
  Service service;
  service.id = id;
  service.peer = peer;
  Prefix prefix;
  prefix.address.bytes[0] = first;
  prefix.address.bytes[3] = last;
  prefix.length = length;
  service.rules.push_back({std::nullopt, prefix});
  return service;
}

struct World {
  Relay relay;
  uint16_t carriers = 0, server = 0;
  int listener = ListenOn(&server);

  World() {
    Require(relay.Start() == 0, "start");
    relay.Post(Few());
    Configure config;
    config.exits = {Exit("svc", "peer", 127, 0, 8), Exit("narrow", "peer", 127, 2, 32), Exit("wide", "peer", 0, 0, 0),
                    Exit("foreign", "other", 127, 0, 8), Exit("sourced", "peer", 127, 0, 8)};
    Prefix ten;
    ten.address.bytes[0] = 10;
    ten.length = 8;
    config.exits.back().rules[0].source = ten;
    relay.Post(config);
    Know();
    Listen listen;
    listen.fd = ListenOn(&carriers);
    listen.port = carriers;
    relay.Post(listen);
  }
  ~World() {
    relay.Stop();
    close(listener);
  }
  void Know() {
    SetSession session;
    session.id = kSession;
    session.key = kSessionKey;
    session.peer = "peer";
    relay.Post(session);
  }
  void Forget(bool removed) {
    Retire retire;
    retire.id = kSession;
    retire.peer = "peer";
    retire.removed = removed;
    relay.Post(retire);
  }
  bool Dialed(int wait_ms) const {
    pollfd one{listener, POLLIN, 0};
    return poll(&one, 1, wait_ms) == 1;
  }
  // The destination's end of a flow.
  int Accept() const {
    Require(Dialed(5000), "the exit dials");
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    const timeval patience{5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
  }
  // What was freed is free within a moment.
  static void Soon(const std::function<bool()>& holds, const char* what) {
    for (int i = 0; i < 100; ++i, usleep(20000))
      if (holds()) return;
    Require(false, what);
  }
};

// The other side has ended it, whatever it said before.
bool Ended(int fd) {
  uint8_t bytes[4096];
  ssize_t got;
  while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0) {
  }
  return got == 0 || errno == ECONNRESET;
}

bool Refused(End* end, int error) {
  FrameType type;
  std::vector<uint8_t> payload;
  return end->Receive(&type, &payload) && type == FrameType::kReset && arctic::Load16(payload.data() + 4) == error;
}

bool Numbered(End* end, FrameType type) {
  const uint8_t one[4] = {0, 0, 0, 1};
  return end->Send(type, one, sizeof one);
}

std::vector<uint8_t> Sealed(End* end, const char* text) {
  const size_t length = strlen(text);
  std::vector<uint8_t> frame(kHeaderLength + length + kTagLength);
  memcpy(frame.data() + kHeaderLength, text, length);
  end->seal->Seal(FrameType::kData, frame.data(), static_cast<uint32_t>(length));
  return frame;
}

// Destinations that its routes do not allow, and services of others.
void Destinations(World* world) {
  for (const char* service : {"narrow", "wide", "foreign", "sourced", "none"}) {
    End end;
    Require(end.Shake(world->carriers) && end.SendOpen(1, world->server, service), "OPEN");
    Require(Refused(&end, EACCES), service);
    Require(!world->Dialed(0), "nobody is dialed");
  }
}

// With a flow open: `misbehaves` ends the link, and the destination has had `before` and no more.
void Breaks(World* world, const char* what, const char* before, const std::function<void(End*)>& misbehaves) {
  End end;
  Require(end.Shake(world->carriers) && end.SendOpen(1, world->server, "svc"), "OPEN");
  const int far = world->Accept();
  if (*before != 0) Require(end.Send(FrameType::kData, reinterpret_cast<const uint8_t*>(before), strlen(before)), "DATA");
  misbehaves(&end);
  Require(Ended(end.fd), what);
  std::string got(64, 0);
  size_t length = 0;
  for (ssize_t more; (more = recv(far, &got[length], got.size() - length, 0)) > 0;) length += static_cast<size_t>(more);
  got.resize(length);
  // Cut off, it may lose what was under way.
  Require(std::string(before).compare(0, got.size(), got) == 0, what);
  close(far);
}

void Order(World* world) {
  Breaks(world, "a replay", "once", [](End* end) { end->SendRaw(end->last); });
  Breaks(world, "the wrong order", "", [](End* end) {
    const auto first = Sealed(end, "first"), second = Sealed(end, "second");
    end->SendRaw(second);
    end->SendRaw(first);
  });
  Breaks(world, "a frame left out", "", [](End* end) {
    Sealed(end, "lost");
    end->SendRaw(Sealed(end, "next"));
  });
  Breaks(world, "a forged length", "", [](End* end) {
    auto frame = Sealed(end, "forged");
    frame[3] -= 1;
    end->SendRaw(frame);
  });
  Breaks(world, "a length beyond all", "", [](End* end) { end->SendRaw({static_cast<uint8_t>(FrameType::kData), 0xff, 0xff, 0xff}); });
  Breaks(world, "a changed byte", "", [](End* end) {
    auto frame = Sealed(end, "changed");
    frame.back() ^= 1;
    end->SendRaw(frame);
  });
  Breaks(world, "DATA after FINISH", "said", [](End* end) {
    Numbered(end, FrameType::kFinish);
    end->SendRaw(Sealed(end, "more"));
  });
  Breaks(world, "a second OPEN", "", [world](End* end) { end->SendOpen(2, world->server, "svc"); });
  End end;
  Require(end.Shake(world->carriers) && end.SendOpen(2, world->server, "svc") && Ended(end.fd), "a number left out");
  Require(!world->Dialed(0), "nobody is dialed");
}

void Floods(World* world) {
  End flows[kPeerFlows];
  int far[kPeerFlows];
  for (uint32_t i = 0; i < kPeerFlows; ++i) {
    // The places of flows before are freed in a moment.
    World::Soon([&] { return flows[i].Shake(world->carriers) && flows[i].SendOpen(1, world->server, "svc") && world->Dialed(200); },
                "a flow");
    far[i] = world->Accept();
  }
  for (int times = 0; times < 3; ++times) {
    End more;
    Require(more.Shake(world->carriers) && more.SendOpen(1, world->server, "svc") && Refused(&more, ENOBUFS), "one too many");
  }
  Require(!world->Dialed(0), "nobody is dialed");
  for (const int fd : far) close(fd);

  // So long that none of the silent ones is given up meanwhile.
  Limits patient = Few();
  patient.handshake_timeout = 30000;
  world->relay.Post(patient);
  int silent[kSourceHandshakes];
  for (int& fd : silent) fd = ConnectTo(world->carriers);
  const int last = ConnectTo(world->carriers);
  Require(Ended(last), "one silent source has its places and no more");
  close(last);
  for (const int fd : silent) close(fd);
  world->relay.Post(Few());
  World::Soon([&] { return End().Shake(world->carriers); }, "then there is room again");
}

// A connection whose HELLO was answered; -1 when it was not.
int Greeted(uint16_t port) {
  const int fd = ConnectTo(port);
  uint8_t hello[kHelloLength], welcome[kWelcomeLength];
  EncodeHello(kSession, Nonce{}, Suite::kAes256Gcm, hello);
  if (send(fd, hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello && ReadFully(fd, welcome, sizeof welcome)) return fd;
  close(fd);
  return -1;
}

void Links(World* world) {
  End idle[kLinks];
  // Those that were closed on this side are gone by now.
  World::Soon([&] { return world->relay.shared().flows == 0; }, "no flow is left");
  for (End& end : idle) {
    // Answered, it is counted.
    const uint8_t asked[8] = {};
    FrameType type;
    std::vector<uint8_t> payload;
    Require(end.Shake(world->carriers) && end.Send(FrameType::kPing, asked, sizeof asked), "a link");
    Require(end.Receive(&type, &payload) && type == FrameType::kPong, "an answer");
  }
  // Told at its HELLO: an established one might have a flow on it.
  const auto refused = [world] {
    End more;
    return !more.Shake(world->carriers) && Ended(more.fd);
  };
  Require(refused(), "one link too many");
  close(idle[0].fd);
  idle[0].fd = -1;
  int unproven = -1;
  World::Soon([&] { return (unproven = Greeted(world->carriers)) >= 0; }, "there is room again");
  Require(refused(), "who has yet to prove itself has a place");
  close(unproven);
  World::Soon([world] { return End().Shake(world->carriers); }, "and gives it back");
}

// Removed: nothing of it stays. Renewed: its flow goes on, an idle link does not.
void Sessions(World* world) {
  for (const bool removed : {false, true}) {
    world->Know();
    End busy, idle;
    World::Soon([&] { return busy.Shake(world->carriers) && busy.SendOpen(1, world->server, "svc") && world->Dialed(200); }, "a flow");
    const int far = world->Accept();
    Require(idle.Shake(world->carriers), "a link");
    world->Forget(removed);
    Require(Ended(idle.fd), "an idle link under the session");
    if (removed) {
      Require(Ended(busy.fd) && Ended(far), "a link with a flow");
    } else {
      uint8_t got[5];
      busy.SendRaw(Sealed(&busy, "goes on"));
      Require(ReadFully(far, got, sizeof got), "a flow goes on");
    }
    Require(!End().Shake(world->carriers), "nobody comes back under the session");
    close(far);
  }
}

}  // namespace

int main() {
  World world;
  Destinations(&world);
  Order(&world);
  Floods(&world);
  Links(&world);
  Sessions(&world);
  printf("refused\n");
}
