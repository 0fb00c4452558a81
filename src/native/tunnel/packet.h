// IP packets as the TUN device hands them over: headers, checksums, segmentation, ECN.
#pragma once

#include <cstddef>
#include <cstdint>

namespace arctic::tunnel {

// struct virtio_net_hdr (linux/virtio_net.h), host byte order on a TUN device.
struct VnetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
static_assert(sizeof(VnetHeader) == 10);

constexpr uint8_t kVnetNeedsCsum = 1;
constexpr uint8_t kGsoNone = 0;
constexpr uint8_t kGsoTcp4 = 1;
constexpr uint8_t kGsoTcp6 = 4;
constexpr uint8_t kGsoUdp = 5;
constexpr uint8_t kGsoEcn = 0x80;

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr uint8_t kIcmp = 1;
constexpr uint8_t kIcmp6 = 58;

constexpr size_t kMaxPacket = 65535;

struct Packet {
  uint8_t version = 0;
  // Protocol right behind the IP header (IPv6: the first next header).
  uint8_t protocol = 0;
  uint8_t tos = 0;
  // A fragment other than the whole packet: what follows the IP header need not be a transport header.
  bool fragment = false;
  uint16_t header = 0;  // Length of the IP header, IPv4 options included, IPv6 extension headers not.
  uint8_t address_length = 0;
  const uint8_t* source = nullptr;
  const uint8_t* dest = nullptr;
};

// Reads and checks the IP header; false unless the packet is exactly `length` bytes long and its header is sound.
bool ParsePacket(const uint8_t* bytes, size_t length, Packet* packet);

// The same for the packet quoted in an ICMP error, of which the end may be missing.
bool ParseQuoted(const uint8_t* bytes, size_t length, Packet* packet);

// Where the packet quoted by an ICMP error starts; 0 when this is no ICMP error.
size_t QuotedOffset(const Packet& packet, const uint8_t* bytes, size_t length);

// Length of a TCP (8 to 60) or UDP header at `at`; 0 when it does not fit into `length`.
size_t TransportHeader(uint8_t protocol, const uint8_t* at, size_t length);

// Where the checksum is in a TCP or UDP header.
constexpr size_t ChecksumOffset(uint8_t protocol) { return protocol == kTcp ? 16 : 6; }

// Internet checksum (RFC 1071) pieces: `sum` is not folded.
uint64_t Sum(const uint8_t* bytes, size_t length, uint64_t sum);
uint16_t Fold(uint64_t sum);

uint64_t PseudoHeaderSum(const Packet& packet, uint8_t protocol, size_t transport_length);

// Recomputes the header checksum of an IPv4 packet.
void WriteIpv4Checksum(uint8_t* bytes, size_t header);

// Completes the checksum the kernel left open: the field holds the pseudo-header's sum.
void CompleteChecksum(uint8_t* bytes, size_t length, size_t start, size_t offset);

// RFC 6040 at decapsulation. False: the packet must be dropped (congestion was signalled to one that cannot tell it on).
bool CombineEcn(uint8_t outer_tos, uint8_t* bytes, const Packet& packet);

inline uint16_t Read16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
inline uint32_t Read32(const uint8_t* p) { return static_cast<uint32_t>(Read16(p)) << 16 | Read16(p + 2); }
inline void Write16(uint8_t* p, size_t value) {
  p[0] = static_cast<uint8_t>(value >> 8);
  p[1] = static_cast<uint8_t>(value);
}
inline void Write32(uint8_t* p, uint32_t value) {
  Write16(p, value >> 16);
  Write16(p + 2, value & 0xffff);
}

// One packet out of a frame, to be written by Segmenter::Write.
struct Segment {
  size_t length = 0;
  // The transport checksum is left to the far end, which knows that the bytes arrived as they were sent.
  bool needs_csum = false;
};

// Cuts what was read from the TUN device into packets no larger than the sender's MTU.
class Segmenter {
 public:
  // False when header and frame do not fit together.
  bool Load(const VnetHeader& header, uint8_t* bytes, size_t length);
  size_t count() const { return count_; }
  const Packet& packet() const { return packet_; }
  Segment At(size_t index) const;
  // Writes packet `index` of At(index).length bytes.
  void Write(size_t index, uint8_t* to) const;

 private:
  VnetHeader header_{};
  Packet packet_{};
  uint8_t* bytes_ = nullptr;
  size_t length_ = 0;
  size_t count_ = 0;
  size_t headers_ = 0;  // IP and transport headers, repeated before each segment.
  size_t transport_ = 0;
  uint8_t protocol_ = 0;
  bool plain_ = false;  // TCP or UDP right behind the IP header: the far end can complete the checksum.
};

}  // namespace arctic::tunnel
