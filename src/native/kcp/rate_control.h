// How fast and how much an association sends. A model of the path after BBR (draft-cardwell-iccrg-bbr-congestion-control):
// the bottleneck's rate from what the receiver reports as arrived, and the round trip without queues. Loss by itself
// slows nothing down: loss that persists while no queue stands is taken for a property of the path, and the rate is raised by it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace arctic::kcp {

// Of a datagram at the time it leaves.
struct SendMark {
  int64_t sent_at = 0;
  uint64_t delivered = 0;
  int64_t delivered_at = 0, first_sent_at = 0;
  bool app_limited = false;
};

class RateControl {
 public:
  // The handshake has measured the first round trip.
  RateControl(int64_t now_us, int64_t rtt_us);

  SendMark OnSend(int64_t now_us, size_t bytes, uint64_t in_flight);
  // `delivered`: bytes that arrived since the beginning, as reported; `mark`: of the newest datagram acknowledged for the
  // first time; `rtt_us`: its round trip without the receiver's delay.
  void OnAck(int64_t now_us, uint64_t delivered, const SendMark& mark, int64_t rtt_us, uint64_t in_flight);
  // Datagrams that a report covers anew, and how many of them did not arrive.
  void OnReport(uint64_t covered, uint64_t missing);
  // Nothing waits to be sent though more could be: the rate measured now says little.
  void OnAppLimited(uint64_t in_flight);

  // Whether pacing lets a datagram out now.
  bool MaySend(int64_t now_us);
  int64_t NextSendAt(int64_t now_us) const;
  // Most bytes on the way.
  uint64_t window() const;

  int64_t smoothed_rtt() const { return srtt_; }
  int64_t rtt_variance() const { return rtt_var_; }
  int64_t least_rtt() const { return min_rtt_; }
  // Bytes a second that arrive at most.
  uint64_t bandwidth() const { return static_cast<uint64_t>(bandwidth_ * 1e6); }
  uint64_t pacing_rate() const { return static_cast<uint64_t>(PacingRate() * 1e6); }
  // Share of datagrams lost, smoothed; a guess before the first were reported.
  double loss() const { return loss_; }
  // How many datagrams that figure comes from; 0 while it is a guess.
  uint64_t loss_samples() const { return loss_known_ ? loss_samples_ : 0; }

 private:
  enum class Phase { kStartup, kDrain, kProbe, kProbeRtt };
  static constexpr int kRounds = 10;
  static constexpr double kStartupGain = 2.885;
  static constexpr int kRoundSamples = 8;
  static constexpr uint64_t kFirstWindow = 96 * 1024;
  // Bytes a microsecond before anything is known: 100 Mbit/s for the first window.
  static constexpr double kFirstRate = 12.5;
  static constexpr uint64_t kLeastWindow = 8 * 1400;
  static constexpr int64_t kMinRttUs = 10'000'000;
  static constexpr int64_t kProbeRttUs = 200'000;

  void UpdateRtt(int64_t now_us, int64_t rtt_us);
  void EndRound();
  void Advance(int64_t now_us, uint64_t in_flight);
  double PacingRate() const;
  double Gain() const;
  // Half a queue or more: what gets lost now is our own doing.
  bool Queued() const { return srtt_ > min_rtt_ + std::max<int64_t>(min_rtt_ / 5, 4000); }
  double BandwidthDelay() const { return bandwidth_ * static_cast<double>(min_rtt_); }

  Phase phase_ = Phase::kStartup;
  int64_t srtt_ = 0, rtt_var_ = 0, min_rtt_, min_rtt_at_, phase_at_;
  uint64_t delivered_ = 0;
  int64_t delivered_at_, first_sent_at_;
  // App-limited until this much has been delivered.
  uint64_t app_limited_ = 0;
  uint64_t round_ends_ = 0;
  bool round_app_limited_ = false;
  // Per round, the newest at `round_`: rate, and loss where enough datagrams say it (-1 otherwise).
  int round_ = 0;
  double rates_[kRounds] = {};
  double losses_[kRounds];
  uint64_t round_covered_ = 0, round_missing_ = 0;
  double bandwidth_ = 0, path_loss_ = 0;
  double full_ = 0;
  int full_rounds_ = 0;
  bool filled_ = false;
  // Shortest round trip seen in this round: a queue that stands shows in it.
  int64_t round_rtt_ = 0;
  int round_rtts_ = 0;
  int cycle_ = 2;
  bool loss_known_ = false;
  double loss_ = 0.02;
  uint64_t loss_samples_ = 0, block_covered_ = 0, block_missing_ = 0;
  // Bytes that may leave at `credit_at_`; negative is debt.
  double credit_ = kFirstWindow;
  int64_t credit_at_;
};

}  // namespace arctic::kcp
