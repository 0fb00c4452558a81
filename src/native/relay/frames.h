// The carrier's frames (ops/docs/carrier-format.md). Pure; the TypeScript twin is src/engines/tproxy/frames.ts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../byte_order.h"

namespace arctic::relay {

enum class FrameType : uint8_t {
  kData = 1,
  kOpen = 2,
  kOpened = 3,
  kReset = 4,
  kFinish = 5,
  kPing = 6,
  kPong = 7,
  kPad = 8,
  kRekey = 9,
  kConfirm = 10,
};

constexpr size_t kHeaderLength = 4;
constexpr size_t kTagLength = 16;
constexpr size_t kMaxPayload = 65536;
constexpr size_t kMaxFrame = kHeaderLength + kMaxPayload + kTagLength;
constexpr size_t kMaxServiceId = 64;
constexpr size_t kOpenFixed = 11;
constexpr size_t kMaxOpen = kOpenFixed + 16 + 16 + kMaxServiceId;
constexpr size_t kResetLength = 6;
constexpr size_t kFlowLength = 4;

// What Linux sends at once: 64 KiB without MAX_TCP_HEADER, which is at most 320, and one byte (net/core/sock.c, sk_setup_caps).
constexpr size_t kLargePacket = 65536 - 320 - 1;
// Of a packet of 1,500 bytes over IPv4 with timestamps: taken for a link whose own is not known yet.
constexpr size_t kOrdinarySegment = 1448;

// The longest payload whose frame leaves as one packet of whole segments of `mss` bytes (net/ipv4/tcp.c, tcp_xmit_size_goal). A
// full frame leaves as that and a small packet behind it, which costs every host on the way as much as a large one.
constexpr size_t WholeSegments(size_t mss) {
  const size_t segment = std::max<size_t>(mss, 1);
  const size_t frame = std::max<size_t>(kLargePacket / segment, 1) * segment;
  return std::clamp<size_t>(frame, kHeaderLength + 1 + kTagLength, kMaxFrame) - kHeaderLength - kTagLength;
}

struct Header {
  FrameType type = FrameType::kData;
  uint32_t length = 0;
};

struct Address {
  // 4 or 16.
  uint8_t width = 4;
  uint8_t bytes[16] = {};
};

struct Open {
  uint32_t flow = 0;
  std::string service;
  Address destination, source;
  uint16_t destination_port = 0, source_port = 0;
};

// False for an unknown type or a length the type does not allow; known before any payload is awaited.
bool DecodeHeader(const uint8_t* bytes, Header* header);
void EncodeHeader(FrameType type, uint32_t length, uint8_t* bytes);

// False for anything EncodeOpen would not have written.
bool DecodeOpen(const uint8_t* payload, size_t length, Open* open);
// `payload` has room for kMaxOpen; answers the length, 0 when the addresses differ in family or the id is unusable.
size_t EncodeOpen(const Open& open, uint8_t* payload);

bool IsServiceId(std::string_view text);
std::string AddressText(const Address& address);

}  // namespace arctic::relay
