// Which data and parity datagrams are here: arrived, or recovered from parity.
#pragma once

#include "datagram.h"

namespace arctic::kcp {

class Receipts {
 public:
  // False when it was here before or lies too far back.
  bool Mark(uint64_t counter) {
    if (counter > largest_) {
      const uint64_t from = largest_ / 64, to = counter / 64;
      const uint64_t words = to - from > kWords ? kWords : to - from;
      for (uint64_t i = 1; i <= words; i += 1) words_[(from + i) % kWords] = 0;
      largest_ = counter;
    } else if (largest_ - counter >= kWindow || Has(counter)) {
      return false;
    }
    words_[counter / 64 % kWords] |= uint64_t{1} << (counter % 64);
    return true;
  }
  bool Has(uint64_t counter) const {
    if (counter > largest_ || largest_ - counter >= kWindow) return false;
    return (words_[counter / 64 % kWords] >> (counter % 64) & 1) != 0;
  }
  uint64_t largest() const { return largest_; }

  // The bits from the largest down to `floor`, as far as an acknowledgement has room.
  void Fill(Ack* ack, uint64_t floor) const {
    ack->largest = largest_;
    const uint64_t span = largest_ > floor ? largest_ - floor : 0;
    ack->words = span / 64 + 1 < Ack::kMostWords ? static_cast<size_t>(span / 64 + 1) : Ack::kMostWords;
    for (size_t word = 0; word < ack->words; word += 1) {
      uint64_t bits = 0;
      for (uint64_t bit = 0; bit < 64; bit += 1) {
        const uint64_t back = 64 * word + bit;
        if (back < largest_ && Has(largest_ - back)) bits |= uint64_t{1} << bit;
      }
      ack->bits[word] = bits;
    }
  }

 private:
  static constexpr uint64_t kWindow = 8192;
  // Twice the window, so that the word being filled never holds bits of the window's far end.
  static constexpr uint64_t kWords = 2 * kWindow / 64;
  uint64_t largest_ = 0;
  uint64_t words_[kWords] = {};
};

}  // namespace arctic::kcp
