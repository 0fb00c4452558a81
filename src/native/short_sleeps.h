// Waiting for events that come close after each other.
#pragma once

#include <sched.h>
#include <time.h>

#include <cstdint>

namespace arctic {

// Waking a thread costs the one that wakes it and the one that wakes more than what a small message takes to carry, on a virtual
// machine above all. While sleeps are short the thread therefore looks for the next event before it sleeps again, and gives its
// core to anyone who wants it between looks; alone on the machine it then answers in half the time.
class ShortSleeps {
 public:
  // `look` takes a timeout in milliseconds as epoll_wait(2) does, and answers what that answers.
  template <typename Look>
  int Wait(int timeout, Look look) {
    if (timeout == 0) return look(0);
    int64_t now = Now();
    if (soon_) {
      const int64_t until = now + kLookNs;
      do {
        const int count = look(0);
        if (count != 0) return count;
        sched_yield();
        now = Now();
      } while (now < until);
    }
    const int count = look(timeout);
    soon_ = Now() - now < kSoonNs;
    return count;
  }

 private:
  // A sleep that ended so soon is likely to be followed by another such; then this long is looked before sleeping again.
  static constexpr int64_t kSoonNs = 100'000, kLookNs = 30'000;

  static int64_t Now() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }

  // The last sleep was short.
  bool soon_ = false;
};

}  // namespace arctic
