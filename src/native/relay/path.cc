// Keeps links quick: what flows have taught the kernel about a path is kept where it is right and thrown away where it is not.
#include "path.h"

// Before loop.h: netinet/tcp.h has an older struct tcp_info of the same name.
#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "loop.h"

namespace arctic::relay {
namespace {

// BBR's gain in STARTUP is 2/ln 2 in units of 1/256, plus one (net/ipv4/tcp_bbr.c, bbr_high_gain).
constexpr uint32_t kStartupGain = 739;
constexpr char kBbr[] = "bbr";
// Every kernel has it, and every process may use it.
constexpr char kStopgap[] = "reno";

// A flow that sends less teaches BBR nothing: it fits the first window.
constexpr uint64_t kTeaches = 14 * 1024;
// Below this a window fills within a few milliseconds whatever the estimate was.
constexpr uint32_t kLongPathUs = 2000;
// Windows that a flow fills one after the other before its estimate is believed.
constexpr uint64_t kProvingWindows = 10;
constexpr uint64_t kTellsWorth = 256 * 1024;
constexpr int64_t kBestHoldsUs = 60 * 1000 * 1000;

// A first window's worth, then twice as much each round trip.
constexpr uint32_t kFirstTraining = 16 * 1024;
// A path that is this slow is not to be filled with PAD.
constexpr int64_t kTrainingUs = 1500 * 1000;
constexpr int64_t kTrainingsPerUs = 10 * 1000 * 1000;

}  // namespace

bool SamplePath(int fd, PathSample* sample) {
  tcp_info info;
  memset(&info, 0, sizeof info);
  socklen_t length = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return false;
  sample->rtt_us = info.tcpi_rtt;
  // Nothing measured yet: all ones.
  sample->min_rtt_us = info.tcpi_min_rtt == UINT32_MAX ? 0 : info.tcpi_min_rtt;
  sample->cwnd = info.tcpi_snd_cwnd;
  sample->mss = info.tcpi_snd_mss;
  sample->unacked = info.tcpi_unacked;
  sample->not_sent = info.tcpi_notsent_bytes;
  sample->delivered = info.tcpi_delivered;
  sample->rwnd_limited_us = info.tcpi_rwnd_limited;
  sample->bytes_sent = info.tcpi_bytes_sent;
  sample->bytes_retransmitted = info.tcpi_bytes_retrans;
  sample->retransmissions = info.tcpi_total_retrans;
  sample->open = info.tcpi_ca_state == 0;
  tcp_cc_info state;
  memset(&state, 0, sizeof state);
  length = sizeof state;
  socklen_t name_length = sizeof sample->congestion;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, sample->congestion, &name_length) != 0) return true;
  sample->congestion[sizeof sample->congestion - 1] = '\0';
  if (strcmp(sample->congestion, kBbr) != 0) return true;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CC_INFO, &state, &length) != 0 || length < sizeof state.bbr) return true;
  sample->bbr = true;
  sample->startup = state.bbr.bbr_pacing_gain == kStartupGain;
  sample->bandwidth = static_cast<uint64_t>(state.bbr.bbr_bw_hi) << 32 | state.bbr.bbr_bw_lo;
  return true;
}

void RestartBbr(int fd) {
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kStopgap, sizeof kStopgap - 1);
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kBbr, sizeof kBbr - 1);
}

void SetMostPacing(int fd, uint64_t bytes_per_second) {
  const uint64_t most = bytes_per_second == 0 ? ~0ull : bytes_per_second;
  setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &most, sizeof most);
}

