#include "packet.h"

#include <string.h>

namespace arctic::tunnel {
namespace {

constexpr uint8_t kTcpFin = 0x01, kTcpPsh = 0x08, kTcpCwr = 0x80;
constexpr uint8_t kEcnMask = 3, kNotEct = 0, kEct1 = 1, kEct0 = 2, kCe = 3;

bool ReadHeader(const uint8_t* bytes, size_t length, Packet* packet) {
  if (length < 20) return false;
  packet->version = bytes[0] >> 4;
  if (packet->version == 4) {
    packet->header = static_cast<uint16_t>((bytes[0] & 15) * 4);
    if (packet->header < 20 || packet->header > length) return false;
    packet->protocol = bytes[9];
    packet->tos = bytes[1];
    packet->fragment = (Read16(bytes + 6) & 0x3fff) != 0;
    packet->address_length = 4;
    packet->source = bytes + 12;
    packet->dest = bytes + 16;
    return true;
  }
  if (packet->version == 6) {
    if (length < 40) return false;
    packet->header = 40;
    packet->protocol = bytes[6];
    packet->tos = static_cast<uint8_t>(Read16(bytes) >> 4);
    packet->fragment = bytes[6] == 44;
    packet->address_length = 16;
    packet->source = bytes + 8;
    packet->dest = bytes + 24;
    return true;
  }
  return false;
}

}  // namespace

bool ParsePacket(const uint8_t* bytes, size_t length, Packet* packet) {
  if (!ReadHeader(bytes, length, packet)) return false;
  const size_t stated = packet->version == 4 ? Read16(bytes + 2) : 40u + Read16(bytes + 4);
  return stated == length;
}

bool ParseQuoted(const uint8_t* bytes, size_t length, Packet* packet) { return ReadHeader(bytes, length, packet); }

size_t QuotedOffset(const Packet& packet, const uint8_t* bytes, size_t length) {
  if (packet.fragment || length < packet.header + 8u) return 0;
  const uint8_t type = bytes[packet.header];
  const bool error = packet.version == 4
                         ? packet.protocol == kIcmp && (type == 3 || type == 4 || type == 5 || type == 11 || type == 12)
                         : packet.protocol == kIcmp6 && type >= 1 && type <= 4;
  return error ? packet.header + 8u : 0;
}

size_t TransportHeader(uint8_t protocol, const uint8_t* at, size_t length) {
  if (protocol == kUdp) return length >= 8 ? 8 : 0;
  if (protocol != kTcp || length < 20) return 0;
  const size_t header = (at[12] >> 4) * 4u;
  return header >= 20 && header <= length ? header : 0;
}

uint64_t Sum(const uint8_t* bytes, size_t length, uint64_t sum) {
  while (length >= 4) {
    sum += Read32(bytes);
    bytes += 4;
    length -= 4;
  }
  if (length >= 2) {
    sum += Read16(bytes);
    bytes += 2;
    length -= 2;
  }
  if (length == 1) sum += static_cast<uint64_t>(bytes[0]) << 8;
  return sum;
}

uint16_t Fold(uint64_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint64_t PseudoHeaderSum(const Packet& packet, uint8_t protocol, size_t transport_length) {
  uint64_t sum = Sum(packet.source, packet.address_length, 0);
  sum = Sum(packet.dest, packet.address_length, sum);
  return sum + protocol + transport_length;
}

void WriteIpv4Checksum(uint8_t* bytes, size_t header) {
  Write16(bytes + 10, 0);
  Write16(bytes + 10, static_cast<uint16_t>(~Fold(Sum(bytes, header, 0))));
}

void CompleteChecksum(uint8_t* bytes, size_t length, size_t start, size_t offset) {
  const uint16_t sum = static_cast<uint16_t>(~Fold(Sum(bytes + start, length - start, 0)));
  // A checksum of 0 means "none" to UDP; the other zero says the same sum.
  Write16(bytes + start + offset, sum == 0 ? 0xffff : sum);
}

bool CombineEcn(uint8_t outer_tos, uint8_t* bytes, const Packet& packet) {
  const uint8_t outer = outer_tos & kEcnMask, inner = packet.tos & kEcnMask;
  uint8_t combined = inner;
  if (outer == kCe) {
    if (inner == kNotEct) return false;
    combined = kCe;
  } else if (outer == kEct1 && inner == kEct0) {
    combined = kEct1;
  }
  if (combined == inner) return true;
  if (packet.version == 4) {
    bytes[1] = static_cast<uint8_t>((bytes[1] & ~kEcnMask) | combined);
    WriteIpv4Checksum(bytes, packet.header);
  } else {
    bytes[1] = static_cast<uint8_t>((bytes[1] & ~(kEcnMask << 4)) | combined << 4);
  }
  return true;
}

bool Segmenter::Load(const VnetHeader& header, uint8_t* bytes, size_t length) {
  header_ = header;
  bytes_ = bytes;
  length_ = length;
  count_ = headers_ = transport_ = 0;
  plain_ = false;
  if (length > kMaxPacket || !ParsePacket(bytes, length, &packet_)) return false;
  const uint8_t gso = header.gso_type & static_cast<uint8_t>(~kGsoEcn);
  const bool partial = (header.flags & kVnetNeedsCsum) != 0;
  if (partial) {
    if (header.csum_start < packet_.header || header.csum_start + header.csum_offset + 2u > length) return false;
    plain_ = header.csum_start == packet_.header && !packet_.fragment &&
             (packet_.protocol == kTcp || packet_.protocol == kUdp) &&
             header.csum_offset == ChecksumOffset(packet_.protocol) &&
             TransportHeader(packet_.protocol, bytes + packet_.header, length - packet_.header) != 0;
  }
  if (gso == kGsoNone) {
    count_ = 1;
    return true;
  }
  if (!partial || header.gso_size == 0) return false;
  if (gso == kGsoUdp) {
    protocol_ = kUdp;
  } else if ((gso == kGsoTcp4 && packet_.version == 4) || (gso == kGsoTcp6 && packet_.version == 6)) {
    protocol_ = kTcp;
  } else {
    return false;
  }
  if (header.csum_offset != ChecksumOffset(protocol_)) return false;
  const size_t transport = TransportHeader(protocol_, bytes + header.csum_start, length - header.csum_start);
  if (transport == 0) return false;
  transport_ = header.csum_start;
  headers_ = transport_ + transport;
  const size_t payload = length - headers_;
  if (payload == 0) return false;
  count_ = (payload + header.gso_size - 1) / header.gso_size;
  return true;
}

Segment Segmenter::At(size_t index) const {
  const bool partial = (header_.flags & kVnetNeedsCsum) != 0;
  if (headers_ == 0) return {length_, partial && plain_};
  const size_t at = headers_ + index * header_.gso_size;
  const size_t left = length_ - at;
  return {headers_ + (left < header_.gso_size ? left : header_.gso_size), plain_};
}

void Segmenter::Write(size_t index, uint8_t* to) const {
  if (headers_ == 0) {
    memcpy(to, bytes_, length_);
    if ((header_.flags & kVnetNeedsCsum) != 0 && !plain_)
      CompleteChecksum(to, length_, header_.csum_start, header_.csum_offset);
    return;
  }
  const size_t length = At(index).length;
  const size_t payload = length - headers_;
  memcpy(to, bytes_, headers_);
  memcpy(to + headers_, bytes_ + headers_ + index * header_.gso_size, payload);
  if (packet_.version == 4) {
    Write16(to + 2, length);
    Write16(to + 4, Read16(bytes_ + 4) + index);
    WriteIpv4Checksum(to, packet_.header);
  } else {
    Write16(to + 4, length - 40);
  }
  uint8_t* transport = to + transport_;
  if (protocol_ == kTcp) {
    Write32(transport + 4, Read32(transport + 4) + static_cast<uint32_t>(index * header_.gso_size));
    if (index + 1 < count_) transport[13] &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    if (index > 0) transport[13] &= static_cast<uint8_t>(~kTcpCwr);
  } else {
    Write16(transport + 4, length - transport_);
  }
  if (plain_) return;
  Write16(transport + header_.csum_offset, Fold(PseudoHeaderSum(packet_, protocol_, length - transport_)));
  CompleteChecksum(to, length, transport_, header_.csum_offset);
}

}  // namespace arctic::tunnel
