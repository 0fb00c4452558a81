// Flows over KCP: each has a conversation of its own, which carries the frames of a link without their tags, because the
// datagrams are sealed. Nothing is pooled: a conversation begins with its first segment.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "loop.h"

namespace arctic::relay {
namespace {

// Named this often, this soon after the time before, a socket is no longer waited for.
constexpr int kBusy = 16;
constexpr int64_t kSoonUs = 700, kLeastPauseUs = 500;
constexpr int64_t kCountEveryUs = 200'000;
// An accepted conversation that brings no OPEN.
constexpr int64_t kOpenWithinUs = 10'000'000;

kcp::Association& Of(const Link* link) { return *link->line->association; }

}  // namespace

void Loop::Obey(const ListenDatagrams& listen) {
  if (endpoint_ != nullptr) return;
  kcp::Owner* owner = this;
  endpoint_ = std::make_unique<kcp::Endpoint>(&timers_, &now_us_, owner);
  kcp::Settings settings;
  settings.rekey_datagrams = limits_.rekey_frames;
  settings.rekey_after = static_cast<int64_t>(limits_.rekey_after) * 1000;
  settings.ping_every = static_cast<int64_t>(limits_.ping_every) * 1000 / 3;
  settings.silence = static_cast<int64_t>(limits_.user_timeout) * 1000 / 3;
  settings.most_streams = limits_.most_flows;
  endpoint_->Configure(settings, static_cast<int64_t>(limits_.handshake_timeout) * 1000, limits_.most_handshakes,
                       BestSuite() == Suite::kAegis128L);
  const int error = endpoint_->Listen(listen.port, static_cast<int>(limits_.own_mark), [this](int fd) {
    datagram_sockets_.push_back(std::make_unique<DatagramSocket>());
    datagram_sockets_.back()->fd = fd;
    Watch(datagram_sockets_.back().get());
  });
  if (error != 0) shared().Emit("datagrams\t" + std::to_string(listen.port) + '\t' + std::to_string(error));
  WantLines();
}

// On a long path a flood of datagrams is taken once a millisecond: to be woken for each costs more than all the work they make.
void Loop::OnDatagrams(DatagramSocket* socket) {
  const kcp::Endpoint::Taken taken = endpoint_->Read(socket->fd);
  if (taken.more) {
    Queue(socket);
    return;
  }
  if (socket->paused) {
    Pause(socket, taken.datagrams > 0 ? taken.patience_us : 0);
    return;
  }
  socket->busy = now_us_ - socket->named_at < kSoonUs ? socket->busy + 1 : 0;
  socket->named_at = now_us_;
  if (socket->busy >= kBusy) Pause(socket, taken.patience_us);
}

// 0 watches it again.
void Loop::Pause(DatagramSocket* socket, int64_t us) {
  const bool pause = us >= kLeastPauseUs;
  if (pause != socket->paused) {
    epoll_event event{};
    event.events = pause ? 0u : static_cast<uint32_t>(EPOLLIN);
    event.data.ptr = static_cast<Pollable*>(socket);
    epoll_ctl(epoll_, EPOLL_CTL_MOD, socket->fd, &event);
    socket->paused = pause;
    socket->busy = 0;
  }
  if (pause) socket->look.Set(&timers_, now_us_ + us, [this, socket] { OnDatagrams(socket); });
}

// Lines to the peers of services that go over KCP from here.
void Loop::WantLines() {
  if (endpoint_ == nullptr) return;
  for (auto& [id, peer] : peers_) {
    bool wanted = false, probed = false;
    for (const auto& [name, state] : entries_) {
      const Service& service = state->service;
      if (!peer->configured || service.peer != id) continue;
      wanted = wanted || service.kcp || service.probed;
      probed = probed || service.probed;
    }
    if (!wanted) {
      endpoint_->Unwant(id);
      shared().ForgetLine(id);
      continue;
    }
    sockaddr_storage to;
    const socklen_t length = ToSockaddr(peer->address, peer->port, &to);
    endpoint_->Want(id, to, length, peer->current, probed);
  }
  if (!counting_.armed()) CountLines();
}

std::shared_ptr<Session> Loop::FindSession(const SessionId& id, bool ask) {
  const auto found = sessions_.find(KeyOf(id));
  if (found != sessions_.end()) return found->second;
  if (ask) shared().Emit("session\t" + Hex(id));
  return nullptr;
}

void Loop::OnLineUp(const std::string& id) {
  Peer* peer = PeerOf(id);
  // Those that wait for a link of the other kind.
  const std::vector<Flow*> waiting(peer->waiting.begin(), peer->waiting.end());
  for (Flow* flow : waiting) {
    if (flow->dead || !flow->waiting_link || !flow->service->service.kcp || !LeaseStream(peer, flow)) continue;
    peer->waiting.erase(std::remove(peer->waiting.begin(), peer->waiting.end(), flow), peer->waiting.end());
  }
}

void Loop::OnStanding(const std::string& peer, kcp::Standing standing) {
  shared().Emit("kcp\t" + peer + '\t' + std::to_string(static_cast<int>(standing)));
  if (standing == kcp::Standing::kNone) return;
  shared().Line(peer)->standing = static_cast<uint64_t>(standing);
  // Without KCP its flows need the links of the other kind at once.
  if (standing == kcp::Standing::kUnreachable && endpoint_ != nullptr) Refill(PeerOf(peer));
}

Link* Loop::MakeStreamLink(kcp::Line* line, kcp::Stream* stream, bool dialer) {
  auto* link = new Link();
  link->dialer = dialer;
  link->stage = Link::Stage::kEstablished;
  link->session = line->session;
  link->peer = PeerOf(line->session->peer);
  link->line = line;
  link->stream = stream;
  link->writable = true;
  stream->owner = link;
  links_.insert(link);
  return link;
}

// False when the peer cannot be reached so: the flow goes over TCP.
bool Loop::LeaseStream(Peer* peer, Flow* flow) {
  kcp::Line* line = endpoint_ == nullptr ? nullptr : endpoint_->UpTo(peer->id);
  if (line != nullptr && line->association->Doubtful(now_us_)) return false;
  kcp::Stream* stream = line == nullptr ? nullptr : line->association->Open();
  if (stream == nullptr) return false;
  flow->waiting_link = false;
  flow->timer.Cancel();
  Attach(flow, MakeStreamLink(line, stream, true));
  return true;
}

void Loop::OnStreams(kcp::Line* line) {
  kcp::Association& association = *line->association;
  const auto take = [line](std::vector<kcp::Stream*>* list) -> kcp::Stream* {
    if (line->gone || list->empty()) return nullptr;
    kcp::Stream* stream = list->back();
    list->pop_back();
    return stream;
  };
  while (kcp::Stream* stream = take(&association.opened)) {
    Link* link = MakeStreamLink(line, stream, false);
    link->timer.Set(&timers_, now_us_ + kOpenWithinUs, [this, link] { CloseLink(link, "a conversation without OPEN"); });
  }
  while (kcp::Stream* stream = take(&association.readable)) {
    stream->told_readable = false;
    if (stream->owner != nullptr) ReadStream(static_cast<Link*>(stream->owner));
  }
  while (kcp::Stream* stream = take(&association.writable)) {
    if (stream->owner == nullptr) continue;
    auto* link = static_cast<Link*>(stream->owner);
    link->writable = true;
    if (link->flow != nullptr) ReadLocal(link->flow);
  }
  while (kcp::Stream* stream = take(&association.killed)) {
    if (stream->owner != nullptr) CloseLink(static_cast<Link*>(stream->owner), "the peer has given up the flow");
  }
}

void Loop::OnLineDown(kcp::Line* line, const char* reason) {
  const std::vector<Link*> links(links_.begin(), links_.end());
  size_t lost = 0;
  for (Link* link : links) {
    if (link->dead || link->line != line) continue;
    lost += 1;
    CloseLink(link, nullptr);
  }
  if (reason != nullptr) shared().Emit(std::string(lost > 0 ? "lost" : "idle") + '\t' + line->session->peer + '\t' + reason);
}

void Loop::WriteStream(Link* link, const uint8_t* bytes, size_t length) {
  Of(link).Write(link->stream, bytes, length);
  link->writable = Of(link).Writable(link->stream);
  link->stream->told_writable = link->writable;
  endpoint_->Touch(link->line);
}

void Loop::ReadStream(Link* link) {
  size_t budget = kBudget;
  link->stalled = false;
  while (!link->dead && !link->stalled) {
    const size_t got = Of(link).Peek(link->stream, stream_scratch_.get(), kMaxFrame);
    if (got == 0) return;
    if (budget == 0) {
      Queue(link);
      return;
    }
    const size_t used = ParseStream(link, stream_scratch_.get(), got);
    if (link->dead) return;
    Of(link).Consume(link->stream, used, now_us_);
    endpoint_->Touch(link->line);
    budget -= std::min(budget, used);
  }
}

// Answers how much it has taken: less than all when the local side is blocked.
size_t Loop::ParseStream(Link* link, const uint8_t* bytes, size_t length) {
  size_t at = 0;
  while (at < length && !link->dead) {
    const bool blocked = link->flow != nullptr && Blocked(link->flow);
    if (link->data_left > 0) {
      if (blocked) break;
      const size_t part = std::min<size_t>(link->data_left, length - at);
      link->data_left -= static_cast<uint32_t>(part);
      const bool allowed = OnFrame(link, FrameType::kData, bytes + at, part);
      at += part;
      if (!allowed && !link->dead) CloseLink(link, "a frame that the format does not allow");
      continue;
    }
    const bool waits = bytes[at] == static_cast<uint8_t>(FrameType::kData) || bytes[at] == static_cast<uint8_t>(FrameType::kFinish);
    if (blocked && link->head.empty() && waits) break;
    Header header;
    size_t wanted = kHeaderLength;
    if (link->head.size() >= kHeaderLength && DecodeHeader(link->head.data(), &header)) wanted += header.length;
    const size_t part = std::min(wanted - link->head.size(), length - at);
    link->head.insert(link->head.end(), bytes + at, bytes + at + part);
    at += part;
    if (link->head.size() < kHeaderLength) continue;
    if (!DecodeHeader(link->head.data(), &header) || header.type == FrameType::kRekey || header.type == FrameType::kConfirm ||
        header.type == FrameType::kPad) {
      CloseLink(link, "a frame that the format does not allow");
      break;
    }
    if (header.type == FrameType::kData) {
      link->data_left = header.length;
      link->head.clear();
    } else if (link->head.size() == kHeaderLength + header.length) {
      const std::vector<uint8_t> frame = std::move(link->head);
      link->head.clear();
      if (header.type == FrameType::kOpen) link->timer.Cancel();
      const bool allowed = OnFrame(link, header.type, frame.data() + kHeaderLength, header.length);
      if (!allowed && !link->dead) CloseLink(link, "a frame that the format does not allow");
    }
  }
  link->stalled = !link->dead && at < length;
  return at;
}

// Orderly: what was written still arrives. Otherwise both ends forget it at once.
void Loop::CloseStream(Link* link, bool orderly) {
  Bury(link);
  link->timer.Cancel();
  links_.erase(link);
  kcp::Stream* stream = link->stream;
  link->stream = nullptr;
  if (orderly) {
    Of(link).Finish(stream);
  } else {
    Of(link).Kill(stream);
  }
  endpoint_->Touch(link->line);
  Flow* flow = link->flow;
  link->flow = nullptr;
  if (flow == nullptr) return;
  flow->link = nullptr;
  CloseLocal(flow, true);
  EndFlow(flow);
}

void Loop::CountLines() {
  counting_.Set(&timers_, now_us_ + kCountEveryUs, [this] { CountLines(); });
  for (const auto& [id, peer] : peers_) {
    const kcp::Line* line = endpoint_->UpTo(id);
    if (line == nullptr) continue;
    const kcp::Association& association = *line->association;
    const kcp::RateControl& rate = association.rate();
    const kcp::Totals& totals = association.totals();
    LineCounters& counters = *shared().Line(id);
    counters.rtt_us = static_cast<uint64_t>(rate.smoothed_rtt());
    const double loss_there = rate.loss_samples() > 0 ? rate.loss() : 0;
    counters.loss_ppm = static_cast<uint64_t>(std::max(loss_there, association.loss_here()) * 1e6);
    counters.samples = rate.loss_samples();
    counters.streams = association.streams();
    counters.bandwidth = rate.bandwidth() * 8;
    counters.parity = association.parity();
    counters.sent = totals.sent;
    counters.sent_bytes = totals.sent_bytes;
    counters.received = totals.received;
    counters.received_bytes = totals.received_bytes;
    counters.missing = totals.missing;
    counters.recovered = totals.recovered;
    counters.repeated = totals.repeated;
    counters.repeated_bytes = totals.repeated_bytes;
  }
}

}  // namespace arctic::relay
