// One-shot timers of the relay's thread, in microseconds of its monotonic clock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

namespace arctic::relay {

class Timers {
 public:
  using Queue = std::multimap<int64_t, class Timer*>;

  // Runs what has fallen due; a timer that sets itself again inside its callback waits for the next call at least.
  void Run(int64_t now_us);
  // Microseconds to the next, or -1.
  int64_t Next(int64_t now_us) const {
    if (queue_.empty()) return -1;
    return queue_.begin()->first > now_us ? queue_.begin()->first - now_us : 0;
  }

 private:
  friend class Timer;
  Queue queue_;
};

// Cancelled when it goes out of scope with its owner.
class Timer {
 public:
  Timer() = default;
  ~Timer() { Cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool armed() const { return owner_ != nullptr; }
  void Set(Timers* owner, int64_t at_us, std::function<void()> run) {
    Cancel();
    owner_ = owner;
    run_ = std::move(run);
    place_ = owner->queue_.emplace(at_us, this);
  }
  void Cancel() {
    if (owner_ == nullptr) return;
    owner_->queue_.erase(place_);
    owner_ = nullptr;
    run_ = nullptr;
  }

 private:
  friend class Timers;
  Timers* owner_ = nullptr;
  Timers::Queue::iterator place_;
  std::function<void()> run_;
};

inline void Timers::Run(int64_t now_us) {
  while (!queue_.empty() && queue_.begin()->first <= now_us) {
    Timer* timer = queue_.begin()->second;
    const std::function<void()> run = std::move(timer->run_);
    timer->Cancel();
    run();
  }
}

}  // namespace arctic::relay
