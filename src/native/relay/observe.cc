// What operators see of flows, links and paths; and the flows that nobody moves.
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <optional>

#include "loop.h"

namespace arctic::relay {
namespace {

// A view is for people and dashboards: the largest flows.
constexpr size_t kMostDescribed = 1000;
// When so many flows have gone, what their buffers took is given back to the system.
constexpr size_t kCrowd = 512;
// Local connections that are older are probed, so that a host that has vanished does not stay for ever.
constexpr int64_t kKeepAliveUs = 60ll * 1000 * 1000;
constexpr int kProbeSeconds = 60, kProbeAgainSeconds = 15, kProbes = 4;

void Field(std::string* line, const std::string& value) {
  *line += '\t';
  *line += value;
}

void Field(std::string* line, uint64_t value) { Field(line, std::to_string(value)); }

// The path of the link under a flow, and the share of what is sent on it that does not arrive; none while it is not known.
struct FlowPath {
  const char* transport = "tcp";
  PathSample sample;
  std::optional<double> loss;
};

FlowPath PathUnder(const Link& link) {
  FlowPath path;
  if (link.stream == nullptr) {
    SamplePath(link.fd, &path.sample);
    const uint64_t sent = path.sample.bytes_sent;
    if (sent > 0) path.loss = static_cast<double>(path.sample.bytes_retransmitted) / static_cast<double>(sent);
    return path;
  }
  // Of the association, which other flows share. Its congestion control is its own and has no name.
  path.transport = "kcp";
  const kcp::Association& association = *link.line->association;
  path.sample.rtt_us = static_cast<uint32_t>(association.rate().smoothed_rtt());
  path.sample.min_rtt_us = static_cast<uint32_t>(association.rate().least_rtt());
  path.sample.bytes_sent = association.totals().sent_bytes;
  path.sample.bytes_retransmitted = association.totals().repeated_bytes;
  path.sample.retransmissions = association.totals().repeated;
  if (association.rate().loss_samples() > 0) path.loss = association.rate().loss();
  return path;
}

}  // namespace

// Entry: from the client's connection to OPENED, which the exit holds back for an answer: up to 2 ms, up to 10 with
// much else to do. Exit: from OPEN to the destination's.
void Loop::NoteOpened(Flow* flow) {
  flow->open_us = static_cast<uint64_t>(std::max<int64_t>(now_us_ - flow->begun_at, 1));
  ServiceCounters& counters = *flow->service->counters;
  const auto* bound = std::lower_bound(std::begin(kOpenBounds), std::end(kOpenBounds), flow->open_us);
  counters.opened[bound - std::begin(kOpenBounds)] += 1;
  counters.open_us += flow->open_us;
}

void Loop::CountPath(Link* link) {
  link->sending = false;
  PathSample path;
  if (link->peer == nullptr || !SamplePath(link->fd, &path)) return;
  PeerCounters& counters = *link->peer->counters;
  counters.sent += path.bytes_sent - link->counted_sent;
  counters.retransmitted += path.bytes_retransmitted - link->counted_retransmitted;
  counters.rtt_us = path.rtt_us;
  counters.least_rtt_us = path.min_rtt_us;
  link->counted_sent = path.bytes_sent;
  link->counted_retransmitted = path.bytes_retransmitted;
}

void Loop::CheckFlows() {
  peak_flows_ = std::max(peak_flows_, flows_.size());
  if (peak_flows_ >= kCrowd && flows_.size() <= peak_flows_ / 8) {
    peak_flows_ = flows_.size();
#ifdef __GLIBC__
    malloc_trim(0);
#endif
  }
  const int64_t idle = static_cast<int64_t>(limits_.flow_idle_timeout) * 1000;
  const std::vector<Flow*> flows(flows_.begin(), flows_.end());
  for (Flow* flow : flows) {
    if (flow->dead || flow->waiting_link || flow->connecting) continue;
    if (idle > 0 && now_us_ - flow->moved_at >= idle) {
      flow->service->counters->timed_out += 1;
      ResetFlow(flow, ETIMEDOUT);
    } else if (!flow->kept_alive && flow->fd >= 0 && now_us_ - flow->begun_at >= kKeepAliveUs) {
      flow->kept_alive = true;
      SetInt(flow->fd, IPPROTO_TCP, TCP_KEEPIDLE, kProbeSeconds);
      SetInt(flow->fd, IPPROTO_TCP, TCP_KEEPINTVL, kProbeAgainSeconds);
      SetInt(flow->fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
      SetInt(flow->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
  }
}

// A line of src/engines/tproxy/native-flows.ts.
std::string Loop::DescribeFlow(const Flow& flow) const {
  std::string line = flow.service->service.id;
  Field(&line, flow.side == Side::kEntry ? "entry" : "exit");
  Field(&line, AddressText(flow.open.source));
  Field(&line, flow.open.source_port);
  Field(&line, AddressText(flow.open.destination));
  Field(&line, flow.open.destination_port);
  const bool closing = flow.sent != Ended::kNo || flow.received != Ended::kNo;
  Field(&line, flow.waiting_link ? "waiting" : flow.connecting ? "connecting" : closing ? "closing" : "open");
  const FlowPath under = flow.link == nullptr ? FlowPath() : PathUnder(*flow.link);
  const PathSample& path = under.sample;
  for (const uint64_t value :
       {static_cast<uint64_t>(now_us_ - flow.begun_at), flow.bytes_in, flow.bytes_out, flow.open_us,
        static_cast<uint64_t>(flow.reused ? 1 : 0), flow.limiter_waits, flow.limiter_wait_us, static_cast<uint64_t>(path.rtt_us),
        static_cast<uint64_t>(path.min_rtt_us), path.bytes_sent, path.bytes_retransmitted, path.retransmissions}) {
    Field(&line, value);
  }
  Field(&line, under.transport);
  Field(&line, under.loss ? std::to_string(static_cast<uint64_t>(*under.loss * 1e6)) : "");
  Field(&line, path.congestion);
  return line;
}

void Loop::Obey(const SampleFlows& sample) {
  std::vector<const Flow*> flows;
  for (const Flow* flow : flows_) {
    if (!flow->dead && (sample.service.empty() || flow->service->service.id == sample.service)) flows.push_back(flow);
  }
  const size_t count = std::min(flows.size(), kMostDescribed);
  std::partial_sort(flows.begin(), flows.begin() + static_cast<long>(count), flows.end(), [](const Flow* one, const Flow* other) {
    return one->bytes_in + one->bytes_out > other->bytes_in + other->bytes_out;
  });
  std::string text;
  for (size_t index = 0; index < count; index += 1) text += DescribeFlow(*flows[index]) + '\n';
  shared().PutSample(sample.token, std::move(text));
  shared().Emit("flows\t" + std::to_string(sample.token));
}

}  // namespace arctic::relay
