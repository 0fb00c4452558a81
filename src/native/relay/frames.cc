#include "frames.h"

#include <arpa/inet.h>
#include <string.h>

namespace arctic::relay {
namespace {

struct Range {
  uint32_t least, most;
};

// Indexed by type; what TypeScript calls LENGTHS.
constexpr Range kLengths[] = {
    {1, 0},                                  // 0 is no type
    {1, kMaxPayload},                        // DATA
    {kOpenFixed + 4 + 4 + 1, kMaxOpen},      // OPEN
    {kFlowLength, kFlowLength},              // OPENED
    {kResetLength, kResetLength},            // RESET
    {kFlowLength, kFlowLength},              // FINISH
    {8, 8},                                  // PING
    {8, 8},                                  // PONG
    {0, kMaxPayload},                        // PAD
    {0, 0},                                  // REKEY
    {32, 32},                                // CONFIRM
};

static_assert(WholeSegments(1448) == 45 * 1448 - 20 && WholeSegments(1460) == 44 * 1460 - 20, "a path of 1,500 bytes");
static_assert(WholeSegments(8948) == 7 * 8948 - 20, "a path of 9,000 bytes");
static_assert(WholeSegments(65483) == 65483 - 20 && WholeSegments(1 << 20) == kMaxPayload, "segments larger than a large packet");
static_assert(WholeSegments(1) <= kMaxPayload && WholeSegments(0) <= kMaxPayload, "no segment at all");

// connect(2) would turn ::ffff:a.b.c.d into IPv4 and so pass a check that was made for IPv6.
bool IsMapped(const Address& address) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return address.width == 16 && memcmp(address.bytes, kMapped, sizeof kMapped) == 0;
}

}  // namespace

bool DecodeHeader(const uint8_t* bytes, Header* header) {
  const uint8_t type = bytes[0];
  const uint32_t length = Load32(bytes) & 0xffffff;
  if (type == 0 || type > static_cast<uint8_t>(FrameType::kConfirm)) return false;
  if (length < kLengths[type].least || length > kLengths[type].most) return false;
  header->type = static_cast<FrameType>(type);
  header->length = length;
  return true;
}

void EncodeHeader(FrameType type, uint32_t length, uint8_t* bytes) {
  Store32(bytes, length);
  bytes[0] = static_cast<uint8_t>(type);
}

bool IsServiceId(std::string_view text) {
  if (text.empty() || text.size() > kMaxServiceId) return false;
  for (const char c : text) {
    if (c < 0x21 || c > 0x7e) return false;
  }
  return true;
}

bool DecodeOpen(const uint8_t* payload, size_t length, Open* open) {
  if (length < kOpenFixed) return false;
  const uint8_t family = payload[4];
  if ((family != 4 && family != 6) || payload[5] != 0) return false;
  const size_t width = family == 4 ? 4 : 16;
  const size_t id_length = payload[10];
  if (length != kOpenFixed + 2 * width + id_length) return false;
  open->flow = Load32(payload);
  open->destination_port = Load16(payload + 6);
  open->source_port = Load16(payload + 8);
  open->destination.width = open->source.width = static_cast<uint8_t>(width);
  memcpy(open->destination.bytes, payload + kOpenFixed, width);
  memcpy(open->source.bytes, payload + kOpenFixed + width, width);
  if (IsMapped(open->destination) || IsMapped(open->source)) return false;
  open->service.assign(reinterpret_cast<const char*>(payload) + kOpenFixed + 2 * width, id_length);
  return IsServiceId(open->service);
}

size_t EncodeOpen(const Open& open, uint8_t* payload) {
  const size_t width = open.destination.width;
  if (open.source.width != width || !IsServiceId(open.service)) return 0;
  Store32(payload, open.flow);
  payload[4] = width == 4 ? 4 : 6;
  payload[5] = 0;
  Store16(payload + 6, open.destination_port);
  Store16(payload + 8, open.source_port);
  payload[10] = static_cast<uint8_t>(open.service.size());
  memcpy(payload + kOpenFixed, open.destination.bytes, width);
  memcpy(payload + kOpenFixed + width, open.source.bytes, width);
  memcpy(payload + kOpenFixed + 2 * width, open.service.data(), open.service.size());
  return kOpenFixed + 2 * width + open.service.size();
}

std::string AddressText(const Address& address) {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(address.width == 4 ? AF_INET : AF_INET6, address.bytes, text, sizeof text);
  return text;
}

}  // namespace arctic::relay
