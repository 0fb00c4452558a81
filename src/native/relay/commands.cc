#include "commands.h"

#include <string.h>

namespace arctic::relay {
namespace {

// Reads big-endian values; after a read past the end `ok` is false and everything is zero.
class Reader {
 public:
  Reader(const uint8_t* bytes, size_t length) : at_(bytes), left_(length) {}

  bool done() const { return ok_ && left_ == 0; }
  bool ok() const { return ok_; }
  void Fail() { ok_ = false; }

  uint8_t U8() {
    const uint8_t* from = Take(1);
    return from == nullptr ? 0 : *from;
  }
  uint16_t U16() {
    const uint8_t* from = Take(2);
    return from == nullptr ? 0 : Load16(from);
  }
  uint32_t U32() {
    const uint8_t* from = Take(4);
    return from == nullptr ? 0 : Load32(from);
  }
  uint64_t U64() {
    const uint64_t high = U32();
    return high << 32 | U32();
  }
  bool Flag() { return U8() != 0; }
  std::string Text() {
    const size_t length = U8();
    const uint8_t* from = Take(length);
    return from == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(from), length);
  }
  template <size_t N>
  void Array(std::array<uint8_t, N>* out) {
    const uint8_t* from = Take(N);
    if (from != nullptr) memcpy(out->data(), from, N);
  }
  Address Ip() {
    Address address;
    address.width = U8();
    if (address.width != 4 && address.width != 16) {
      ok_ = false;
      address.width = 4;
    }
    const uint8_t* from = Take(address.width);
    if (from != nullptr) memcpy(address.bytes, from, address.width);
    return address;
  }

 private:
  const uint8_t* Take(size_t count) {
    if (!ok_ || count > left_) {
      ok_ = false;
      return nullptr;
    }
    const uint8_t* from = at_;
    at_ += count;
    left_ -= count;
    return from;
  }

  const uint8_t* at_;
  size_t left_;
  bool ok_ = true;
};

std::optional<Prefix> ReadPrefix(Reader& in) {
  if (!in.Flag()) return std::nullopt;
  Prefix prefix;
  prefix.address = in.Ip();
  prefix.length = in.U8();
  if (prefix.length > prefix.address.width * 8) in.Fail();
  return prefix;
}

std::vector<Service> ReadServices(Reader& in) {
  std::vector<Service> services;
  for (uint32_t count = in.U32(); count > 0 && in.ok(); count -= 1) {
    Service service;
    service.id = in.Text();
    service.peer = in.Text();
    service.mark = in.U32();
    service.transparent = in.Flag();
    const uint8_t transport = in.U8();
    service.kcp = (transport & 1) != 0;
    service.probed = (transport & 2) != 0;
    if (transport > 3) in.Fail();
    service.bits_per_second = in.U64();
    if (!IsServiceId(service.id)) in.Fail();
    for (uint32_t rules = in.U32(); rules > 0 && in.ok(); rules -= 1) {
      Rule rule;
      rule.source = ReadPrefix(in);
      rule.destination = ReadPrefix(in);
      service.rules.push_back(std::move(rule));
    }
    services.push_back(std::move(service));
  }
  return services;
}

Configure ReadConfigure(Reader& in) {
  Configure config;
  config.entries = ReadServices(in);
  config.exits = ReadServices(in);
  for (uint32_t count = in.U32(); count > 0 && in.ok(); count -= 1) {
    PeerAddress peer;
    peer.id = in.Text();
    peer.address = in.Ip();
    peer.port = in.U16();
    config.peers.push_back(std::move(peer));
  }
  return config;
}

Limits ReadLimits(Reader& in) {
  Limits limits;
  for (uint32_t* value :
       {&limits.warm, &limits.most_links, &limits.wait_timeout, &limits.idle_timeout, &limits.ping_every, &limits.backoff_least,
        &limits.backoff_most, &limits.handshake_timeout, &limits.rekey_frames, &limits.rekey_after, &limits.connect_timeout,
        &limits.most_flows, &limits.most_handshakes, &limits.renewal_grace, &limits.silence_timeout, &limits.own_mark,
        &limits.carrier_buffer, &limits.not_sent_low_water, &limits.user_timeout, &limits.training, &limits.trained_links,
        &limits.most_service_flows, &limits.most_peer_flows, &limits.most_source_handshakes, &limits.flow_idle_timeout,
        &limits.aegis, &limits.short_path_us, &limits.short_low_water}) {
    *value = in.U32();
  }
  limits.congestion_control = in.Text();
  limits.short_congestion = in.Text();
  return limits;
}

SetSession ReadSession(Reader& in) {
  SetSession session;
  in.Array(&session.id);
  in.Array(&session.key);
  session.peer = in.Text();
  session.initiator = in.Flag();
  session.current = in.Flag();
  return session;
}

// This host or nobody: a rule has to name them, `0.0.0.0/0` does not mean the exit's loopback. Length of the special
// prefix the address lies in, or -1.
int SpecialPrefix(const Address& address) {
  const uint8_t first = address.bytes[0];
  if (address.width == 4) {
    if (first == 127 || first == 0) return 8;
    return first >= 224 ? 3 : -1;
  }
  if (first == 0xff) return 8;
  for (int index = 0; index < 15; index += 1) {
    if (address.bytes[index] != 0) return -1;
  }
  return address.bytes[15] <= 1 ? 128 : -1;
}

}  // namespace

