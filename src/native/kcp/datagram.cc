#include "datagram.h"

#include "reed_solomon.h"

namespace arctic::kcp {

void EncodeHeader(const DatagramHeader& header, uint8_t* to) {
  to[0] = static_cast<uint8_t>(header.type);
  to[1] = header.epoch;
  to[2] = header.index;
  to[3] = header.data;
  Store32(to + 4, header.association);
  Store64(to + 8, header.counter);
}

bool DecodeHeader(const uint8_t* bytes, size_t length, DatagramHeader* header) {
  if (length < kHeader + kTag || length > kMostDatagram) return false;
  header->type = static_cast<Type>(bytes[0]);
  header->epoch = bytes[1];
  header->index = bytes[2];
  header->data = bytes[3];
  header->association = Load32(bytes + 4);
  header->counter = Load64(bytes + 8);
  const bool control = (header->counter & kControlBit) != 0;
  const uint64_t number = header->counter & ~kControlBit;
  if (number == 0) return false;
  switch (header->type) {
    case Type::kData:
      return !control && header->data == 0 && header->index < kMostData && number > header->index;
    case Type::kParity:
      return !control && header->data > 0 && header->data <= kMostData && header->index < kMostParity &&
             number > static_cast<uint64_t>(header->data) + header->index;
    case Type::kControl:
      return control && header->index == 0 && header->data == 0;
    default:
      return false;
  }
}

void EncodeSegment(const SegmentHeader& segment, uint8_t* to) {
  Store32(to, segment.conversation);
  to[4] = static_cast<uint8_t>(segment.command);
  // KCP's number of the fragment: conversations are streams, nothing is in fragments.
  to[5] = 0;
  Store16(to + 6, segment.window);
  Store32(to + 8, segment.time);
  Store32(to + 12, segment.number);
  Store32(to + 16, segment.una);
  Store32(to + 20, segment.length);
}

bool SegmentReader::Next(SegmentHeader* segment, const uint8_t** payload) {
  if (left_ < kSegmentHeader || at_[4] == 0) {
    for (; left_ > 0; left_ -= 1) ok_ = ok_ && *at_++ == 0;
    return false;
  }
  const uint8_t command = at_[4];
  segment->conversation = Load32(at_);
  segment->command = static_cast<Command>(command);
  segment->window = Load16(at_ + 6);
  segment->time = Load32(at_ + 8);
  segment->number = Load32(at_ + 12);
  segment->una = Load32(at_ + 16);
  segment->length = Load32(at_ + 20);
  const bool known = command >= static_cast<uint8_t>(Command::kPush) && command <= static_cast<uint8_t>(Command::kClose);
  const bool carries = segment->command == Command::kPush || segment->command == Command::kAck;
  if (!known || at_[5] != 0 || segment->length > left_ - kSegmentHeader || carries != (segment->length > 0)) {
    ok_ = false;
    left_ = 0;
    return false;
  }
  *payload = at_ + kSegmentHeader;
  at_ += kSegmentHeader + segment->length;
  left_ -= kSegmentHeader + segment->length;
  return true;
}

size_t EncodeAck(const Ack& ack, uint8_t* to) {
  Store64(to, ack.largest);
  Store64(to + 8, ack.received);
  Store64(to + 16, ack.received_bytes);
  for (size_t word = 0; word < ack.words; word += 1) Store64(to + Ack::kFixed + 8 * word, ack.bits[word]);
  return Ack::kFixed + 8 * ack.words;
}

bool DecodeAck(const uint8_t* bytes, size_t length, Ack* ack) {
  if (length < Ack::kFixed + 8 || (length - Ack::kFixed) % 8 != 0) return false;
  ack->words = (length - Ack::kFixed) / 8;
  if (ack->words > Ack::kMostWords) return false;
  ack->largest = Load64(bytes);
  ack->received = Load64(bytes + 8);
  ack->received_bytes = Load64(bytes + 16);
  for (size_t word = 0; word < ack->words; word += 1) ack->bits[word] = Load64(bytes + Ack::kFixed + 8 * word);
  return true;
}

}  // namespace arctic::kcp
