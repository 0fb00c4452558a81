// What TypeScript decides, put into force without dropping flows that go on.
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {
namespace {

// Descriptors for the log, the API, the kernel's sockets and whatever else the process has.
constexpr size_t kReserve = 512;

}  // namespace

void Loop::ObeyAll() {
  std::vector<Command> commands;
  {
    const std::lock_guard<std::mutex> lock(relay_->mutex_);
    commands.swap(relay_->commands_);
  }
  for (const Command& command : commands) {
    std::visit([this](const auto& one) { Obey(one); }, command);
  }
}

void Loop::Obey(const Limits& limits) {
  limits_ = limits;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY) {
    descriptors_ = files.rlim_cur > 2 * kReserve ? files.rlim_cur - kReserve : files.rlim_cur / 2;
    // A flow is a connection and a link.
    if (descriptors_ / 2 < limits.most_flows) {
      shared().Emit("budget\t" + std::to_string(descriptors_ / 2) + '\t' + std::to_string(limits.most_flows));
    }
  }
  if (!maintenance_.armed()) Maintain();
  if (!fairness_.armed()) ShareFairly();
}

const char* Loop::Full(const ServiceState& service) const {
  if (flows_.size() >= limits_.most_flows) return "all services together";
  if (service.counters->active >= limits_.most_service_flows) return "one service";
  if (flows_.size() + links_.size() >= descriptors_) return "the process's file descriptors";
  return nullptr;
}

void Loop::Update(std::unordered_map<std::string, std::shared_ptr<ServiceState>>* states, const std::vector<Service>& services,
                  Side side) {
  const char* name = side == Side::kEntry ? "entry" : "exit";
  std::unordered_map<std::string, std::shared_ptr<ServiceState>> next;
  for (const Service& service : services) {
    auto found = states->find(service.id);
    // A service that moved to another peer is another service as far as its flows are concerned. So is one that is no longer
    // transparent: replies to its open connections have the client's address, and nothing delivers those to us any more.
    if (found != states->end() && (found->second->service.peer != service.peer ||
                                   (found->second->service.transparent && !service.transparent))) {
      shared().ForgetService(service.id, name);
      found = states->end();
    }
    std::shared_ptr<ServiceState> state = found == states->end() ? std::make_shared<ServiceState>() : found->second;
    const bool fresh = state->counters == nullptr;
    if (fresh) state->counters = shared().Service(service.id, name);
    if (fresh || state->service.bits_per_second != service.bits_per_second) {
      state->bucket.SetRate(service.bits_per_second, now_us_);
      if (!state->waiting.empty()) Grant(state.get());
    }
    state->service = service;
    next.emplace(service.id, std::move(state));
  }
  for (const auto& [id, state] : *states) {
    const auto kept = next.find(id);
    if (kept != next.end() && kept->second == state) continue;
    if (kept == next.end()) shared().ForgetService(id, name);
    const std::vector<Flow*> flows(flows_.begin(), flows_.end());
    for (Flow* flow : flows) {
      if (!flow->dead && flow->service == state) ResetFlow(flow, ECONNABORTED);
    }
  }
  *states = std::move(next);
}

void Loop::Obey(const Configure& config) {
  Update(&exits_, config.exits, Side::kExit);
  Update(&entries_, config.entries, Side::kEntry);
  by_mark_.clear();
  for (const auto& [id, state] : entries_) by_mark_[state->service.mark & kServiceBits] = state;
  for (auto& [id, peer] : peers_) {
    peer->configured = false;
    peer->warm = false;
  }
  for (const PeerAddress& given : config.peers) {
    Peer* peer = PeerOf(given.id);
    const bool moved = peer->port != 0 && (peer->port != given.port || peer->address.width != given.address.width ||
                                           memcmp(peer->address.bytes, given.address.bytes, given.address.width) != 0);
    peer->configured = true;
    peer->address = given.address;
    peer->port = given.port;
    if (moved) {
      for (Link* link : links_) {
        if (link->dialer && link->peer == peer) link->retiring = true;
      }
      CloseIdle(peer, false);
    }
  }
  for (const auto& [id, state] : entries_) {
    Peer* peer = PeerOf(state->service.peer);
    peer->warm = peer->configured;
  }
  WantLines();
  for (auto& [id, peer] : peers_) {
    if (!peer->configured) CloseIdle(peer.get(), false);
    Refill(peer.get());
  }
}