bool Prefix::Contains(const Address& other) const {
  if (other.width != address.width) return false;
  const size_t whole = length / 8, rest = length % 8;
  if (memcmp(address.bytes, other.bytes, whole) != 0) return false;
  if (rest == 0) return true;
  const uint8_t mask = static_cast<uint8_t>(0xff << (8 - rest));
  return (address.bytes[whole] & mask) == (other.bytes[whole] & mask);
}

bool Service::Allows(const std::string& from_peer, const Open& open) const {
  if (from_peer != peer || open.service != id || open.destination_port == 0) return false;
  if (open.source.width != open.destination.width) return false;
  const int special = SpecialPrefix(open.destination);
  for (const Rule& rule : rules) {
    // A rule without either would allow everything; no route looks like that.
    if (!rule.source && !rule.destination) continue;
    if (rule.source && !rule.source->Contains(open.source)) continue;
    if (!rule.destination) {
      if (special < 0) return true;
      continue;
    }
    if (rule.destination->Contains(open.destination) && (special < 0 || rule.destination->length >= special)) return true;
  }
  return false;
}

std::optional<Command> DecodeCommand(const uint8_t* bytes, size_t length) {
  Reader in(bytes, length);
  Command command;
  switch (in.U8()) {
    case 1:
      command = ReadLimits(in);
      break;
    case 2:
      command = ReadConfigure(in);
      break;
    case 3:
      command = ReadSession(in);
      break;
    case 4: {
      NoSession none;
      in.Array(&none.id);
      command = none;
      break;
    }
    case 5: {
      Retire retire;
      in.Array(&retire.id);
      retire.peer = in.Text();
      retire.removed = in.Flag();
      command = retire;
      break;
    }
    case 6: {
      Listen listen;
      listen.fd = static_cast<int>(in.U32());
      listen.captured = in.Flag();
      listen.port = in.U16();
      command = listen;
      break;
    }
    case 7:
      command = StopAccepting{};
      break;
    case 8:
      command = ResetAll{};
      break;
    case 9:
      command = ListenDatagrams{in.U16()};
      break;
    case 10: {
      SampleFlows sample;
      sample.token = in.U32();
      sample.service = in.Text();
      command = sample;
      break;
    }
    case 11: {
      SetPath path;
      path.peer = in.Text();
      const uint8_t kind = in.U8();
      if (kind > static_cast<uint8_t>(PathKind::kLong)) in.Fail();
      path.kind = static_cast<PathKind>(kind);
      command = path;
      break;
    }
    default:
      return std::nullopt;
  }
  if (!in.done()) return std::nullopt;
  return command;
}

}  // namespace arctic::relay
