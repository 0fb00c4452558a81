// The tunnel's datagrams.
//
//    0      1      2        4                 8                          16
//    | type | ver |flags|zero| receiver index | counter u64 LE           |   16 bytes, all additional data
//    | AEAD ciphertext: records ...                                      |
//    | tag 16                                                            |
//    record: | length u16 LE | flags u8 | zero u8 | IP packet (length bytes) |
//
// The type names the AEAD. Flags: bit 0, the sender opens AEGIS-128L beside the two that everyone does; bit 1, the packets are of
// flows that send little and may be delivered before what came earlier; the others are for those who know them. All is authenticated,
// so nobody on the way can take a better choice away. A datagram without records keeps an endpoint alive.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aead.h"
#include "packet.h"

namespace arctic::tunnel {

constexpr size_t kHeaderLength = 16;
constexpr size_t kRecordHeader = 4;
constexpr size_t kOverhead = kHeaderLength + kTagLength;
constexpr uint8_t kVersion = 1;
// The transport checksum is open; the receiver's kernel completes it if the packet ever leaves the host.
constexpr uint8_t kRecordNeedsCsum = 1;
constexpr size_t kMaxDatagram = 65507;

constexpr uint8_t kCanAegis = 1;
constexpr uint8_t kOvertakes = 2;

struct DatagramHeader {
  Aead aead;
  uint8_t flags;
  uint32_t index;
  uint64_t counter;
};

void WriteHeader(const DatagramHeader& header, uint8_t* to);
// False when this is no datagram of ours.
bool ReadHeader(const uint8_t* bytes, size_t length, DatagramHeader* header);
// Whether a datagram says so, before it is known to be genuine: at worst the order of work changes.
inline bool MayOvertake(const uint8_t* bytes, size_t length) {
  return length >= kOverhead && bytes[1] == kVersion && (bytes[2] & kOvertakes) != 0;
}

// Fills datagrams with records, one after the other in one arena, so that a run of equal lengths is one UDP_SEGMENT send.
class Packer {
 public:
  struct Datagram {
    size_t offset;  // Of the header in the arena.
    size_t text;    // Length of the records.
    uint8_t tos;
  };

  Packer() : arena_(kCapacity) {}
  // Empties the arena. `most_text` is what a datagram's records may amount to; one larger record travels alone.
  void Start(size_t most_text);
  // Where to write a packet of `length` bytes; null when the arena is full.
  uint8_t* Append(size_t length, bool needs_csum, uint8_t tos);
  // A datagram without records; false when the arena is full.
  bool AppendEmpty();
  uint8_t* at(size_t offset) { return arena_.data() + offset; }
  const std::vector<Datagram>& datagrams() const { return datagrams_; }

 private:
  // A frame of 64 KiB cut for the smallest MTU of IPv4 hosts, twice.
  static constexpr size_t kCapacity = 256 * 1024;
  bool Open(size_t room, uint8_t tos);

  std::vector<uint8_t> arena_;
  std::vector<Datagram> datagrams_;
  size_t most_text_ = 0;
};

// What becomes of the packets of a peer's datagrams.
class Receiver {
 public:
  virtual ~Receiver() = default;
  // Whether the peer may send this packet.
  virtual bool MayDeliver(const Packet& packet, const uint8_t* bytes, size_t length) = 0;
  // One write to the TUN device: `parts[0]` is the virtio_net_hdr. `packets` of `bytes` in all are in it.
  virtual void Deliver(const iovec* parts, int count, size_t packets, size_t bytes) = 0;
};

// Takes the records out of decrypted datagrams and joins those that continue each other to one frame. The peer is authenticated
// and still not believed: every length and offset is checked.
class Unpacker {
 public:
  struct Result {
    uint32_t malformed = 0;
    uint32_t refused = 0;
    uint32_t congested = 0;
  };

  explicit Unpacker(Receiver* receiver) : receiver_(receiver) {}
  // `text` must stay as it is until Flush, and is written to.
  Result Feed(uint8_t* text, size_t length, uint8_t outer_tos);
  void Flush();

 private:
  // More small packets in one write overrun a socket's default receive buffer before its program runs.
  static constexpr size_t kMostDatagramsInFrame = 16;
  static constexpr size_t kMostParts = 64;
  static constexpr size_t kMostFrame = kMaxPacket;

  bool Join(const Packet& packet, uint8_t* bytes, size_t length, size_t headers);
  void Begin(const Packet& packet, uint8_t* bytes, size_t length, size_t headers, bool needs_csum);

  Receiver* receiver_;
  uint8_t* first_ = nullptr;
  Packet packet_{};
  size_t headers_ = 0;      // 0: the frame cannot be continued.
  size_t segment_ = 0;      // Payload of each packet but the last.
  size_t total_ = 0;        // Length of the frame.
  size_t packets_ = 0;
  size_t bytes_ = 0;
  bool closed_ = false;     // The last packet was short or pushed.
  bool needs_csum_ = false;
  VnetHeader vnet_{};
  iovec parts_[kMostParts + 1];
  int count_ = 0;
};

}  // namespace arctic::tunnel
