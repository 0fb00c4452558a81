// Which packets a peer's services cover, from the routes; immutable once built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "packet.h"

namespace arctic::tunnel {

// No service covers the packet.
constexpr uint32_t kNoService = 0xffffffff;
// Longest prefix "does not look at this side".
constexpr uint8_t kAnyAddress = 0xff;

// Encoding (integers little-endian), for each side, entries then exits:
//   u32 service that takes whatever no route names, or kNoService
//   u32 number of classes, in order of evaluation; each
//     u8 family (4, 6), u8 source length, u8 destination length (kAnyAddress: not looked at), u8 zero, u32 number of routes; each
//       source and destination address (4 or 16 bytes, absent when not looked at), u32 service
class Policy {
 public:
  // Null when the bytes are not a policy.
  static std::shared_ptr<const Policy> Parse(const uint8_t* bytes, size_t length);

  // The service a packet of ours to the peer belongs to.
  uint32_t Outbound(const Packet& packet) const;
  // Whether the peer may send this packet: it belongs to a service, or is an ICMP error about a packet of ours that does.
  bool MayArrive(const Packet& packet, const uint8_t* bytes, size_t length) const;

 private:
  struct Class {
    uint8_t family, source, dest;
    size_t key;                     // Bytes of a key.
    std::vector<uint8_t> keys;      // Sorted.
    std::vector<uint32_t> services;
  };
  struct Side {
    uint32_t fallback = kNoService;
    std::vector<Class> classes;
    uint32_t Find(const uint8_t* source, const uint8_t* dest, size_t address_length) const;
  };

  uint32_t Inbound(const Packet& packet) const;

  Side entries_;  // This host is the source.
  Side exits_;    // The peer is.
};

}  // namespace arctic::tunnel
