// What TypeScript tells the relay: plain records, and their decoding from the bytes of src/engines/tproxy/native-commands.ts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "link_keys.h"

namespace arctic::relay {

struct Prefix {
  Address address;
  uint8_t length = 0;
  bool Contains(const Address& other) const;
};

struct Rule {
  std::optional<Prefix> source, destination;
};

struct Service {
  std::string id, peer;
  uint32_t mark = 0;
  bool transparent = false;
  // Carried over KCP while the peer can be reached so.
  bool kcp = false;
  // The path is measured though nothing may go over KCP now.
  bool probed = false;
  // 0 is unlimited.
  uint64_t bits_per_second = 0;
  // Exit only.
  std::vector<Rule> rules;

  // As src/engines/tproxy/exit-policy.ts.
  bool Allows(const std::string& from_peer, const Open& open) const;
};

struct PeerAddress {
  std::string id;
  Address address;
  uint16_t port = 0;
};

// Times in milliseconds, sizes in bytes; every one is decided in TypeScript.
struct Limits {
  uint32_t warm = 0, most_links = 0, wait_timeout = 0, idle_timeout = 0, ping_every = 0, backoff_least = 0, backoff_most = 0,
           handshake_timeout = 0, rekey_frames = 0, rekey_after = 0, connect_timeout = 0, most_flows = 0, most_handshakes = 0,
           renewal_grace = 0, silence_timeout = 0, own_mark = 0, carrier_buffer = 0, not_sent_low_water = 0, user_timeout = 0, training = 0, trained_links = 0,
           most_service_flows = 0, most_peer_flows = 0, most_source_handshakes = 0, flow_idle_timeout = 0, aegis = 0,
           short_path_us = 0, short_low_water = 0;
  std::string congestion_control, short_congestion;
};

struct Configure {
  std::vector<Service> entries, exits;
  std::vector<PeerAddress> peers;
};
struct SetSession {
  SessionId id{};
  Key key{};
  std::string peer;
  bool initiator = false;
  // Dial under this one from now on.
  bool current = false;
};
struct NoSession {
  SessionId id{};
};
// `removed`: with it goes whatever else there is under sessions with the peer, also those that were renewed long ago and whose
// flows go on.
struct Retire {
  SessionId id{};
  std::string peer;
  bool removed = false;
};
struct Listen {
  int fd = -1;
  bool captured = false;
  uint16_t port = 0;
};
// The relay opens its UDP sockets itself.
struct ListenDatagrams {
  uint16_t port = 0;
};
struct StopAccepting {};
struct ResetAll {};
// Of the path to a peer; unknown: each link goes by the round trip of its handshake.
enum class PathKind : uint8_t { kUnknown, kShort, kLong };
struct SetPath {
  std::string peer;
  PathKind kind = PathKind::kUnknown;
};
// Asks for a view of the flows; Shared::TakeSample has it once the event `flows` with this token is out.
struct SampleFlows {
  uint32_t token = 0;
  // Empty: of all services.
  std::string service;
};

using Command = std::variant<Limits, Configure, SetSession, NoSession, Retire, Listen, StopAccepting, ResetAll, ListenDatagrams,
                             SampleFlows, SetPath>;

// Nothing for bytes that are not exactly one command.
std::optional<Command> DecodeCommand(const uint8_t* bytes, size_t length);

}  // namespace arctic::relay
