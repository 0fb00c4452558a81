// Replay protection after RFC 6479: a ring of bits whose words are cleared as the window moves, never shifted.
#pragma once

#include <cstdint>

namespace arctic::tunnel {

class ReplayWindow {
 public:
  // Batches of segments arrive out of order by whole batches, so the window is wide.
  static constexpr uint64_t kWindow = 8192;

  // Whether a datagram with this counter may still be accepted. Counters start at 1.
  bool MayAccept(uint64_t counter) const {
    if (counter == 0) return false;
    if (counter > highest_) return true;
    if (highest_ - counter >= kWindow) return false;
    return (words_[WordOf(counter)] & BitOf(counter)) == 0;
  }

  // Notes an authenticated counter that MayAccept has let through. Answers how many datagrams are missing more than before:
  // the gap it leaves, or -1 for a late one that fills a gap.
  int64_t Accept(uint64_t counter) {
    int64_t missing = -1;
    if (counter > highest_) {
      missing = static_cast<int64_t>(counter - highest_ - 1);
      const uint64_t from = highest_ / 64, to = counter / 64;
      const uint64_t words = to - from > kWords ? kWords : to - from;
      for (uint64_t i = 1; i <= words; ++i) words_[(from + i) % kWords] = 0;
      highest_ = counter;
    }
    words_[WordOf(counter)] |= BitOf(counter);
    return missing;
  }

  uint64_t highest() const { return highest_; }

 private:
  // Twice the window, so that the word being filled never holds bits of the window's far end.
  static constexpr uint64_t kWords = 2 * kWindow / 64;
  static uint64_t WordOf(uint64_t counter) { return counter / 64 % kWords; }
  static uint64_t BitOf(uint64_t counter) { return uint64_t{1} << (counter % 64); }

  uint64_t highest_ = 0;
  uint64_t words_[kWords] = {};
};

}  // namespace arctic::tunnel
