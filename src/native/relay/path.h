// What the kernel knows of the path a link sends on, and its one lever: starting an estimate over.
#pragma once

#include <cstdint>
#include <string>

namespace arctic::relay {

// From TCP_INFO and TCP_CC_INFO (linux/tcp.h, linux/inet_diag.h).
struct PathSample {
  // The least one is 0 before the first.
  uint32_t rtt_us = 0, min_rtt_us = 0, cwnd = 0, mss = 0, unacked = 0, not_sent = 0;
  // Segments the receiver has, in order or not.
  uint32_t delivered = 0;
  uint64_t rwnd_limited_us = 0, bytes_sent = 0, bytes_retransmitted = 0, retransmissions = 0;
  // No loss is being repaired.
  bool open = false;
  // Its congestion control.
  char congestion[16] = "";
  bool bbr = false;
  // BBR is still looking for the bandwidth (STARTUP).
  bool startup = false;
  // BBR's estimate, bytes a second.
  uint64_t bandwidth = 0;

  // Bytes the path holds at the estimated bandwidth.
  uint64_t BandwidthDelay() const { return bandwidth * min_rtt_us / 1000000; }
};

// False when the kernel does not say.
bool SamplePath(int fd, PathSample* sample);

// BBR looks for the bandwidth anew, from the congestion window it has; nothing in flight is lost. A change of congestion
// control and back is the only way to ask for that.
void RestartBbr(int fd);

// SO_MAX_PACING_RATE in bytes a second; 0 is without a limit.
void SetMostPacing(int fd, uint64_t bytes_per_second);

}  // namespace arctic::relay
