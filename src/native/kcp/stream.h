// One conversation: KCP's ordered, reliable stream of bytes in numbered segments, each direction with its own window.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "datagram.h"

namespace arctic::kcp {

struct Segment {
  uint32_t number = 0;
  uint16_t length = 0;
  // Sending: in which datagram it went last; 0 before it went.
  uint64_t counter = 0;
  bool acked = false, waits_again = false;
  uint8_t bytes[kMostSegment];
};

using SegmentPtr = std::unique_ptr<Segment>;

// Segments that were used already; the allocator is not asked for every packet.
class SegmentPool {
 public:
  SegmentPtr Take();
  void Give(SegmentPtr segment);
  // Gives the spare ones back to the allocator.
  void Trim() { spare_.clear(); }
  // Segments in use.
  size_t out() const { return out_; }

 private:
  static constexpr size_t kMostSpare = 4096;
  std::vector<SegmentPtr> spare_;
  size_t out_ = 0;
};

class SendQueue {
 public:
  // `first`: segments that may leave before the peer has said what it takes.
  SendQueue(SegmentPool* pool, uint32_t first) : pool_(pool), edge_(first) {}
  ~SendQueue() { Clear(); }

  void Write(const uint8_t* bytes, size_t length);
  // What should leave next and fits into `room` bytes: one to be repeated, or the next new one inside the window.
  Segment* Next(size_t room);
  void OnSent(Segment* segment, uint64_t counter);
  void Ack(uint32_t number);
  void AckBefore(uint32_t una);
  // The datagram `counter` is lost: what it carried goes again, unless it has gone again since.
  void Lost(uint32_t number, uint64_t counter);
  // As far as the peer takes segments; it never moves back.
  void SetEdge(uint32_t edge) {
    if (static_cast<int32_t>(edge - edge_) > 0) edge_ = edge;
  }
  void Clear();

  bool empty() const { return segments_.empty(); }
  bool sendable() const { return !again_.empty() || (fresh_ != end() && static_cast<int32_t>(edge_ - fresh_) > 0); }
  // There is new data, and the peer's window is shut.
  bool blocked() const { return fresh_ != end() && static_cast<int32_t>(edge_ - fresh_) <= 0; }
  size_t unsent() const { return unsent_; }
  uint64_t repeated() const { return repeated_; }
  // Segments that have left for the first time.
  uint64_t begun() const { return begun_; }

 private:
  uint32_t end() const { return first_ + static_cast<uint32_t>(segments_.size()); }
  Segment* Find(uint32_t number);
  void PopAcked();

  SegmentPool* pool_;
  std::deque<SegmentPtr> segments_;
  std::deque<uint32_t> again_;
  // Numbers of segments_[0] and of the first that has never been sent.
  uint32_t first_ = 0, fresh_ = 0;
  uint32_t edge_;
  size_t unsent_ = 0;
  uint64_t repeated_ = 0, begun_ = 0;
};

class ReceiveQueue {
 public:
  // The most a sender starts with, in segments: so many are taken whatever was promised.
  static constexpr uint32_t kFirstWindow = 1024;
  static constexpr uint32_t kLeastWindow = 8;
  static constexpr uint32_t kMostWindow = 16384;

  ReceiveQueue(SegmentPool* pool, uint32_t first) : pool_(pool), size_(first), promised_(first) {}
  ~ReceiveQueue() { Clear(); }

  // False when it lies beyond the window that was promised.
  bool Push(uint32_t number, const uint8_t* bytes, size_t length);
  // Copies what can be read, at most `room` bytes, and leaves it there.
  size_t Peek(uint8_t* to, size_t room) const;
  // Takes bytes that Peek has shown. `most` bounds the window, in segments.
  void Consume(size_t length, int64_t now_us, int64_t rtt_us, uint32_t most);
  bool readable() const { return !ready_.empty(); }
  void Clear();

  uint32_t next() const { return next_; }
  // Segments from `next` on that may come; noted as told.
  uint16_t Window();
  // Whether the window has grown by so much that the peer ought to know.
  bool ought_tell() const;

 private:
  uint32_t Edge() const;

  SegmentPool* pool_;
  std::deque<SegmentPtr> ready_;
  // Out of order: waiting_[0] has number next_, null where one is missing.
  std::deque<SegmentPtr> waiting_;
  // Bytes of ready_[0] that are taken.
  size_t taken_ = 0;
  uint32_t next_ = 0;
  uint32_t size_, promised_;
  // First segment that is not taken any more.
  uint32_t limit_ = kFirstWindow;
  uint32_t consumed_ = 0;
  int64_t measured_at_ = 0;
};

struct Stream {
  Stream(uint32_t number, SegmentPool* pool, uint32_t first) : conversation(number), send(pool, first), receive(pool, first) {}

  const uint32_t conversation;
  // Whoever reads and writes it; null once it has let go.
  void* owner = nullptr;
  SendQueue send;
  ReceiveQueue receive;
  // In the association's lists.
  bool active = false, told_readable = false, told_writable = true, tell_window = false, killed = false, overrun = false;
  int tell_again = 0;
};

}  // namespace arctic::kcp