void Loop::Obey(const SetSession& given) {
  const std::string key = KeyOf(given.id);
  std::shared_ptr<Session>& session = sessions_[key];
  if (session == nullptr) {
    session = std::make_shared<Session>();
    session->id = given.id;
    session->key = given.key;
    session->peer = given.peer;
    session->initiator = given.initiator;
  }
  const std::shared_ptr<Session> known = session;
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (!link->dead && link->stage == Link::Stage::kAwaitSession && link->wanted_session == given.id) {
      ContinueHello(link, known);
    }
  }
  if (!given.current) return;
  Peer* peer = PeerOf(given.peer);
  peer->current = known;
  peer->backoff.Cancel();
  peer->backoff_us = 0;
  if (endpoint_ != nullptr) endpoint_->Renew(given.peer, known);
  Refill(peer);
}

void Loop::Obey(const NoSession& none) {
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (!link->dead && link->stage == Link::Stage::kAwaitSession && link->wanted_session == none.id) {
      CloseLink(link, "the carrier names a session that is not known here");
    }
  }
}

void Loop::Obey(const Retire& retire) {
  std::shared_ptr<Session> session;
  const auto found = sessions_.find(KeyOf(retire.id));
  if (found != sessions_.end()) {
    session = found->second;
    sessions_.erase(found);
    session->retired = true;
  }
  const auto known = peers_.find(retire.peer);
  Peer* peer = known == peers_.end() ? nullptr : known->second.get();
  if (peer != nullptr && peer->current == session) peer->current = nullptr;
  if (endpoint_ != nullptr && session != nullptr) endpoint_->Retire(session);
  if (endpoint_ != nullptr && retire.removed) endpoint_->Remove(retire.peer);
  // Links have a peer; an association that has carried nothing yet need not.
  if (peer == nullptr) return;
  const std::vector<Link*> links(links_.begin(), links_.end());
  for (Link* link : links) {
    if (link->dead || link->session == nullptr) continue;
    if (retire.removed) {
      if (link->session->peer == retire.peer) CloseLink(link, nullptr);
    } else if (link->session == session) {
      link->retiring = true;
    }
  }
  CloseIdle(peer, true);
  if (retire.removed) return;
  // Not at once: an OPEN of the dialer, who may hear of the renewal later, can be on its way.
  while (!grace_.empty() && !grace_.front()->armed()) grace_.pop_front();
  grace_.push_back(std::make_unique<Timer>());
  grace_.back()->Set(&timers_, now_us_ + static_cast<int64_t>(limits_.renewal_grace) * 1000, [this] {
    const std::vector<Link*> all(links_.begin(), links_.end());
    for (Link* link : all) {
      if (!link->dead && !link->dialer && link->retiring && link->flow == nullptr && !link->refusing) CloseLink(link, nullptr);
    }
  });
}

void Loop::Obey(const Listen& listen) {
  auto listener = std::make_unique<Listener>();
  // accept4 runs until EAGAIN.
  fcntl(listen.fd, F_SETFL, fcntl(listen.fd, F_GETFL) | O_NONBLOCK);
  // What is accepted inherits it, which saves a call for each connection.
  SetInt(listen.fd, IPPROTO_TCP, TCP_NODELAY, 1);
  listener->fd = listen.fd;
  listener->captured = listen.captured;
  listener->port = listen.port;
  Watch(listener.get());
  listeners_.push_back(std::move(listener));
}

void Loop::Obey(const StopAccepting&) {
  accepting_ = false;
  for (auto& listener : listeners_) {
    if (listener->fd < 0) continue;
    close(listener->fd);
    listener->fd = -1;
    listener->dead = true;
    listener->resume.Cancel();
  }
  const std::vector<Flow*> flows(flows_.begin(), flows_.end());
  for (Flow* flow : flows) {
    if (!flow->dead && flow->waiting_link) AbandonWaiting(flow, nullptr);
  }
}

void Loop::Obey(const ResetAll&) {
  const std::vector<Flow*> flows(flows_.begin(), flows_.end());
  for (Flow* flow : flows) {
    if (!flow->dead) ResetFlow(flow, ECONNABORTED);
  }
}

}  // namespace arctic::relay
