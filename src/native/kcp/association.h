// The state of one association, between two relays: conversations, acknowledgements, parity, rate. It knows no socket
// and no clock: datagrams go in and out, and whoever owns it says what time it is.
#pragma once

#include <algorithm>
#include <deque>
#include <limits>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "groups.h"
#include "keys.h"
#include "rate_control.h"
#include "receipts.h"
#include "stream.h"

namespace arctic::kcp {

// Times in microseconds.
struct Settings {
  uint64_t rekey_datagrams = 1 << 20;
  int64_t rekey_after = 3'600'000'000;
  // The peer of one that sends nothing is asked whether it hears.
  int64_t ping_every = 5'000'000;
  // Nothing acknowledged for this long though something should have been.
  int64_t silence = 10'000'000;
  size_t most_streams = 8192;
  // Shards of data to a group.
  size_t group = 20;
  // What this association's datagrams are sealed with.
  Suite suite = Suite::kAes256Gcm;
};

// Datagrams ready to be sent, back to back.
class Batch {
 public:
  static constexpr size_t kMost = 128;
  Batch() : bytes_(kMost * kMostDatagram) {}
  size_t count() const { return count_; }
  size_t room() const { return kMost - count_; }
  uint8_t* next() { return bytes_.data() + used_; }
  void Add(size_t length) {
    lengths_[count_++] = static_cast<uint16_t>(length);
    used_ += length;
  }
  const uint8_t* bytes() const { return bytes_.data(); }
  size_t length(size_t index) const { return lengths_[index]; }
  void Clear() { count_ = used_ = 0; }

 private:
  std::vector<uint8_t> bytes_;
  uint16_t lengths_[kMost];
  size_t count_ = 0, used_ = 0;
};

struct Totals {
  uint64_t sent = 0, sent_bytes = 0, received = 0, received_bytes = 0;
  // Datagrams that never arrived (as the peer reports), were taken for lost here, and were worked out from parity here.
  uint64_t missing = 0, lost = 0, recovered = 0;
  // Segments sent again, and the bytes in them.
  uint64_t repeated = 0, repeated_bytes = 0;
  uint64_t parity_sent = 0, forged = 0;
};

class Association {
 public:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  // `peer_name` is what the peer calls it; `rtt_us` the round trip of the handshake.
  Association(bool dialer, const Key& seal, const Key& open, uint32_t peer_name, int64_t now_us, int64_t rtt_us,
              const Settings& settings);

  // False for a datagram that is not the peer's.
  bool Receive(uint8_t* bytes, size_t length, int64_t now_us);
  // Appends what is to leave now. More may be there when the batch is full.
  void Send(int64_t now_us, Batch* out);
  // When Send is to be called even if nothing else happens.
  int64_t NextAt(int64_t now_us) const;
  // Says goodbye; nothing is sent after it.
  void Close(int64_t now_us, Batch* out);

  Stream* Open();
  void Write(Stream* stream, const uint8_t* bytes, size_t length);
  bool Writable(const Stream* stream) const { return stream->send.unsent() < MostUnsent(); }
  size_t Peek(const Stream* stream, uint8_t* to, size_t room) const { return stream->receive.Peek(to, room); }
  void Consume(Stream* stream, size_t length, int64_t now_us);
  // The owner lets go: what it has written still arrives, what comes is thrown away.
  void Finish(Stream* stream);
  // Both ends let go at once. The stream is gone after it.
  void Kill(Stream* stream);

  // What the owner has to look at; it empties them.
  std::vector<Stream*> opened, readable, writable, killed;

  bool dead() const { return dead_ != nullptr; }
  const char* reason() const { return dead_; }
  bool dialer() const { return dialer_; }
  size_t streams() const { return streams_.size(); }
  const RateControl& rate() const { return rate_; }
  const Totals& totals() const { return totals_; }
  // Segments in memory, of both directions.
  size_t held() const { return pool_.out(); }
  // The peer has acknowledged something on this one when it had been silent on the other for long: it no longer has the other.
  bool Outlives(const Association& other) const {
    return other.unanswered_since_ != kNever && confirmed_at_ - other.unanswered_since_ > kDoubtUs;
  }
  // Share of parity in the groups sent now.
  size_t parity() const { return ParityOf(settings_.group, false); }
  // The peer has acknowledged nothing for so long that whoever can should go another way.
  bool Doubtful(int64_t now_us) const { return unanswered_since_ != kNever && now_us - unanswered_since_ > kDoubtUs; }
  // Has the peer acknowledge something.
  void Ping() { want_ping_ = true; }
  // Small datagrams all the time, so that the loss of a path without traffic is known, too.
  void SetProbing(bool probing) { probing_ = probing; }
  // Share of the peer's datagrams that do not arrive here, smoothed.
  double loss_here() const { return loss_here_; }
  bool NewestFrom(uint64_t counter) const { return counter >= opener_.highest(); }

 private:
  static constexpr size_t kMostUnsent = 256 * 1024;
  static constexpr size_t kUnsentInAll = 32 * 1024 * 1024;
  // Windows are shares of these: of what first windows take together, and of all while little is held. With thousands of
  // readers that have stopped they add up to less than kMostHeld; a peer that sends beyond loses the flow.
  static constexpr uint32_t kFirstInAll = 16384, kSegmentsInAll = 65536;
  static constexpr size_t kMostHeld = 4 * kSegmentsInAll, kManyHeld = kMostHeld / 8 * 3;
  static constexpr uint64_t kKept = 8192;
  // How far ahead of the last one a conversation may be numbered: that many first segments may overtake each other.
  static constexpr uint32_t kMostAhead = 8192;
  // Some repetitions on any path that people still use.
  static constexpr int64_t kDoubtUs = 2'000'000;

