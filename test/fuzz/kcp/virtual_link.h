// Two associations joined by a link that only exists in a virtual clock: rate, queue, delay, loss, reordering, repetition.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "../../../src/native/kcp/association.h"

namespace arctic::kcp::test {

struct LinkSettings {
  double bytes_per_us = 25;
  int64_t delay_us = 50'000, queue_us = 50'000;
  double loss = 0, repeat = 0, reorder = 0;
};

inline Key KeyOf(uint8_t fill) {
  Key key;
  key.fill(fill);
  return key;
}

class VirtualPair {
 public:
  VirtualPair(const LinkSettings& link, uint64_t seed, const Settings& settings = {})
      : link_(link),
        random_(seed),
        ends_{std::make_unique<Association>(true, KeyOf(1), KeyOf(2), 7, 0, 2 * link.delay_us, settings),
              std::make_unique<Association>(false, KeyOf(2), KeyOf(1), 9, 0, 2 * link.delay_us, settings)} {}

  Association& end(int which) { return *ends_[which]; }
  int64_t now() const { return now_; }
  LinkSettings& link() { return link_; }
  uint64_t dropped() const { return dropped_; }

  // Lets both send, then moves time to whatever comes next; false when nothing does before `until`.
  bool Step(int64_t until) {
    for (int which : {0, 1}) Pump(which);
    int64_t next = until;
    for (int which : {0, 1}) {
      const int64_t at = ends_[which]->NextAt(now_);
      // As an event loop does: rounded up to a millisecond.
      if (at != Association::kNever) next = std::min(next, std::max(now_ + 1, (at + 999) / 1000 * 1000));
      if (!wire_[which].empty()) next = std::min(next, std::max(now_, wire_[which].begin()->first));
    }
    if (next >= until) {
      now_ = until;
      return false;
    }
    now_ = next;
    for (int which : {0, 1}) {
      while (!wire_[which].empty() && wire_[which].begin()->first <= now_) {
        std::vector<uint8_t> bytes = std::move(wire_[which].begin()->second);
        wire_[which].erase(wire_[which].begin());
        ends_[which]->Receive(bytes.data(), bytes.size(), now_);
      }
    }
    return true;
  }

  double Chance() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  std::mt19937_64& random() { return random_; }

 private:
  void Pump(int from) {
    for (;;) {
      batch_.Clear();
      ends_[from]->Send(now_, &batch_);
      const uint8_t* at = batch_.bytes();
      for (size_t index = 0; index < batch_.count(); index += 1) {
        const size_t length = batch_.length(index);
        Carry(1 - from, std::vector<uint8_t>(at, at + length));
        at += length;
      }
      if (batch_.room() > Batch::kMost / 2) return;
    }
  }

  void Carry(int to, std::vector<uint8_t> bytes) {
    int64_t& departed = departed_[to];
    departed = std::max(departed, now_);
    if (departed - now_ > link_.queue_us) {
      dropped_ += 1;
      return;
    }
    departed += static_cast<int64_t>(static_cast<double>(bytes.size() + 28) / link_.bytes_per_us + 0.5);
    if (Chance() < link_.loss) return;
    const int64_t late = Chance() < link_.reorder ? static_cast<int64_t>(Chance() * 20'000) : 0;
    if (Chance() < link_.repeat) wire_[to].emplace(departed + link_.delay_us + 3000, bytes);
    wire_[to].emplace(departed + link_.delay_us + late, std::move(bytes));
  }

  LinkSettings link_;
  std::mt19937_64 random_;
  std::unique_ptr<Association> ends_[2];
  std::multimap<int64_t, std::vector<uint8_t>> wire_[2];
  int64_t departed_[2] = {0, 0};
  int64_t now_ = 0;
  uint64_t dropped_ = 0;
  Batch batch_;
};

}  // namespace arctic::kcp::test
