#include "stream.h"

#include <string.h>

#include <algorithm>

namespace arctic::kcp {

SegmentPtr SegmentPool::Take() {
  out_ += 1;
  if (spare_.empty()) return SegmentPtr(new Segment);
  SegmentPtr segment = std::move(spare_.back());
  spare_.pop_back();
  return segment;
}

void SegmentPool::Give(SegmentPtr segment) {
  out_ -= 1;
  if (spare_.size() < kMostSpare) spare_.push_back(std::move(segment));
}

void SendQueue::Write(const uint8_t* bytes, size_t length) {
  unsent_ += length;
  // As KCP in stream mode: the last segment is filled up while it has not left.
  if (fresh_ != end() && segments_.back()->length < kMostSegment) {
    Segment& last = *segments_.back();
    const size_t take = std::min(length, kMostSegment - last.length);
    memcpy(last.bytes + last.length, bytes, take);
    last.length = static_cast<uint16_t>(last.length + take);
    bytes += take;
    length -= take;
  }
  while (length > 0) {
    const size_t take = std::min(length, kMostSegment);
    SegmentPtr segment = pool_->Take();
    segment->number = end();
    segment->length = static_cast<uint16_t>(take);
    segment->counter = 0;
    segment->acked = segment->waits_again = false;
    memcpy(segment->bytes, bytes, take);
    segments_.push_back(std::move(segment));
    bytes += take;
    length -= take;
  }
}

Segment* SendQueue::Find(uint32_t number) {
  const uint32_t at = number - first_;
  return at < segments_.size() ? segments_[at].get() : nullptr;
}

Segment* SendQueue::Next(size_t room) {
  while (!again_.empty()) {
    Segment* segment = Find(again_.front());
    if (segment != nullptr && !segment->acked) return segment->length <= room ? segment : nullptr;
    again_.pop_front();
  }
  if (fresh_ == end() || static_cast<int32_t>(edge_ - fresh_) <= 0) return nullptr;
  Segment* segment = Find(fresh_);
  return segment->length <= room ? segment : nullptr;
}

void SendQueue::OnSent(Segment* segment, uint64_t counter) {
  if (segment->waits_again) {
    segment->waits_again = false;
    again_.pop_front();
    repeated_ += 1;
  } else {
    fresh_ += 1;
    begun_ += 1;
    unsent_ -= segment->length;
  }
  segment->counter = counter;
}

void SendQueue::PopAcked() {
  while (!segments_.empty() && segments_.front()->acked) {
    pool_->Give(std::move(segments_.front()));
    segments_.pop_front();
    first_ += 1;
  }
}

void SendQueue::Ack(uint32_t number) {
  Segment* segment = Find(number);
  if (segment == nullptr || segment->counter == 0) return;
  segment->acked = true;
  PopAcked();
}

void SendQueue::AckBefore(uint32_t una) {
  // Not beyond what has been sent, whatever the peer says.
  if (static_cast<int32_t>(una - first_) <= 0 || static_cast<int32_t>(fresh_ - una) < 0) return;
  for (uint32_t number = first_; number != una; number += 1) segments_[number - first_]->acked = true;
  PopAcked();
}

void SendQueue::Lost(uint32_t number, uint64_t counter) {
  Segment* segment = Find(number);
  if (segment == nullptr || segment->acked || segment->waits_again || segment->counter != counter) return;
  segment->waits_again = true;
  again_.push_back(number);
}

void SendQueue::Clear() {
  for (SegmentPtr& segment : segments_) pool_->Give(std::move(segment));
  first_ = fresh_ = end();
  segments_.clear();
  again_.clear();
  unsent_ = 0;
}

uint32_t ReceiveQueue::Edge() const {
  const uint32_t unread = static_cast<uint32_t>(ready_.size());
  const uint32_t edge = next_ + (size_ > unread ? size_ - unread : 0);
  return static_cast<int32_t>(edge - promised_) > 0 ? edge : promised_;
}

uint16_t ReceiveQueue::Window() {
  promised_ = Edge();
  if (static_cast<int32_t>(promised_ - limit_) > 0) limit_ = promised_;
  return static_cast<uint16_t>(std::min<uint32_t>(promised_ - next_, 0xffff));
}

bool ReceiveQueue::ought_tell() const {
  const uint32_t grown = Edge() - promised_;
  return grown > 0 && (grown >= size_ / 8 || promised_ == next_);
}

bool ReceiveQueue::Push(uint32_t number, const uint8_t* bytes, size_t length) {
  if (static_cast<int32_t>(number - next_) < 0) return true;
  if (static_cast<int32_t>(number - limit_) >= 0 || length > kMostSegment) return false;
  const size_t at = number - next_;
  if (at >= waiting_.size()) waiting_.resize(at + 1);
  if (waiting_[at] != nullptr) return true;
  SegmentPtr segment = pool_->Take();
  segment->number = number;
  segment->length = static_cast<uint16_t>(length);
  memcpy(segment->bytes, bytes, length);
  waiting_[at] = std::move(segment);
  while (!waiting_.empty() && waiting_.front() != nullptr) {
    ready_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    next_ += 1;
  }
  if (static_cast<int32_t>(next_ - promised_) > 0) promised_ = next_;
  return true;
}

size_t ReceiveQueue::Peek(uint8_t* to, size_t room) const {
  size_t copied = 0, skip = taken_;
  for (const SegmentPtr& segment : ready_) {
    const size_t take = std::min<size_t>(segment->length - skip, room - copied);
    memcpy(to + copied, segment->bytes + skip, take);
    copied += take;
    skip = 0;
    if (copied == room) break;
  }
  return copied;
}

void ReceiveQueue::Consume(size_t length, int64_t now_us, int64_t rtt_us, uint32_t most) {
  while (length > 0 && !ready_.empty()) {
    const size_t take = std::min<size_t>(length, ready_.front()->length - taken_);
    taken_ += take;
    length -= take;
    if (taken_ < ready_.front()->length) break;
    pool_->Give(std::move(ready_.front()));
    ready_.pop_front();
    taken_ = 0;
    consumed_ += 1;
  }
  if (now_us - measured_at_ >= rtt_us) {
    // Four round trips' worth: a segment that is lost twice must not stop those behind it.
    if (measured_at_ != 0) size_ = std::max(size_, std::min(consumed_ * 4, 2 * size_));
    consumed_ = 0;
    measured_at_ = now_us;
  }
  size_ = std::min(size_, std::max(std::min(most, kMostWindow), kLeastWindow));
}

void ReceiveQueue::Clear() {
  for (SegmentPtr& segment : ready_) pool_->Give(std::move(segment));
  for (SegmentPtr& segment : waiting_) {
    if (segment != nullptr) pool_->Give(std::move(segment));
  }
  ready_.clear();
  waiting_.clear();
}

}  // namespace arctic::kcp
