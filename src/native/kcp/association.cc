// Conversations and what arrives. What leaves is in sending.cc.
#include "association.h"

#include <algorithm>

namespace arctic::kcp {
namespace {

constexpr int64_t kAckDelayUs = 2000;
constexpr uint64_t kAckEvery = 20;

}  // namespace

Association::Association(bool dialer, const Key& seal, const Key& open, uint32_t peer_name, int64_t now_us, int64_t rtt_us,
                         const Settings& settings)
    : dialer_(dialer),
      peer_name_(peer_name),
      settings_(settings),
      sealer_(seal, settings.suite),
      opener_(open, settings.suite),
      rate_(now_us, rtt_us),
      confirmed_at_(now_us),
      keyed_at_(now_us) {}

Stream* Association::Open() {
  if (dead() || streams_.size() >= settings_.most_streams) return nullptr;
  last_conversation_ += 1;
  auto stream = std::make_unique<Stream>(last_conversation_, &pool_, FirstWindow());
  Stream* raw = stream.get();
  streams_.emplace(last_conversation_, std::move(stream));
  return raw;
}

void Association::Write(Stream* stream, const uint8_t* bytes, size_t length) {
  if (length == 0) return;
  stream->send.Write(bytes, length);
  Activate(stream);
}

void Association::Consume(Stream* stream, size_t length, int64_t now_us) {
  const size_t room = kManyHeld > pool_.out() ? kManyHeld - pool_.out() : 0;
  const size_t share = std::min<size_t>(kSegmentsInAll, room) / (streams_.size() + 1);
  stream->receive.Consume(length, now_us, rate_.smoothed_rtt(), static_cast<uint32_t>(share));
  if (!stream->receive.ought_tell()) return;
  stream->tell_again = 2;
  if (!stream->tell_window) telling_.push_back(stream);
  stream->tell_window = true;
  ack_at_ = std::min(ack_at_, now_us + kAckDelayUs);
}

void Association::Finish(Stream* stream) {
  stream->owner = nullptr;
  stream->receive.Clear();
  if (stream->send.empty()) Drop(stream);
}

void Association::Kill(Stream* stream) {
  // A peer that has killed it knows already.
  if (!stream->killed) kills_.push_back(stream->conversation);
  Drop(stream);
}

void Association::Drop(Stream* stream) {
  Deactivate(stream);
  for (auto* list : {&opened, &readable, &writable, &killed, &telling_}) {
    list->erase(std::remove(list->begin(), list->end(), stream), list->end());
  }
  streams_.erase(stream->conversation);
  if (streams_.empty()) pool_.Trim();
}

void Association::Activate(Stream* stream) {
  if (stream->active) return;
  stream->active = true;
  active_.push_back(stream);
}

void Association::Deactivate(Stream* stream) {
  if (!stream->active) return;
  stream->active = false;
  active_.erase(std::remove(active_.begin(), active_.end(), stream), active_.end());
}

void Association::TellReadable(Stream* stream) {
  if (stream->told_readable || stream->owner == nullptr) return;
  stream->told_readable = true;
  readable.push_back(stream);
}

void Association::TellWritable(Stream* stream) {
  if (stream->told_writable || stream->owner == nullptr || stream->send.unsent() > MostUnsent() / 2) return;
  stream->told_writable = true;
  writable.push_back(stream);
}

bool Association::Receive(uint8_t* bytes, size_t length, int64_t now_us) {
  DatagramHeader header;
  if (dead() || !DecodeHeader(bytes, length, &header)) return false;
  const size_t text = length - kHeader - kTag;
  if (!opener_.Open(header, bytes, text, now_us)) {
    totals_.forged += 1;
    return false;
  }
  NoteLossHere();
  totals_.received += 1;
  totals_.received_bytes += length;
  const uint8_t* at = bytes + kHeader;
  if (header.type == Type::kControl) {
    if (!Segments(at, text, now_us)) Fail("a datagram that the format does not allow");
    return true;
  }
  NoteArrival(header.counter, length, now_us);
  const bool fresh = receipts_.Mark(header.counter);
  if (header.type == Type::kData) {
    if (fresh && !Segments(at, text, now_us)) Fail("a datagram that the format does not allow");
    groups_.OnData(header.counter - header.index, header.index, at, text, &recovered_);
  } else {
    groups_.OnParity(header.counter - header.data - header.index, header.data, header.index, at, text, &recovered_);
  }
  for (const Groups::Recovered& one : recovered_) {
    if (!receipts_.Mark(one.counter)) continue;
    totals_.recovered += 1;
    if (!Segments(one.text.data(), one.text.size(), now_us)) Fail("a datagram that the format does not allow");
  }
  recovered_.clear();
  return true;
}

void Association::NoteArrival(uint64_t counter, size_t length, int64_t now_us) {
  received_bytes_here_ += length;
  received_here_ += 1;
  if (counter > receipts_.largest()) largest_at_ = now_us;
  unacknowledged_ += 1;
  // The first after a pause is answered at once: somebody may wait for just that.
  const bool paused = now_us - acked_at_ > rate_.smoothed_rtt();
  const int64_t wanted = unacknowledged_ >= kAckEvery || paused ? now_us : now_us + kAckDelayUs;
  ack_at_ = std::min(ack_at_, wanted);
}

void Association::NoteLossHere() {
  constexpr uint64_t kBlock = 128;
  const uint64_t expected = opener_.expected() - expected_before_;
  if (expected < kBlock) return;
  // This one is counted below.
  const uint64_t received = totals_.received + 1 - received_before_;
  const double seen = received >= expected ? 0 : 1 - static_cast<double>(received) / static_cast<double>(expected);
  loss_here_ += (seen - loss_here_) * (seen > loss_here_ ? 0.25 : 0.1);
  expected_before_ = opener_.expected();
  received_before_ = totals_.received + 1;
}

bool Association::Segments(const uint8_t* text, size_t length, int64_t now_us) {
  SegmentReader reader(text, length);
  SegmentHeader segment;
  const uint8_t* payload = nullptr;
  while (reader.Next(&segment, &payload)) {
    switch (segment.command) {
      case Command::kPush:
        if (!OnPush(segment, payload)) return false;
        break;
      case Command::kAck: {
        Ack ack;
        if (!DecodeAck(payload, segment.length, &ack)) return false;
        OnAck(ack, segment.time, now_us);
        break;
      }
      case Command::kAskWindow:
      case Command::kTellWindow: {
        const auto found = streams_.find(segment.conversation);
        if (found == streams_.end()) break;
        Stream* stream = found->second.get();
        if (segment.command == Command::kAskWindow) {
          stream->tell_again = 1;
          if (!stream->tell_window) telling_.push_back(stream);
          stream->tell_window = true;
          ack_at_ = now_us;
          break;
        }
        stream->send.AckBefore(segment.una);
        stream->send.SetEdge(segment.una + segment.window);
        if (stream->send.sendable()) Activate(stream);
        break;
      }
      case Command::kPing:
        break;
      case Command::kKill: {
        // It may be all that ever comes of it.
        if (TooFar(segment.conversation)) return false;
        if (!dialer_) Meet(segment.conversation);
        const auto found = streams_.find(segment.conversation);
        if (found == streams_.end()) break;
        Stream* stream = found->second.get();
        if (stream->killed) break;
        stream->killed = true;
        if (stream->owner == nullptr) {
          Drop(stream);
        } else {
          killed.push_back(stream);
        }
        break;
      }
      case Command::kClose:
        Fail("the peer has closed the association");
        return true;
    }
  }
  return reader.ok();
}

// Whether nothing has been heard of it yet. Those before it are still to come, for datagrams overtake each other.
bool Association::Meet(uint32_t conversation) {
  if (expected_.erase(conversation) > 0) return true;
  if (static_cast<int32_t>(conversation - last_conversation_) <= 0) return false;
  for (uint32_t between = last_conversation_ + 1; between != conversation; between += 1) expected_.insert(between);
  last_conversation_ = conversation;
  return true;
}

// Null for one that is over, or that there is no room for.
Stream* Association::Accept(uint32_t conversation) {
  if (dialer_ || !Meet(conversation)) return nullptr;
  if (streams_.size() >= settings_.most_streams) {
    kills_.push_back(conversation);
    return nullptr;
  }
  auto stream = std::make_unique<Stream>(conversation, &pool_, FirstWindow());
  Stream* raw = stream.get();
  streams_.emplace(conversation, std::move(stream));
  opened.push_back(raw);
  return raw;
}

bool Association::OnPush(const SegmentHeader& segment, const uint8_t* payload) {
  const auto found = streams_.find(segment.conversation);
  Stream* stream = nullptr;
  if (found != streams_.end()) {
    stream = found->second.get();
  } else {
    if (TooFar(segment.conversation)) return false;
    stream = Accept(segment.conversation);
    // Of a conversation that is over: late or repeated.
    if (stream == nullptr) return expected_.size() <= 2 * kMostAhead;
    // Its owner is told of it by `opened`, and reads then.
    stream->owner = stream;
  }
  stream->send.AckBefore(segment.una);
  stream->send.SetEdge(segment.una + segment.window);
  if (stream->send.sendable()) Activate(stream);
  if (stream->owner == nullptr || stream->killed) return true;
  if (pool_.out() >= kMostHeld) {
    // Its owner gives it up, and says so to the peer.
    if (!stream->overrun) killed.push_back(stream);
    stream->overrun = true;
    return true;
  }
  if (!stream->receive.Push(segment.number, payload, segment.length)) return false;
  if (stream->receive.readable()) TellReadable(stream);
  return true;
}

void Association::OnAck(const Ack& ack, uint32_t delay_us, int64_t now_us) {
  // Of something that was never sent: nonsense, but harmless.
  if (ack.largest >= counter_) return;
  uint64_t newest = 0;
  for (size_t word = 0; word < ack.words; word += 1) {
    for (uint64_t bits = ack.bits[word]; bits != 0; bits &= bits - 1) {
      const uint64_t back = 64 * word + static_cast<uint64_t>(__builtin_ctzll(bits));
      if (back >= ack.largest) break;
      Sent* sent = SentOf(ack.largest - back);
      if (sent == nullptr || sent->acked) continue;
      sent->acked = true;
      if (sent->lost) {
        // It was only late: wait longer from now on.
        reordering_ = std::min<uint64_t>(reordering_ + 4, 256);
      } else {
        in_flight_ -= sent->bytes;
      }
      newest = std::max(newest, ack.largest - back);
      for (uint64_t ref = sent->refs; ref < sent->refs + sent->ref_count; ref += 1) {
        const Ref& of = refs_[ref - refs_base_];
        const auto found = of.kill ? streams_.end() : streams_.find(of.conversation);
        if (found == streams_.end()) continue;
        Stream* stream = found->second.get();
        stream->send.Ack(of.number);
        if (stream->owner == nullptr && stream->send.empty()) Drop(stream);
      }
    }
  }
  largest_acked_ = std::max(largest_acked_, ack.largest);
  if (ack.largest > reported_ && ack.received >= reported_received_ && ack.received_bytes >= reported_bytes_) {
    const uint64_t covered = ack.largest - reported_, arrived = ack.received - reported_received_;
    const uint64_t missing = covered > arrived ? covered - arrived : 0;
    totals_.missing += missing;
    rate_.OnReport(covered, missing);
    reported_ = ack.largest;
    reported_received_ = ack.received;
    reported_bytes_ = ack.received_bytes;
  }
  if (newest != 0) {
    backoff_ = 0;
    confirmed_at_ = now_us;
    unanswered_since_ = in_flight_ > 0 ? now_us : kNever;
    const Sent& sent = *SentOf(newest);
    // Only the largest has come without waiting for others; the delay is its own.
    const int64_t rtt = newest == ack.largest ? now_us - sent.mark.sent_at - delay_us : rate_.smoothed_rtt();
    rate_.OnAck(now_us, reported_bytes_, sent.mark, std::max<int64_t>(rtt, 0), in_flight_);
    timeout_at_ = in_flight_ > 0 ? now_us + Timeout() : kNever;
  }
  FindLost(now_us);
  ReleaseOld();
}

void Association::FindLost(int64_t now_us) {
  loss_at_ = kNever;
  const int64_t patience = rate_.smoothed_rtt() + rate_.smoothed_rtt() / 4 + 10000;
  while (unresolved_ < sent_base_) unresolved_ += 1;
  bool leading = true;
  for (uint64_t counter = unresolved_; counter < largest_acked_; counter += 1) {
    Sent* sent = SentOf(counter);
    if (sent == nullptr) break;
    if (!sent->acked && !sent->lost) {
      // What parity may still bring is not lost.
      const bool overtaken = sent->group_end < largest_acked_ && largest_acked_ - sent->group_end >= reordering_;
      const int64_t due = sent->mark.sent_at + patience;
      if (overtaken || due <= now_us) {
        Lose(counter, sent);
      } else {
        loss_at_ = std::min(loss_at_, due);
        leading = false;
      }
    }
    if (leading) unresolved_ = counter + 1;
  }
}

void Association::Lose(uint64_t counter, Sent* sent) {
  sent->lost = true;
  in_flight_ -= sent->bytes;
  totals_.lost += 1;
  for (uint64_t ref = sent->refs; ref < sent->refs + sent->ref_count; ref += 1) {
    const Ref& of = refs_[ref - refs_base_];
    if (of.kill) {
      kills_.push_back(of.conversation);
      continue;
    }
    const auto found = streams_.find(of.conversation);
    if (found == streams_.end()) continue;
    found->second->send.Lost(of.number, counter);
    Activate(found->second.get());
  }
}

void Association::ReleaseOld() {
  while (!sent_.empty() && sent_base_ + kKept < counter_ && (sent_.front().acked || sent_.front().lost)) {
    const Sent& sent = sent_.front();
    for (uint16_t count = 0; count < sent.ref_count; count += 1) {
      refs_.pop_front();
      refs_base_ += 1;
    }
    sent_.pop_front();
    sent_base_ += 1;
  }
}

}  // namespace arctic::kcp
