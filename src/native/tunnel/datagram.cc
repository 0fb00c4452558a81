#include "datagram.h"

#include <string.h>

namespace arctic::tunnel {
namespace {

constexpr uint8_t kTcpFin = 0x01, kTcpPsh = 0x08, kTcpAck = 0x10;

uint64_t ReadLittle(const uint8_t* p, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) value = value << 8 | p[i];
  return value;
}

void WriteLittle(uint8_t* p, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) p[i] = static_cast<uint8_t>(value >> (8 * i));
}

}  // namespace

void WriteHeader(const DatagramHeader& header, uint8_t* to) {
  to[0] = static_cast<uint8_t>(header.aead);
  to[1] = kVersion;
  to[2] = header.flags;
  to[3] = 0;
  WriteLittle(to + 4, header.index, 4);
  WriteLittle(to + 8, header.counter, 8);
}

bool ReadHeader(const uint8_t* bytes, size_t length, DatagramHeader* header) {
  if (length < kOverhead || bytes[1] != kVersion || bytes[3] != 0) return false;
  if (bytes[0] < 1 || bytes[0] > kAeads) return false;
  header->aead = static_cast<Aead>(bytes[0]);
  header->flags = bytes[2];
  header->index = static_cast<uint32_t>(ReadLittle(bytes + 4, 4));
  header->counter = ReadLittle(bytes + 8, 8);
  return true;
}

void Packer::Start(size_t most_text) {
  datagrams_.clear();
  most_text_ = most_text;
}

bool Packer::Open(size_t room, uint8_t tos) {
  const size_t offset =
      datagrams_.empty() ? 0 : datagrams_.back().offset + datagrams_.back().text + kOverhead;
  if (offset + kOverhead + room > arena_.size()) return false;
  datagrams_.push_back({offset, 0, tos});
  return true;
}

uint8_t* Packer::Append(size_t length, bool needs_csum, uint8_t tos) {
  const size_t need = kRecordHeader + length;
  if (length == 0 || length > kMaxPacket || need + kOverhead > kMaxDatagram) return nullptr;
  const bool fits = !datagrams_.empty() && datagrams_.back().tos == tos && datagrams_.back().text != 0 &&
                    datagrams_.back().text + need <= most_text_ &&
                    datagrams_.back().offset + datagrams_.back().text + kOverhead + need <= arena_.size();
  if (!fits && !Open(need, tos)) return nullptr;
  Datagram& datagram = datagrams_.back();
  uint8_t* record = arena_.data() + datagram.offset + kHeaderLength + datagram.text;
  WriteLittle(record, length, 2);
  record[2] = needs_csum ? kRecordNeedsCsum : 0;
  record[3] = 0;
  datagram.text += need;
  return record + kRecordHeader;
}

bool Packer::AppendEmpty() { return Open(0, 0); }

Unpacker::Result Unpacker::Feed(uint8_t* text, size_t length, uint8_t outer_tos) {
  Result result;
  size_t at = 0;
  while (at < length) {
    if (length - at < kRecordHeader) {
      result.malformed += 1;
      break;
    }
    const size_t size = ReadLittle(text + at, 2);
    const uint8_t flags = text[at + 2];
    if (size > length - at - kRecordHeader || (flags & ~kRecordNeedsCsum) != 0 || text[at + 3] != 0) {
      result.malformed += 1;
      break;
    }
    uint8_t* bytes = text + at + kRecordHeader;
    at += kRecordHeader + size;

    Packet packet;
    if (!ParsePacket(bytes, size, &packet)) {
      result.malformed += 1;
      continue;
    }
    const bool needs_csum = (flags & kRecordNeedsCsum) != 0;
    size_t headers = 0;
    if (needs_csum) {
      const size_t transport =
          packet.fragment ? 0 : TransportHeader(packet.protocol, bytes + packet.header, size - packet.header);
      if (transport == 0) {
        result.malformed += 1;
        continue;
      }
      if (packet.protocol == kUdp && Read16(bytes + packet.header + 4) != size - packet.header) {
        result.malformed += 1;
        continue;
      }
      headers = packet.header + transport;
    }
    if (!receiver_->MayDeliver(packet, bytes, size)) {
      result.refused += 1;
      continue;
    }
    if (!CombineEcn(outer_tos, bytes, packet)) {
      result.congested += 1;
      continue;
    }
    if (headers != 0 && Join(packet, bytes, size, headers)) continue;
    Flush();
    Begin(packet, bytes, size, headers, needs_csum);
  }
  return result;
}

