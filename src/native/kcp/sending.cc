// What an association sends: acknowledgements at once, everything else as pacing and window allow.
#include <string.h>

#include <algorithm>

#include "association.h"

namespace arctic::kcp {
namespace {

// A group that cannot be recovered costs a round trip; this share of them is borne, and this for the beginning of a flow,
// where somebody waits for it.
constexpr double kResidual = 0.02, kUrgentResidual = 0.002;
// Segments that are the beginning of a flow: 2 MB.
constexpr uint64_t kBeginning = 1500;
constexpr double kNoLoss = 0.0005;
// The end of a burst gets its parity so soon after it.
constexpr int64_t kTailUs = 2000;
constexpr int64_t kLongestTimeoutUs = 2'000'000;
constexpr int64_t kProbeEveryUs = 100'000;
constexpr int kMostBackoff = 6;
constexpr size_t kMostTold = 16;

}  // namespace

bool Association::Urgent() const {
  return std::any_of(active_.begin(), active_.end(), [](const Stream* stream) { return stream->send.begun() < kBeginning; });
}

size_t Association::ParityOf(size_t data, bool urgent) const {
  const double loss = rate_.loss();
  return loss < kNoLoss ? 0 : ParityFor(data, std::min(loss, 0.4), urgent ? kUrgentResidual : kResidual);
}

bool Association::HasData() {
  if (!kills_.empty() || want_ping_) return true;
  while (!active_.empty()) {
    Stream* stream = active_.front();
    if (stream->send.sendable() && stream->send.Next(kMostSegment) != nullptr) return true;
    Rest(stream);
  }
  return false;
}

void Association::Tick(int64_t now_us) {
  if (now_us >= loss_at_) FindLost(now_us);
  if (unanswered_since_ != kNever && now_us - unanswered_since_ > settings_.silence) {
    Fail("the peer does not answer");
    return;
  }
  if (in_flight_ > 0 && timeout_at_ == kNever) timeout_at_ = now_us + Timeout();
  if (now_us >= timeout_at_ && in_flight_ > 0) {
    // No acknowledgement at all: the oldest go again, past the window, and what comes back tells about the rest.
    backoff_ = std::min(backoff_ + 1, kMostBackoff);
    timeout_at_ = now_us + std::min(Timeout() << backoff_, kLongestTimeoutUs);
    probes_ = 2;
    int found = 0;
    for (uint64_t counter = unresolved_; counter < counter_ && found < 2; counter += 1) {
      Sent* sent = SentOf(counter);
      if (sent == nullptr || sent->acked || sent->lost) continue;
      Lose(counter, sent);
      found += 1;
    }
    want_ping_ = !HasData();
  }
  if (now_us - std::max(confirmed_at_, pinged_at_) >= settings_.ping_every) {
    pinged_at_ = now_us;
    want_ping_ = true;
  }
  if (probing_ && now_us - probed_at_ >= kProbeEveryUs) {
    probed_at_ = now_us;
    want_ping_ = true;
  }
  if (!blocked_.empty() && now_us - asked_at_ >= 4 * Timeout()) AskWindows(now_us);
}

// A window that stays shut may be one whose opening got lost.
void Association::AskWindows(int64_t now_us) {
  asked_at_ = now_us;
  for (auto at = blocked_.begin(); at != blocked_.end();) {
    const auto found = streams_.find(*at);
    if (found == streams_.end() || !found->second->send.blocked()) {
      at = blocked_.erase(at);
      continue;
    }
    asking_.push_back(*at);
    ++at;
  }
}

// Out of the turn: it has nothing that may leave.
void Association::Rest(Stream* stream) {
  stream->active = false;
  active_.pop_front();
  if (stream->send.blocked()) blocked_.insert(stream->conversation);
}

void Association::Leave(int64_t now_us, DatagramHeader header, size_t text, Batch* out) {
  if (sealer_.sealed() >= settings_.rekey_datagrams || now_us - keyed_at_ >= settings_.rekey_after) {
    // Not before the peer has followed to the key in force: two changes that it sees nothing of would lose it.
    if (largest_acked_ >= key_from_) {
      sealer_.Rekey();
      keyed_at_ = now_us;
      key_from_ = counter_;
    } else {
      want_ping_ = true;
    }
  }
  header.association = peer_name_;
  const size_t length = kHeader + text + kTag;
  if (!sealer_.Seal(header, out->next(), text)) {
    Fail("a datagram cannot be sealed");
    return;
  }
  totals_.sent += 1;
  totals_.sent_bytes += length;
  out->Add(length);
  if (header.type == Type::kControl) return;
  Sent sent;
  sent.mark = rate_.OnSend(now_us, length, in_flight_);
  sent.bytes = static_cast<uint16_t>(length);
  sent.refs = refs_base_ + refs_.size() - pending_refs_;
  sent.ref_count = pending_refs_;
  pending_refs_ = 0;
  sent_.push_back(sent);
  in_flight_ += length;
  counter_ += 1;
  if (timeout_at_ == kNever) timeout_at_ = now_us + Timeout();
  if (unanswered_since_ == kNever) unanswered_since_ = now_us;
}

void Association::SendControl(int64_t now_us, Batch* out) {
  uint8_t* at = out->next() + kHeader;
  size_t used = 0;
  if (received_here_ > 0) {
    Ack ack;
    // What the last eight acknowledgements said is said again: they get lost, too.
    receipts_.Fill(&ack, ack_floors_[ack_number_ % 8]);
    ack_floors_[ack_number_ % 8] = ack.largest;
    ack_number_ += 1;
    ack.received = received_here_;
    ack.received_bytes = received_bytes_here_;
    SegmentHeader segment;
    segment.command = Command::kAck;
    segment.time = static_cast<uint32_t>(now_us - largest_at_);
    segment.number = static_cast<uint32_t>(ack.largest);
    segment.length = static_cast<uint32_t>(EncodeAck(ack, at + kSegmentHeader));
    EncodeSegment(segment, at);
    used += kSegmentHeader + segment.length;
  }
  const auto tell = [&](uint32_t conversation, Command command, Stream* stream) {
    SegmentHeader segment;
    segment.conversation = conversation;
    segment.command = command;
    if (stream != nullptr) {
      segment.una = stream->receive.next();
      segment.window = stream->receive.Window();
    }
    EncodeSegment(segment, at + used);
    used += kSegmentHeader;
  };
  size_t told = 0;
  std::vector<Stream*> again;
  for (Stream* stream : telling_) {
    if (told == kMostTold) {
      again.push_back(stream);
      continue;
    }
    told += 1;
    tell(stream->conversation, Command::kTellWindow, stream);
    stream->tell_again -= 1;
    stream->tell_window = stream->tell_again > 0;
    if (stream->tell_window) again.push_back(stream);
  }
  telling_ = std::move(again);
  for (; !asking_.empty() && told < 2 * kMostTold; told += 1) {
    tell(asking_.back(), Command::kAskWindow, nullptr);
    asking_.pop_back();
  }
  unacknowledged_ = 0;
  acked_at_ = now_us;
  ack_at_ = telling_.empty() ? kNever : now_us + 5000;
  DatagramHeader header;
  header.type = Type::kControl;
  header.counter = kControlBit | control_counter_++;
  Leave(now_us, header, used, out);
}

void Association::SendData(int64_t now_us, Batch* out) {
  uint8_t* text = out->next() + kHeader;
  size_t used = 0;
  const auto note = [&](uint32_t conversation, uint32_t number, bool kill) {
    refs_.push_back({conversation, number, kill});
    pending_refs_ = static_cast<uint16_t>(pending_refs_ + 1);
  };
  for (; !kills_.empty() && used + kSegmentHeader <= kMostText; kills_.pop_front()) {
    SegmentHeader segment;
    segment.conversation = kills_.front();
    segment.command = Command::kKill;
    EncodeSegment(segment, text + used);
    used += kSegmentHeader;
    note(kills_.front(), 0, true);
  }
  while (!active_.empty() && used + kSegmentHeader < kMostText) {
    Stream* stream = active_.front();
    Segment* piece = stream->send.Next(kMostText - used - kSegmentHeader);
    if (piece == nullptr) {
      // Nothing left, or nothing that fits here.
      if (stream->send.Next(kMostSegment) != nullptr) break;
      Rest(stream);
      continue;
    }
    SegmentHeader segment;
    segment.conversation = stream->conversation;
    segment.window = stream->receive.Window();
    segment.time = static_cast<uint32_t>(now_us / 1000);
    segment.number = piece->number;
    segment.una = stream->receive.next();
    segment.length = piece->length;
    EncodeSegment(segment, text + used);
    memcpy(text + used + kSegmentHeader, piece->bytes, piece->length);
    used += kSegmentHeader + piece->length;
    if (piece->waits_again) {
      totals_.repeated += 1;
      totals_.repeated_bytes += piece->length;
    }
    stream->send.OnSent(piece, counter_);
    note(stream->conversation, piece->number, false);
    TellWritable(stream);
    // One segment each in turn.
    active_.pop_front();
    active_.push_back(stream);
  }
  if (used == 0) {
    SegmentHeader segment;
    segment.command = Command::kPing;
    EncodeSegment(segment, text);
    used = kSegmentHeader;
  }
  want_ping_ = false;
  if (!group_open_) {
    group_open_ = true;
    group_base_ = counter_;
    group_count_ = 0;
    group_at_ = now_us;
    group_urgent_ = Urgent();
    encoder_.Begin(std::max<size_t>(ParityOf(settings_.group, group_urgent_), rate_.loss() < kNoLoss ? 0 : 1));
  }
  DatagramHeader header;
  header.type = Type::kData;
  header.index = static_cast<uint8_t>(group_count_);
  header.counter = counter_;
  encoder_.Add(group_count_, text, used);
  group_count_ += 1;
  Leave(now_us, header, used, out);
}

void Association::CloseGroup(int64_t now_us, Batch* out) {
  size_t parity = encoder_.parity();
  if (group_count_ < settings_.group && parity > 0) parity = std::min(parity, std::max<size_t>(1, ParityOf(group_count_, group_urgent_)));
  const uint64_t end = group_base_ + group_count_ + parity - 1;
  for (size_t index = 0; index < parity; index += 1) {
    DatagramHeader header;
    header.type = Type::kParity;
    header.data = static_cast<uint8_t>(group_count_);
    header.index = static_cast<uint8_t>(index);
    header.counter = counter_;
    memcpy(out->next() + kHeader, encoder_.shard(index), encoder_.length());
    Leave(now_us, header, encoder_.length(), out);
    totals_.parity_sent += 1;
  }
  for (uint64_t counter = group_base_; counter <= end; counter += 1) {
    Sent* sent = SentOf(counter);
    if (sent != nullptr) sent->group_end = end;
  }
  group_open_ = false;
}

void Association::Send(int64_t now_us, Batch* out) {
  if (dead()) return;
  Tick(now_us);
  while (!dead() && out->room() > kMostParity + 2) {
    if (now_us >= ack_at_ || !asking_.empty()) SendControl(now_us, out);
    if (group_open_ && group_count_ >= settings_.group) CloseGroup(now_us, out);
    if (!HasData()) {
      if (in_flight_ < rate_.window()) rate_.OnAppLimited(in_flight_);
      break;
    }
    if (probes_ > 0) {
      probes_ -= 1;
    } else if (in_flight_ >= rate_.window() || !rate_.MaySend(now_us)) {
      break;
    }
    SendData(now_us, out);
  }
  if (!dead() && group_open_ && out->room() > kMostParity && now_us >= GroupDue()) CloseGroup(now_us, out);
}

// More to come is waited for longer than for nothing.
int64_t Association::GroupDue() const {
  const bool more = !active_.empty();
  return group_at_ + (more ? std::max<int64_t>(kTailUs, rate_.least_rtt() / 4) : kTailUs);
}

int64_t Association::NextAt(int64_t now_us) const {
  if (dead()) return kNever;
  int64_t next = std::min({ack_at_, loss_at_, in_flight_ > 0 ? timeout_at_ : kNever,
                           std::max(confirmed_at_, pinged_at_) + settings_.ping_every});
  if (group_open_) next = std::min(next, GroupDue());
  if (probing_) next = std::min(next, probed_at_ + kProbeEveryUs);
  const bool waiting = !active_.empty() || !kills_.empty() || want_ping_;
  if (waiting && in_flight_ < rate_.window()) next = std::min(next, rate_.NextSendAt(now_us));
  if (!blocked_.empty()) next = std::min(next, asked_at_ + 4 * Timeout());
  return next;
}

void Association::Close(int64_t now_us, Batch* out) {
  if (dead()) return;
  // More than one: nobody repeats it when it is lost.
  for (int copies = 0; copies < 3 && !dead(); copies += 1) {
    SegmentHeader segment;
    segment.command = Command::kClose;
    EncodeSegment(segment, out->next() + kHeader);
    DatagramHeader header;
    header.type = Type::kControl;
    header.counter = kControlBit | control_counter_++;
    Leave(now_us, header, kSegmentHeader, out);
  }
  Fail("closed");
}

}  // namespace arctic::kcp
