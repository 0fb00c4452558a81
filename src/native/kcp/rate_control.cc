#include "rate_control.h"

#include <cmath>
#include <iterator>

namespace arctic::kcp {
namespace {

constexpr double kCycle[] = {1.25, 0.75, 1, 1, 1, 1, 1, 1};
constexpr int kCycleLength = 8;
// What a late wake-up may make good at once.
constexpr double kBurstUs = 4000;
constexpr double kLeastBurst = 24 * 1400;
// Loss is not believed to be the path's own beyond this.
constexpr double kMostPathLoss = 0.35;
constexpr uint64_t kLeastRoundSample = 40;
constexpr uint64_t kLossBlock = 128;

}  // namespace

RateControl::RateControl(int64_t now_us, int64_t rtt_us)
    : min_rtt_(std::max<int64_t>(rtt_us, 50)),
      min_rtt_at_(now_us),
      phase_at_(now_us),
      delivered_at_(now_us),
      first_sent_at_(now_us),
      credit_at_(now_us) {
  srtt_ = min_rtt_;
  rtt_var_ = min_rtt_ / 2;
  std::fill(std::begin(losses_), std::end(losses_), -1.0);
}

SendMark RateControl::OnSend(int64_t now_us, size_t bytes, uint64_t in_flight) {
  if (in_flight == 0) {
    first_sent_at_ = now_us;
    delivered_at_ = now_us;
  }
  credit_ -= static_cast<double>(bytes);
  return {now_us, delivered_, delivered_at_, first_sent_at_, app_limited_ > delivered_};
}

void RateControl::UpdateRtt(int64_t now_us, int64_t rtt_us) {
  rtt_us = std::max<int64_t>(rtt_us, 50);
  rtt_var_ += (std::abs(srtt_ - rtt_us) - rtt_var_) / 4;
  srtt_ += (rtt_us - srtt_) / 8;
  round_rtt_ = round_rtts_ == 0 ? rtt_us : std::min(round_rtt_, rtt_us);
  round_rtts_ += 1;
  // As HyStart (RFC 9406): the path is full when no packet of a round comes through without waiting.
  const bool waited = round_rtt_ > min_rtt_ + std::clamp<int64_t>(min_rtt_ / 8, 4000, 16000);
  if (phase_ == Phase::kStartup && round_rtts_ >= kRoundSamples && waited) filled_ = true;
  if (rtt_us <= min_rtt_) {
    min_rtt_ = rtt_us;
    min_rtt_at_ = now_us;
  } else if (rtt_us <= min_rtt_ + min_rtt_ / 16 + 500) {
    // Near enough to say that the path has not changed.
    min_rtt_at_ = now_us;
  }
}

void RateControl::OnAck(int64_t now_us, uint64_t delivered, const SendMark& mark, int64_t rtt_us, uint64_t in_flight) {
  UpdateRtt(now_us, rtt_us);
  if (delivered > delivered_) {
    delivered_ = delivered;
    delivered_at_ = now_us;
  }
  first_sent_at_ = mark.sent_at;
  const int64_t took = std::max(mark.sent_at - mark.first_sent_at, now_us - mark.delivered_at);
  // Shorter than a round trip it would be bursts that are measured.
  if (took >= min_rtt_ && delivered_ > mark.delivered) {
    const double rate = static_cast<double>(delivered_ - mark.delivered) / static_cast<double>(took);
    if (!mark.app_limited || rate >= bandwidth_) rates_[round_] = std::max(rates_[round_], rate);
    bandwidth_ = *std::max_element(std::begin(rates_), std::end(rates_));
  }
  round_app_limited_ = round_app_limited_ || mark.app_limited;
  if (mark.delivered >= round_ends_) EndRound();
  Advance(now_us, in_flight);
}

void RateControl::EndRound() {
  round_ends_ = delivered_;
  round_rtts_ = 0;
  if (!filled_ && !round_app_limited_ && bandwidth_ > 0) {
    if (bandwidth_ >= full_ * 1.25) {
      full_ = bandwidth_;
      full_rounds_ = 0;
    } else if (++full_rounds_ >= 3) {
      filled_ = true;
    }
  }
  // The rounds that nothing was sent in have nothing to say about the path: its rate is kept over them.
  if (round_app_limited_) {
    round_app_limited_ = false;
    return;
  }
  round_ = (round_ + 1) % kRounds;
  rates_[round_] = 0;
  losses_[round_] = -1;
  if (round_covered_ >= kLeastRoundSample) {
    losses_[round_] = static_cast<double>(round_missing_) / static_cast<double>(round_covered_);
    round_covered_ = round_missing_ = 0;
  }
  // Loss that a queue of ours made goes away in the rounds that drain it; what is left in the best of them is the path's.
  double least = 1;
  int known = 0;
  for (const double one : losses_) {
    if (one < 0) continue;
    least = std::min(least, one);
    known += 1;
  }
  path_loss_ = known < 3 ? 0 : std::min(least, kMostPathLoss);
}

void RateControl::OnReport(uint64_t covered, uint64_t missing) {
  missing = std::min(missing, covered);
  round_covered_ += covered;
  round_missing_ += missing;
  block_covered_ += covered;
  block_missing_ += missing;
  loss_samples_ += covered;
  if (block_covered_ < kLossBlock) return;
  if (Queued()) {
    block_covered_ = block_missing_ = 0;
    return;
  }
  const double seen = static_cast<double>(block_missing_) / static_cast<double>(block_covered_);
  // The first that is known replaces what was assumed. Then quick to rise, slow to fall.
  const double weight = !loss_known_ ? 1 : seen > loss_ ? 0.25 : 0.1;
  loss_known_ = true;
  loss_ += (seen - loss_) * weight;
  block_covered_ = block_missing_ = 0;
}

void RateControl::OnAppLimited(uint64_t in_flight) { app_limited_ = std::max<uint64_t>(delivered_ + in_flight, 1); }

void RateControl::Advance(int64_t now_us, uint64_t in_flight) {
  const double flight = static_cast<double>(in_flight);
  if (phase_ == Phase::kStartup && filled_) {
    phase_ = Phase::kDrain;
    phase_at_ = now_us;
  }
  if (phase_ == Phase::kDrain && (flight <= BandwidthDelay() || now_us - phase_at_ > 4 * min_rtt_)) {
    phase_ = Phase::kProbe;
    phase_at_ = now_us;
    cycle_ = 2;
  }
  if (phase_ == Phase::kProbe) {
    const bool lasted = now_us - phase_at_ >= min_rtt_;
    const bool drained = kCycle[cycle_] < 1 && flight <= BandwidthDelay();
    if (lasted || drained) {
      cycle_ = (cycle_ + 1) % kCycleLength;
      phase_at_ = now_us;
    }
    if (now_us - min_rtt_at_ > kMinRttUs) {
      phase_ = Phase::kProbeRtt;
      phase_at_ = now_us;
      // Whatever comes next is the least of the new window.
      min_rtt_ = srtt_;
    }
  }
  if (phase_ == Phase::kProbeRtt && now_us - phase_at_ > std::max(kProbeRttUs, min_rtt_)) {
    phase_ = Phase::kProbe;
    phase_at_ = min_rtt_at_ = now_us;
    cycle_ = 2;
  }
}

double RateControl::Gain() const {
  switch (phase_) {
    case Phase::kStartup:
      return kStartupGain;
    case Phase::kDrain:
      return 1 / kStartupGain;
    case Phase::kProbe:
      return kCycle[cycle_];
    case Phase::kProbeRtt:
      return 0.75;
  }
  return 1;
}

double RateControl::PacingRate() const {
  if (bandwidth_ <= 0) return kFirstRate;
  const double rate = Gain() * bandwidth_ / (1 - path_loss_);
  const double least = static_cast<double>(kFirstWindow) / static_cast<double>(min_rtt_);
  // Until the path is full the first window still goes at once.
  return filled_ ? rate : std::max(rate, std::min(least, kFirstRate));
}

uint64_t RateControl::window() const {
  if (bandwidth_ <= 0) return kFirstWindow;
  const double product = BandwidthDelay() / (1 - path_loss_);
  if (phase_ == Phase::kProbeRtt) return std::max(kLeastWindow, static_cast<uint64_t>(product / 2));
  // A millisecond or two of delay in acknowledging is part of every path.
  const double slack = bandwidth_ * 5000;
  return std::max(filled_ ? kLeastWindow : kFirstWindow, static_cast<uint64_t>(2 * product + slack));
}

bool RateControl::MaySend(int64_t now_us) {
  const double rate = PacingRate();
  credit_ = std::min(std::max(kLeastBurst, rate * kBurstUs), credit_ + rate * static_cast<double>(now_us - credit_at_));
  credit_at_ = now_us;
  return credit_ > 0;
}

int64_t RateControl::NextSendAt(int64_t now_us) const {
  if (credit_ > 0) return now_us;
  return credit_at_ + static_cast<int64_t>((1 - credit_) / PacingRate()) + 1;
}

}  // namespace arctic::kcp
