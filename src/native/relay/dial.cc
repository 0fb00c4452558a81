// The exit's connections to the destinations of flows. The model is src/engines/tproxy/exit.ts.
#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {

bool Loop::HandleOpen(Link* link, const uint8_t* payload, size_t length) {
  Open open;
  if (!DecodeOpen(payload, length, &open) || open.flow != link->number + 1) return false;
  link->number = open.flow;
  const auto found = exits_.find(open.service);
  const std::string& peer = link->session->peer;
  if (found == exits_.end() || !found->second->service.Allows(peer, open)) {
    shared().refused_flows += 1;
    if (found != exits_.end() && found->second->service.peer == peer) found->second->counters->refused += 1;
    shared().Emit("refused\t" + peer + '\t' + open.service + '\t' + AddressText(open.destination) + " port " +
                  std::to_string(open.destination_port) + '\t' + AddressText(open.source));
    Refuse(link, EACCES);
    return true;
  }
  const std::shared_ptr<ServiceState> state = found->second;
  const char* full = link->peer->exit_flows >= limits_.most_peer_flows ? "one peer" : Full(*state);
  if (full != nullptr) {
    state->counters->refused += 1;
    shared().Emit(std::string("full\t") + full + '\t' + state->service.id);
    Refuse(link, ENOBUFS);
    return true;
  }
  int fd = -1;
  const bool data_follows = DataFollows(link);
  const int error = DialDestination(state->service, open, data_follows, &fd);
  if (error != 0) {
    state->counters->failed += 1;
    Refuse(link, error);
    return true;
  }
  Flow* flow = BeginFlow(fd, Side::kExit, state);
  flow->reused = link->number > 1;
  if (flow->reused) state->counters->reused += 1;
  link->peer->exit_flows += 1;
  flow->link = link;
  flow->open = std::move(open);
  flow->connecting = true;
  flow->ack_held = data_follows;
  link->flow = flow;
  RenewEstimate(link);
  Watch(flow);
  flow->timer.Set(&timers_, now_us_ + static_cast<int64_t>(limits_.connect_timeout) * 1000,
                  [this, flow] { ResetFlow(flow, ETIMEDOUT); });
  return true;
}

// Answers an OPEN with RESET, and waits for the entry to end its direction.
void Loop::Refuse(Link* link, int error) {
  uint8_t payload[kResetLength];
  Store32(payload, link->number);
  Store16(payload + 4, static_cast<uint16_t>(error));
  Append(link, FrameType::kReset, payload, sizeof payload);
  if (link->dead) return;
  link->refusing = true;
  link->discarded = 0;
  link->timer.Set(&timers_, now_us_ + kDiscardUs, [this, link] { CloseLink(link, "the peer sends on after a reset"); });
  Flush(link);
}

// Whether a whole frame of DATA has come behind the one just taken.
bool Loop::DataFollows(const Link* link) const {
  Header header;
  const size_t have = link->end - link->begin;
  if (link->stream != nullptr || have < kHeaderLength || !DecodeHeader(link->in.get() + link->begin, &header)) return false;
  return header.type == FrameType::kData && have >= kHeaderLength + header.length + kTagLength;
}

// Transparently from the client's own port first; when that is taken, from another.
int Loop::DialDestination(const Service& service, const Open& open, bool data_follows, int* fd) {
  const int error = TryDial(service, open, data_follows, true, fd);
  const bool taken = error == EADDRINUSE || error == EADDRNOTAVAIL;
  return taken && service.transparent ? TryDial(service, open, data_follows, false, fd) : error;
}

int Loop::TryDial(const Service& service, const Open& open, bool data_follows, bool keep_port, int* out) {
  const bool six = open.destination.width == 16;
  const int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const auto fail = [fd] {
    const int error = errno;
    close(fd);
    return error;
  };
  SetInt(fd, SOL_SOCKET, SO_MARK, static_cast<int>(limits_.own_mark));
  SetResetOnClose(fd, true);
  // A byte sent as urgent stays in its place among the others (RFC 6093 section 3.1); otherwise recv leaves it out.
  SetInt(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  // The last packet of the handshake then is the first with data (tcp_rcv_synsent_state_process in net/ipv4/tcp_input.c);
  // WriteLocal takes it back.
  if (data_follows) SetInt(fd, IPPROTO_TCP, TCP_QUICKACK, 0);
  sockaddr_storage address;
  if (service.transparent) {
    SetInt(fd, six ? SOL_IPV6 : SOL_IP, six ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1);
    if (keep_port) {
      SetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    } else {
      // Otherwise bind would reserve one port for all destinations.
      SetInt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    }
    const socklen_t length = ToSockaddr(open.source, keep_port ? open.source_port : 0, &address);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) < 0) return fail();
  }
  const socklen_t length = ToSockaddr(open.destination, open.destination_port, &address);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) < 0 && errno != EINPROGRESS) return fail();
  *out = fd;
  return 0;
}

void Loop::FinishConnect(Flow* flow) {
  // A failed connect is told as EPOLLERR; without it there is nothing to ask for.
  const int error = flow->hangup ? PendingError(flow->fd) : 0;
  if (error != 0) {
    ResetFlow(flow, error);
    return;
  }
  flow->connecting = false;
  flow->connected = true;
  NoteOpened(flow);
  flow->timer.Cancel();
  Link* link = flow->link;
  if (link != nullptr) {
    uint8_t payload[kFlowLength];
    Store32(payload, link->number);
    Append(link, FrameType::kOpened, payload, sizeof payload);
    if (flow->dead) return;
    // The destination often answers at once: OPENED leaves with that, otherwise by itself. Nobody waits for it.
    flow->timer.Set(&timers_, now_us_ + kOpenedUs, [this, flow] { SendOpened(flow); });
    ReadLink(link);
  }
  if (!flow->dead) ReadLocal(flow);
}

// Among many the destination has to find the time first.
void Loop::SendOpened(Flow* flow) {
  if (flow->link == nullptr) return;
  if (crowded_ && now_us_ - flow->begun_at < kOpenedCrowdedUs) {
    flow->timer.Set(&timers_, now_us_ + kOpenedUs, [this, flow] { SendOpened(flow); });
    return;
  }
  Flush(flow->link);
}

}  // namespace arctic::relay