  struct Ref {
    uint32_t conversation, number;
    bool kill;
  };
  struct Sent {
    SendMark mark;
    // Counter of the last shard of its group; the largest number while the group is open.
    uint64_t group_end = std::numeric_limits<uint64_t>::max();
    uint64_t refs = 0;
    uint16_t ref_count = 0, bytes = 0;
    bool acked = false, lost = false;
  };

  size_t MostUnsent() const {
    const size_t share = kUnsentInAll / (streams_.size() + 1);
    return share < kMostUnsent ? share : kMostUnsent;
  }
  uint32_t FirstWindow() const {
    const uint32_t share = kFirstInAll / static_cast<uint32_t>(streams_.size() + 1);
    return std::max(ReceiveQueue::kLeastWindow, std::min(ReceiveQueue::kFirstWindow, share));
  }
  size_t ParityOf(size_t data, bool urgent) const;
  bool Urgent() const;
  bool Segments(const uint8_t* text, size_t length, int64_t now_us);
  bool OnPush(const SegmentHeader& segment, const uint8_t* payload);
  bool Meet(uint32_t conversation);
  bool TooFar(uint32_t conversation) const {
    return !dialer_ && static_cast<int32_t>(conversation - last_conversation_) > static_cast<int32_t>(kMostAhead);
  }
  Stream* Accept(uint32_t conversation);
  void OnAck(const Ack& ack, uint32_t delay_us, int64_t now_us);
  void FindLost(int64_t now_us);
  void Lose(uint64_t counter, Sent* sent);
  void NoteArrival(uint64_t counter, size_t length, int64_t now_us);
  void ReleaseOld();
  void Tick(int64_t now_us);
  bool HasData();
  void SendControl(int64_t now_us, Batch* out);
  void SendData(int64_t now_us, Batch* out);
  void CloseGroup(int64_t now_us, Batch* out);
  void Leave(int64_t now_us, DatagramHeader header, size_t text, Batch* out);
  int64_t GroupDue() const;
  void Rest(Stream* stream);
  void AskWindows(int64_t now_us);
  void Activate(Stream* stream);
  void Deactivate(Stream* stream);
  void TellWritable(Stream* stream);
  void TellReadable(Stream* stream);
  void Drop(Stream* stream);
  void Fail(const char* why) {
    if (dead_ == nullptr) dead_ = why;
  }
  int64_t Timeout() const { return rate_.smoothed_rtt() + std::max<int64_t>(4 * rate_.rtt_variance(), 5000) + 10000; }
  Sent* SentOf(uint64_t counter) {
    return counter < sent_base_ || counter - sent_base_ >= sent_.size() ? nullptr : &sent_[counter - sent_base_];
  }

  const bool dialer_;
  const uint32_t peer_name_;
  const Settings settings_;
  const char* dead_ = nullptr;
  // Before the streams, which give their segments back.
  SegmentPool pool_;
  Sealer sealer_;
  Opener opener_;
  RateControl rate_;
  Totals totals_;
  // When the peer has last acknowledged anything new.
  int64_t confirmed_at_, keyed_at_, pinged_at_ = 0;

  std::unordered_map<uint32_t, std::unique_ptr<Stream>> streams_;
  std::deque<Stream*> active_;
  std::vector<Stream*> telling_;
  // Conversations whose peer has shut the window, and those to ask about it now.
  std::unordered_set<uint32_t> blocked_;
  std::vector<uint32_t> asking_;
  int64_t asked_at_ = 0;
  std::deque<uint32_t> kills_;
  uint32_t last_conversation_ = 0;
  // Conversations below the last that have not been seen yet.
  std::unordered_set<uint32_t> expected_;

  // Sending.
  uint64_t counter_ = 1, control_counter_ = 1;
  // First data datagram that can be under the key in force.
  uint64_t key_from_ = 1;
  std::deque<Sent> sent_;
  uint64_t sent_base_ = 1;
  std::deque<Ref> refs_;
  uint64_t refs_base_ = 0;
  // Of the datagram being made.
  uint16_t pending_refs_ = 0;
  uint64_t in_flight_ = 0, largest_acked_ = 0, unresolved_ = 1;
  // What reports have covered.
  uint64_t reported_ = 0, reported_received_ = 0, reported_bytes_ = 0;
  uint64_t reordering_ = 3;
  int64_t loss_at_ = kNever, timeout_at_ = kNever;
  // Since then something has waited for an acknowledgement and none has come. What the peer sends by itself is none: a path may
  // lead one way only.
  int64_t unanswered_since_ = kNever;
  int backoff_ = 0, probes_ = 0;
  bool want_ping_ = false, probing_ = false;
  int64_t probed_at_ = 0;
  ParityEncoder encoder_{kMostText};
  bool group_open_ = false, group_urgent_ = false;
  uint64_t group_base_ = 0;
  size_t group_count_ = 0;
  int64_t group_at_ = 0;

  void NoteLossHere();
  // Receiving.
  double loss_here_ = 0;
  uint64_t expected_before_ = 0, received_before_ = 0;
  Receipts receipts_;
  Groups groups_;
  std::vector<Groups::Recovered> recovered_;
  uint64_t received_here_ = 0, received_bytes_here_ = 0;
  int64_t largest_at_ = 0;
  uint64_t unacknowledged_ = 0;
  int64_t ack_at_ = kNever, acked_at_ = 0;
  uint64_t ack_floors_[8] = {};
  size_t ack_number_ = 0;
};

}  // namespace arctic::kcp