// BBR ends its search for the bandwidth after three rounds without growth. Short flows that fill two or three windows look
// like that, loss does the rest, and from then on the estimate grows by a quarter in eight round trips: a bulk flow on a
// link that has carried fetches of 1 MB took ten seconds to get to 200 Mbit/s over 100 ms. So an estimate that no long flow
// has proved is not kept.
void Loop::RenewEstimate(Link* link) {
  if (link->taught < kTeaches) return;
  PathSample path;
  if (!SamplePath(link->fd, &path) || !path.bbr || path.min_rtt_us < kLongPathUs) {
    link->taught = 0;
    return;
  }
  Peer* peer = link->peer;
  const uint64_t window = path.BandwidthDelay();
  const uint64_t longest = std::max(link->longest, link->in_flow);
  const bool proven = !path.startup && longest >= kProvingWindows * window;
  if (proven && (path.bandwidth >= peer->best_bandwidth || now_us_ - peer->best_at >= kBestHoldsUs)) {
    peer->best_bandwidth = path.bandwidth;
    peer->best_at = now_us_;
  }
  link->taught = 0;
  if (path.startup || (proven && path.bandwidth >= peer->best_bandwidth / 4 * 3)) return;
  // A window that is large already would leave in one burst.
  const uint64_t best = peer->best_bandwidth * path.min_rtt_us / 1000000;
  if (!path.open || (best > 0 && static_cast<uint64_t>(path.cwnd) * path.mss > best + best / 2)) return;
  RestartBbr(link->fd);
  link->longest = link->in_flow = 0;
}

void Loop::NoteSent(Link* link, size_t bytes) {
  // Within a flow the same thing happens: requests, silence, then bulk.
  if (now_us_ - link->sent_at > kSilenceUs) RenewEstimate(link);
  link->sent_at = now_us_;
  link->sending = true;
  link->taught += bytes;
  link->in_flow += bytes;
}

// A flow is over. One that fits the first windows says nothing about its link.
void Loop::NoteWorth(Link* link, const Flow* flow) {
  link->longest = std::max(link->longest, link->in_flow);
  link->in_flow = 0;
  const uint64_t bytes = std::max(flow->bytes_in, flow->bytes_out);
  if (bytes < kTellsWorth) return;
  const uint64_t lasted = static_cast<uint64_t>(std::max<int64_t>(now_us_ - flow->begun_at, 1));
  link->worth = std::max(link->worth, bytes * 1000000 / lasted);
}

// A fresh link starts with ten segments in flight and takes a second to fill a long path. PAD of half a megabyte, answered
// with as much, opens the windows of both directions while nobody waits.
void Loop::StartTraining(Link* link) {
  Peer* peer = link->peer;
  if (limits_.training == 0) return;
  if (now_us_ - peer->trained_at >= kTrainingsPerUs) {
    peer->trained_at = now_us_;
    peer->trained = 0;
  }
  PathSample path;
  if (peer->trained >= limits_.trained_links || !SamplePath(link->fd, &path) || path.min_rtt_us < kLongPathUs) return;
  peer->trained += 1;
  link->training = std::min(limits_.training, kFirstTraining);
  link->training_at = now_us_;
  TrainRound(link);
}

void Loop::TrainRound(Link* link) {
  memset(scratch_.get(), 0, kMaxPayload);
  for (uint32_t left = link->training; left > 0 && !link->dead;) {
    const uint32_t length = std::min<uint32_t>(left, kMaxPayload);
    Append(link, FrameType::kPad, scratch_.get(), length);
    left -= length;
  }
  const uint8_t nothing[8] = {};
  link->pinged_at = now_us_;
  Append(link, FrameType::kPing, nothing, sizeof nothing);
  if (!link->dead) Flush(link);
}

// A PONG on an idle link: all PAD of the round has arrived, and so has the answer to it.
void Loop::ContinueTraining(Link* link) {
  const uint32_t done = 2 * link->training - std::min(limits_.training, kFirstTraining);
  link->training *= 2;
  if (done + link->training <= limits_.training && now_us_ - link->training_at < kTrainingUs) {
    TrainRound(link);
    return;
  }
  link->training = 0;
  link->worth = std::max<uint64_t>(link->worth, 1);
}

}  // namespace arctic::relay
