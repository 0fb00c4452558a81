#include "relay.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {
namespace {

void Signal(int fd) {
  const uint64_t one = 1;
  // A full counter is a signal, too.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

void Field(std::string* line, uint64_t value) {
  *line += '\t';
  *line += std::to_string(value);
}

}  // namespace

std::shared_ptr<ServiceCounters> Shared::Service(const std::string& id, const char* side) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& counters = services_[{id, side}];
  if (counters == nullptr) counters = std::make_shared<ServiceCounters>();
  return counters;
}

void Shared::ForgetService(const std::string& id, const char* side) {
  const std::lock_guard<std::mutex> lock(mutex_);
  services_.erase({id, side});
}

std::shared_ptr<PeerCounters> Shared::Peer(const std::string& id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& counters = peers_[id];
  if (counters == nullptr) counters = std::make_shared<PeerCounters>();
  return counters;
}

std::shared_ptr<LineCounters> Shared::Line(const std::string& peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& counters = lines_[peer];
  if (counters == nullptr) counters = std::make_shared<LineCounters>();
  return counters;
}

void Shared::ForgetLine(const std::string& peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  lines_.erase(peer);
}

void Shared::SetCongestionControl(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  congestion_control_ = name;
}

void Shared::Emit(std::string line) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (events_.size() >= kMostEvents) {
      dropped_events += 1;
      return;
    }
    events_.push_back(std::move(line));
  }
  Signal(event_fd);
}

std::string Shared::DrainEvents() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_fd, &count, sizeof count);
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  for (const std::string& event : events_) {
    text += event;
    text += '\n';
  }
  events_.clear();
  return text;
}

std::string Shared::Stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string text = "congestion\t" + congestion_control_ + "\nrefused";
  Field(&text, stray_connections);
  Field(&text, refused_carriers);
  Field(&text, refused_flows);
  text += "\nflows";
  Field(&text, flows);
  text += "\nheartbeat";
  Field(&text, heartbeat);
  text += '\n';
  for (const auto& [name, counters] : services_) {
    text += "service\t" + name.first + '\t' + name.second;
    for (const auto* value : {&counters->connections, &counters->active, &counters->bytes_in, &counters->bytes_out,
                              &counters->refused, &counters->failed, &counters->reused, &counters->timed_out,
                              &counters->limiter_waits, &counters->limiter_wait_us, &counters->open_us}) {
      Field(&text, *value);
    }
    for (const auto& value : counters->opened) Field(&text, value);
    text += '\n';
  }
  for (const auto& [id, counters] : peers_) {
    text += "peer\t" + id;
    for (const auto* value :
         {&counters->idle, &counters->leased, &counters->dialed, &counters->accepted, &counters->reused, &counters->failed,
          &counters->rtt_us, &counters->sent, &counters->retransmitted, &counters->least_rtt_us}) {
      Field(&text, *value);
    }
    text += '\n';
  }
  for (const auto& [id, counters] : lines_) {
    text += "kcp\t" + id;
    for (const auto* value :
         {&counters->standing, &counters->rtt_us, &counters->loss_ppm, &counters->samples, &counters->streams, &counters->bandwidth,
          &counters->parity, &counters->sent, &counters->sent_bytes, &counters->received, &counters->received_bytes,
          &counters->missing, &counters->recovered, &counters->repeated,
          &counters->repeated_bytes}) {
      Field(&text, *value);
    }
    text += '\n';
  }
  return text;
}

void Shared::PutSample(uint32_t token, std::string text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  samples_[token] = std::move(text);
  if (samples_.size() > kMostSamples) samples_.erase(samples_.begin());
}

std::string Shared::TakeSample(uint32_t token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto node = samples_.extract(token);
  return node.empty() ? std::string() : std::move(node.mapped());
}

Relay::Relay() : shared_(std::make_shared<Shared>()) {}

Relay::~Relay() {
  Stop();
  if (wake_fd_ >= 0) close(wake_fd_);
  if (shared_->event_fd >= 0) close(shared_->event_fd);
}

int Relay::Start() {
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  shared_->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd_ < 0 || shared_->event_fd < 0) return -errno;
  // Signals are Node's business: the thread inherits a mask that takes none.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "arctic-relay");
    Loop(this).Run();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return 0;
}

void Relay::Stop() {
  if (!thread_.joinable()) return;
  quit_ = true;
  Signal(wake_fd_);
  thread_.join();
}

void Relay::Post(Command command) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back(std::move(command));
  }
  Signal(wake_fd_);
}

}  // namespace arctic::relay
