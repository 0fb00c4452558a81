// Which packets may overtake others, and where those wait that may not.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "packet.h"

namespace arctic::tunnel {

// Tells flows that send little from those that fill queues, as fq_codel's list of new flows does (RFC 8290, 4.2). A packet of
// the former may go first. One that became large stays so until what it had under way has surely arrived, so that no flow
// overtakes itself.
class Flows {
 public:
  // Counts a frame of `length` bytes to its flow. Buckets may be shared; then a small flow waits like a large one.
  bool MayOvertake(uint32_t peer, const Packet& packet, const uint8_t* bytes, size_t length, uint64_t now_ns) {
    Bucket& bucket = buckets_[Hash(peer, packet, bytes, length) % kBuckets];
    if (now_ns - bucket.since_ns > kWindowNs) {
      bucket.since_ns = now_ns;
      bucket.bytes = 0;
    }
    bucket.bytes += length;
    if (bucket.bytes > kMostInWindow) bucket.large_until_ns = now_ns + kLargeNs;
    return now_ns >= bucket.large_until_ns;
  }

 private:
  struct Bucket {
    uint64_t since_ns = 0;
    uint64_t large_until_ns = 0;
    size_t bytes = 0;
  };

  static uint64_t Hash(uint32_t peer, const Packet& packet, const uint8_t* bytes, size_t length) {
    constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
    uint64_t hash = (uint64_t{peer} << 8 | packet.protocol) * kOdd;
    const auto mix = [&hash](uint32_t word) { hash = (hash ^ (hash >> 29) ^ word) * kOdd; };
    for (size_t i = 0; i < packet.address_length; i += 4) {
      mix(Read32(packet.source + i));
      mix(Read32(packet.dest + i));
    }
    const bool ports = (packet.protocol == kTcp || packet.protocol == kUdp) && !packet.fragment;
    if (ports && length >= packet.header + 4u) mix(Read32(bytes + packet.header));
    return hash >> 40;
  }

  static constexpr size_t kBuckets = 1024;
  static constexpr uint64_t kWindowNs = 4'000'000;
  // 12 Mbit/s: calls, queries and acknowledgements, whatever their rate in packets.
  static constexpr size_t kMostInWindow = 6'000;
  static constexpr uint64_t kLargeNs = 50'000'000;

  std::array<Bucket, kBuckets> buckets_{};
};

// Frames read from a TUN device that wait for what may overtake them, in the order they were read. A ring of bytes.
class FrameQueue {
 public:
  struct Frame {
    size_t offset;
    size_t length;
  };
  // virtio_net_hdr and the largest packet.
  static constexpr size_t kRoom = sizeof(VnetHeader) + kMaxPacket + 1;

  FrameQueue() : bytes_(kCapacity) {}

  // Where the next frame may be written, kRoom bytes; null when that many are not free.
  uint8_t* Room() {
    if (count_ == kMostFrames) return nullptr;
    if (count_ == 0) {
      tail_ = 0;
      return bytes_.data();
    }
    const size_t head = frames_[first_].offset;
    if (tail_ > head) {
      if (tail_ + kRoom <= kCapacity) return bytes_.data() + tail_;
      if (kRoom > head) return nullptr;
      tail_ = 0;
      return bytes_.data();
    }
    return tail_ + kRoom <= head ? bytes_.data() + tail_ : nullptr;
  }
  // Keeps the `length` bytes written to Room().
  void Push(size_t length) {
    frames_[(first_ + count_) % kMostFrames] = {tail_, length};
    count_ += 1;
    tail_ += (length + kAlign - 1) / kAlign * kAlign;
  }
  bool empty() const { return count_ == 0; }
  uint8_t* front() { return bytes_.data() + frames_[first_].offset; }
  size_t front_length() const { return frames_[first_].length; }
  void Pop() {
    first_ = (first_ + 1) % kMostFrames;
    count_ -= 1;
  }

 private:
  static constexpr size_t kAlign = 64;
  static constexpr size_t kCapacity = 1024 * 1024;
  static constexpr size_t kMostFrames = 1024;

  std::vector<uint8_t> bytes_;
  std::array<Frame, kMostFrames> frames_{};
  size_t first_ = 0, count_ = 0, tail_ = 0;
};

}  // namespace arctic::tunnel
