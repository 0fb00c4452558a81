// The carrier's frames (ops/docs/carrier-format.md). Pure; the TypeScript twin is src/engines/tproxy/frames.ts.
#pragma once

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