void Unpacker::Begin(const Packet& packet, uint8_t* bytes, size_t length, size_t headers, bool needs_csum) {
  first_ = bytes;
  packet_ = packet;
  total_ = bytes_ = length;
  packets_ = 1;
  needs_csum_ = needs_csum;
  segment_ = headers == 0 ? 0 : length - headers;
  // Options and fragment offsets differ from packet to packet; so do the flags that open and end a connection.
  const uint8_t flags = packet.protocol == kTcp && headers != 0 ? bytes[packet.header + 13] : 0;
  const bool joinable = headers != 0 && segment_ >= 8 &&
                        (packet.protocol == kUdp || (flags & ~kTcpPsh) == kTcpAck);
  headers_ = joinable ? headers : 0;
  closed_ = (flags & kTcpPsh) != 0;
  parts_[1] = {bytes, length};
  count_ = 2;
}

bool Unpacker::Join(const Packet& packet, uint8_t* bytes, size_t length, size_t headers) {
  if (first_ == nullptr || headers_ != headers || closed_ || packet.version != packet_.version ||
      packet.protocol != packet_.protocol || packet.header != packet_.header)
    return false;
  const size_t payload = length - headers;
  if (payload == 0 || payload > segment_ || total_ + payload > kMostFrame ||
      static_cast<size_t>(count_) > kMostParts)
    return false;
  // Everything in the IP headers but lengths, identification and checksum.
  if (packet.version == 4) {
    if (memcmp(bytes, first_, 2) != 0 || memcmp(bytes + 6, first_ + 6, 4) != 0 ||
        memcmp(bytes + 12, first_ + 12, packet.header - 12u) != 0)
      return false;
  } else if (memcmp(bytes, first_, 4) != 0 || memcmp(bytes + 6, first_ + 6, 34) != 0) {
    return false;
  }
  const uint8_t* now = bytes + packet.header;
  const uint8_t* first = first_ + packet.header;
  if (memcmp(now, first, 4) != 0) return false;
  bool ends = payload < segment_;
  if (packet.protocol == kUdp) {
    if (packets_ >= kMostDatagramsInFrame) return false;
  } else {
    const uint32_t expected = Read32(first + 4) + static_cast<uint32_t>(total_ - headers_);
    if (Read32(now + 4) != expected || memcmp(now + 8, first + 8, 5) != 0 ||
        (now[13] & ~(kTcpPsh | kTcpFin)) != kTcpAck || memcmp(now + 14, first + 14, 2) != 0 ||
        memcmp(now + 18, first + 18, headers - packet.header - 18) != 0)
      return false;
    const uint8_t last = now[13] & (kTcpPsh | kTcpFin);
    first_[packet.header + 13] |= last;
    ends = ends || last != 0;
  }
  parts_[count_++] = {bytes + headers, payload};
  total_ += payload;
  bytes_ += length;
  packets_ += 1;
  closed_ = ends;
  return true;
}

void Unpacker::Flush() {
  if (first_ == nullptr) return;
  vnet_ = {};
  uint8_t* transport = first_ + packet_.header;
  if (packets_ > 1) {
    if (packet_.version == 4) {
      Write16(first_ + 2, total_);
      WriteIpv4Checksum(first_, packet_.header);
    } else {
      Write16(first_ + 4, total_ - 40);
    }
    if (packet_.protocol == kUdp) Write16(transport + 4, total_ - packet_.header);
    vnet_.gso_type = packet_.protocol == kUdp ? kGsoUdp : packet_.version == 4 ? kGsoTcp4 : kGsoTcp6;
    vnet_.gso_size = static_cast<uint16_t>(segment_);
    vnet_.hdr_len = static_cast<uint16_t>(headers_);
  }
  if (needs_csum_) {
    vnet_.flags = kVnetNeedsCsum;
    vnet_.csum_start = packet_.header;
    vnet_.csum_offset = static_cast<uint16_t>(ChecksumOffset(packet_.protocol));
    Write16(transport + vnet_.csum_offset,
            Fold(PseudoHeaderSum(packet_, packet_.protocol, total_ - packet_.header)));
  }
  parts_[0] = {&vnet_, sizeof vnet_};
  receiver_->Deliver(parts_, count_, packets_, bytes_);
  first_ = nullptr;
}

}  // namespace arctic::tunnel
