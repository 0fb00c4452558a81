// The native relay: one thread with its own epoll that accepts, carries and dials TCP flows. It knows nothing of
// V8; TypeScript posts commands, drains events and reads counters. The model is src/engines/tproxy/relay.ts.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "commands.h"

namespace arctic::relay {

// Upper bounds of the buckets of open latency, in microseconds; one more bucket is beyond. OPEN_BOUNDS in contract.ts.
constexpr uint64_t kOpenBounds[] = {500,    1000,   2500,   5000,   10000,   25000,  50000,
                                    100000, 250000, 500000, 1000000, 2500000, 5000000};
constexpr size_t kOpenBuckets = sizeof kOpenBounds / sizeof kOpenBounds[0] + 1;

// Counters of one service on one side. Written by the relay's thread, read by anyone.
struct ServiceCounters {
  std::atomic<uint64_t> connections{0}, active{0}, bytes_in{0}, bytes_out{0}, refused{0}, failed{0}, reused{0}, timed_out{0},
      limiter_waits{0}, limiter_wait_us{0}, open_us{0};
  std::atomic<uint64_t> opened[kOpenBuckets]{};
};

// The bytes are those of this side's sending, retransmitted ones counted again; sampled, seconds behind.
struct PeerCounters {
  std::atomic<uint64_t> idle{0}, leased{0}, dialed{0}, accepted{0}, reused{0}, failed{0}, rtt_us{0}, sent{0}, retransmitted{0}, least_rtt_us{0};
};

// One peer over KCP; see src/engines/tproxy/native-stats.ts.
struct LineCounters {
  std::atomic<uint64_t> standing{0}, rtt_us{0}, loss_ppm{0}, samples{0}, streams{0}, bandwidth{0}, parity{0}, sent{0},
      sent_bytes{0}, received{0}, received_bytes{0}, missing{0}, recovered{0}, repeated{0}, repeated_bytes{0};
};

// What both threads see.
class Shared {
 public:
  std::shared_ptr<ServiceCounters> Service(const std::string& id, const char* side);
  void ForgetService(const std::string& id, const char* side);
  std::shared_ptr<PeerCounters> Peer(const std::string& id);
  std::shared_ptr<LineCounters> Line(const std::string& peer);
  void ForgetLine(const std::string& peer);
  void SetCongestionControl(const std::string& name);
  // A line of tab-separated fields for TypeScript. Dropped, and counted, when nobody drains them.
  void Emit(std::string line);
  std::string DrainEvents();
  // Lines of tab-separated fields; see src/engines/tproxy/native-relay.ts.
  std::string Stats() const;
  // What a SampleFlows asked for; kept until it is taken, the last few only.
  void PutSample(uint32_t token, std::string text);
  std::string TakeSample(uint32_t token);

  std::atomic<uint64_t> stray_connections{0}, refused_carriers{0}, refused_flows{0}, flows{0}, heartbeat{0}, dropped_events{0};
  int event_fd = -1;

 private:
  static constexpr size_t kMostEvents = 1024;
  static constexpr size_t kMostSamples = 8;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<ServiceCounters>> services_;
  std::map<std::string, std::shared_ptr<PeerCounters>> peers_;
  std::map<std::string, std::shared_ptr<LineCounters>> lines_;
  std::string congestion_control_ = "unknown";
  std::vector<std::string> events_;
  std::map<uint32_t, std::string> samples_;
};

class Relay {
 public:
  Relay();
  // Stops and joins.
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // 0 or -errno.
  int Start();
  // Closes every descriptor and joins the thread. Flows that are left are reset.
  void Stop();
  // Commands are obeyed in order, by the relay's thread, at once.
  void Post(Command command);
  Shared& shared() { return *shared_; }

 private:
  std::shared_ptr<Shared> shared_;
  std::mutex mutex_;
  std::vector<Command> commands_;
  std::atomic<bool> quit_{false};
  int wake_fd_ = -1;
  std::thread thread_;

  friend class Loop;
};

}  // namespace arctic::relay
