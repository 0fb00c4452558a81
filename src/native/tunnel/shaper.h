// Holds a service's packets back to its bandwidth: a token bucket that may go into debt by one packet, and a bounded queue.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace arctic::tunnel {

class Shaper {
 public:
  struct Queued {
    std::vector<uint8_t> bytes;
    bool needs_csum;
    uint8_t tos;
  };

  // Bits per second; at least 1.
  void SetRate(uint64_t bits_per_second) { bytes_per_second_ = static_cast<double>(bits_per_second) / 8; }

  // False when the queue is full.
  bool Push(Queued&& packet, uint64_t now_ns) {
    if (queue_.empty()) Refill(now_ns, kIdleCredit);
    if (!queue_.empty() && queued_ + packet.bytes.size() > Limit()) return false;
    queued_ += packet.bytes.size();
    queue_.push_back(std::move(packet));
    return true;
  }

  // The packet that may leave now, or null. Pop takes it.
  const Queued* Front(uint64_t now_ns) {
    if (queue_.empty()) return nullptr;
    Refill(now_ns, kLateCredit);
    return tokens_ > 0 ? &queue_.front() : nullptr;
  }

  void Pop() {
    const size_t size = queue_.front().bytes.size();
    tokens_ -= static_cast<double>(size);
    queued_ -= size;
    queue_.pop_front();
  }

  bool empty() const { return queue_.empty(); }

  // Nanoseconds until the next packet may leave.
  uint64_t Wait() const {
    return tokens_ > 0 ? 0 : static_cast<uint64_t>((1 - tokens_) / bytes_per_second_ * 1e9);
  }

 private:
  // What 60 ms carry, and never so little that a TCP flow inside cannot fill the rate.
  size_t Limit() const {
    const double wanted = bytes_per_second_ * 0.06;
    return wanted > kLeastQueue ? static_cast<size_t>(wanted) : kLeastQueue;
  }
  void Refill(uint64_t now_ns, double credit) {
    if (last_ns_ != 0) tokens_ += static_cast<double>(now_ns - last_ns_) * bytes_per_second_ / 1e9;
    last_ns_ = now_ns;
    const double most = bytes_per_second_ * credit > kLeastBurst ? bytes_per_second_ * credit : kLeastBurst;
    if (tokens_ > most) tokens_ = most;
  }

  // Seconds of the rate that may be made up for: after nothing was sent, and while packets waited for a thread that came late.
  static constexpr double kIdleCredit = 0.005;
  static constexpr double kLateCredit = 0.05;
  static constexpr size_t kLeastQueue = 24 * 1500;
  static constexpr double kLeastBurst = 3000;

  double bytes_per_second_ = 1;
  double tokens_ = 0;
  uint64_t last_ns_ = 0;
  size_t queued_ = 0;
  std::deque<Queued> queue_;
};

}  // namespace arctic::tunnel
