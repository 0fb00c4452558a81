// Token bucket of one service and direction; the model is src/engines/tproxy/token-bucket.ts.
#pragma once

#include <algorithm>
#include <cstdint>

namespace arctic::relay {

class TokenBucket {
 public:
  void SetRate(uint64_t bits_per_second, int64_t now_us) {
    Accrue(now_us);
    bytes_per_us_ = static_cast<double>(bits_per_second) / 8e6;
    tokens_ = bits_per_second == 0 ? Burst() : std::min(tokens_, Burst());
  }
  bool limited() const { return bytes_per_us_ > 0; }
  // Passes while tokens are left, even if it takes more than there are: the debt delays the next one.
  bool Passes(int64_t now_us) {
    if (!limited()) return true;
    Accrue(now_us);
    return tokens_ > 0;
  }
  void Take(size_t bytes) {
    if (limited()) tokens_ -= static_cast<double>(bytes);
  }
  // What is read at once: 10 ms of the rate, so that a slow one is not given out in lumps of a second.
  size_t Quantum(size_t most) const {
    if (!limited()) return most;
    return std::min(most, std::max(kLeastQuantum, static_cast<size_t>(bytes_per_us_ * kQuantumUs)));
  }
  // Microseconds until something passes.
  int64_t Wait() const { return tokens_ > 0 ? 0 : static_cast<int64_t>((1 - tokens_) / bytes_per_us_) + 1; }

 private:
  static constexpr double kLeastBurst = 131072, kBurstUs = 20000, kQuantumUs = 10000;
  static constexpr size_t kLeastQuantum = 2048;

  double Burst() const { return std::max(kLeastBurst, bytes_per_us_ * kBurstUs); }
  void Accrue(int64_t now_us) {
    tokens_ = std::min(Burst(), tokens_ + static_cast<double>(now_us - at_) * bytes_per_us_);
    at_ = now_us;
  }

  double bytes_per_us_ = 0;
  double tokens_ = kLeastBurst;
  int64_t at_ = 0;
};

}  // namespace arctic::relay
