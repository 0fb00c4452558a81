// What travels in UDP between two relays (ops/docs/carrier-format.md). Pure. Integers are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../byte_order.h"

namespace arctic::kcp {

enum class Type : uint8_t {
  // One of a group that parity protects: `index` is its place.
  kData = 1,
  // Parity of the group that `data` shards and `index` parities came before.
  kParity = 2,
  // Acknowledgements and windows: neither protected nor acknowledged itself.
  kControl = 3,
  kHello = 16,
  kWelcome = 17,
};

constexpr size_t kHeader = 16;
constexpr size_t kTag = 16;
// Of UDP's payload: with IPv6 and a tunnel or two around it still under 1,500.
constexpr size_t kMostDatagram = 1400;
constexpr size_t kMostText = kMostDatagram - kHeader - kTag;
constexpr size_t kSegmentHeader = 24;
constexpr size_t kMostSegment = kMostText - kSegmentHeader;
// The numbers of control datagrams are apart from those of the others by this bit; so nonces stay apart, too.
constexpr uint64_t kControlBit = uint64_t{1} << 63;

struct DatagramHeader {
  Type type = Type::kData;
  // Low byte of the number of keys used before.
  uint8_t epoch = 0;
  uint8_t index = 0, data = 0;
  // The receiver's name for the association.
  uint32_t association = 0;
  uint64_t counter = 0;
};

void EncodeHeader(const DatagramHeader& header, uint8_t* to);
// False for what is none of kData, kParity and kControl, too short or too long.
bool DecodeHeader(const uint8_t* bytes, size_t length, DatagramHeader* header);

enum class Command : uint8_t {
  // As in KCP: data, acknowledgement, question for the window and its answer.
  kPush = 81,
  kAck = 82,
  kAskWindow = 83,
  kTellWindow = 84,
  // Wants to be acknowledged, nothing else.
  kPing = 85,
  // The sender of it has let go of the conversation before its end.
  kKill = 86,
  // The association ends.
  kClose = 87,
};

// The header of a KCP segment.
struct SegmentHeader {
  uint32_t conversation = 0;
  Command command = Command::kPush;
  uint16_t window = 0;
  uint32_t time = 0, number = 0, una = 0, length = 0;
};

void EncodeSegment(const SegmentHeader& segment, uint8_t* to);

// Takes segments off a datagram's text one after the other; zeros at its end are padding.
class SegmentReader {
 public:
  SegmentReader(const uint8_t* bytes, size_t length) : at_(bytes), left_(length) {}
  // False at the end; `ok` tells whether it was an orderly one.
  bool Next(SegmentHeader* segment, const uint8_t** payload);
  bool ok() const { return ok_; }

 private:
  const uint8_t* at_;
  size_t left_;
  bool ok_ = true;
};

// The payload of an ACK segment: which data and parity datagrams have arrived or been recovered.
struct Ack {
  static constexpr size_t kFixed = 24;
  static constexpr size_t kMostWords = 16;

  uint64_t largest = 0;
  // Datagrams and bytes of UDP payload that really arrived, parity included, since the beginning.
  uint64_t received = 0, received_bytes = 0;
  // Bit i of word w says that `largest` - 64 w - i is here.
  size_t words = 0;
  uint64_t bits[kMostWords] = {};
};

// `to` has room for kFixed + 8 * words; answers the length.
size_t EncodeAck(const Ack& ack, uint8_t* to);
bool DecodeAck(const uint8_t* bytes, size_t length, Ack* ack);

}  // namespace arctic::kcp
