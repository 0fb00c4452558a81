// Links: sealing, and the frames that arrive. The model is src/engines/tproxy/link.ts.
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loop.h"

namespace arctic::relay {
namespace {

constexpr size_t kIdleOutput = 4096;

}  // namespace

void Loop::OnLink(Link* link, uint32_t events) {
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) link->hangup = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) link->readable = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) link->writable = true;
  if (link->stage == Link::Stage::kConnect) {
    if (!link->writable) return;
    const int error = PendingError(link->fd);
    if (error != 0) {
      shared().Emit("dial\t" + link->peer->id + '\t' + std::to_string(error));
      CloseLink(link, nullptr);
      return;
    }
    StartHello(link);
  }
  if (link->stage == Link::Stage::kAwaitSession && link->hangup) {
    CloseLink(link, "the peer closed the link");
    return;
  }
  if (!link->dead) Flush(link);
  if (!link->dead && link->writable && link->flow != nullptr) ReadLocal(link->flow);
  if (!link->dead) ReadLink(link);
}

void Loop::ReadLink(Link* link) {
  if (link->stream != nullptr) {
    ReadStream(link);
    return;
  }
  size_t budget = kBudget;
  for (;;) {
    if (!Parse(link)) return;
    if (link->stalled || link->stage == Link::Stage::kAwaitSession || !link->readable) break;
    if (budget == 0) {
      Queue(link);
      return;
    }
    if (link->in == nullptr) {
      link->in = buffers_.Take();
      if (link->in == nullptr) {
        CloseLink(link, "there is no memory for its input");
        return;
      }
      link->begin = link->end = 0;
    }
    if (kInput - link->end < kMaxFrame) {
      memmove(link->in.get(), link->in.get() + link->begin, link->end - link->begin);
      link->end -= link->begin;
      link->begin = 0;
    }
    const size_t room = kInput - link->end;
    const ssize_t got = recv(link->fd, link->in.get() + link->end, room, 0);
    if (got > 0) {
      link->end += static_cast<size_t>(got);
      link->heard_at = now_us_;
      budget -= std::min(budget, static_cast<size_t>(got));
      if (static_cast<size_t>(got) < room && !link->hangup) link->readable = false;
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      link->readable = false;
      break;
    }
    CloseLink(link, got == 0 ? "the peer closed the link" : strerror(errno));
    return;
  }
  if (link->flow == nullptr) DropInput(link);
}

// Idle links have no buffer.
void Loop::DropInput(Link* link) {
  if (link->begin != link->end) return;
  link->in.reset();
  link->begin = link->end = 0;
}

bool Loop::Parse(Link* link) {
  link->stalled = false;
  bool progress = true;
  while (progress && !link->stalled) {
    if (link->dead) return false;
    if (link->stage == Link::Stage::kAwaitSession) return true;
    if (!Step(link, &progress)) return false;
  }
  return !link->dead;
}

// Takes one unit off the received bytes; no progress when it is not complete.
bool Loop::Step(Link* link, bool* progress) {
  *progress = false;
  const size_t have = link->end - link->begin;
  uint8_t* at = link->in.get() + link->begin;
  switch (link->stage) {
    case Link::Stage::kConnect:
    case Link::Stage::kAwaitSession:
      return true;
    case Link::Stage::kHello: {
      if (have < kHelloLength) return true;
      if (!DecodeHello(at, &link->wanted_session, &link->dialer_nonce, &link->offered)) {
        CloseLink(link, "this is not a carrier");
        return false;
      }
      link->begin += kHelloLength;
      *progress = true;
      const auto known = sessions_.find(KeyOf(link->wanted_session));
      if (known != sessions_.end()) {
        ContinueHello(link, known->second);
        return !link->dead;
      }
      link->stage = Link::Stage::kAwaitSession;
      shared().Emit("session\t" + Hex(link->wanted_session));
      return true;
    }
    case Link::Stage::kWelcome: {
      if (have < kWelcomeLength) return true;
      Nonce acceptor;
      Suite suite;
      if (!DecodeWelcome(at, &acceptor, &suite) || (suite != link->offered && suite != Suite::kAes256Gcm)) {
        CloseLink(link, "the answer is not a carrier");
        return false;
      }
      link->begin += kWelcomeLength;
      *progress = true;
      Agree(link, link->session->initiator, acceptor, suite);
      link->stage = Link::Stage::kConfirm;
      return true;
    }
    case Link::Stage::kConfirm:
    case Link::Stage::kEstablished:
      break;
  }
  if (have < kHeaderLength) return true;
  Header header;
  if (!DecodeHeader(at, &header) || (link->stage == Link::Stage::kConfirm) != (header.type == FrameType::kConfirm)) {
    CloseLink(link, "a frame that the format does not allow");
    return false;
  }
  const size_t length = kHeaderLength + header.length + kTagLength;
  if (have < length) return true;
  // Only delayed on the word of the header, which the tag covers: it is not believed before.
  if (link->flow != nullptr && Blocked(link->flow) &&
      (header.type == FrameType::kData || header.type == FrameType::kFinish)) {
    link->stalled = true;
    return true;
  }
  if (!link->open->OpenFrame(at, header.length)) {
    CloseLink(link, "a frame does not authenticate");
    return false;
  }
  link->begin += length;
  *progress = true;
  const uint8_t* payload = at + kHeaderLength;
  const bool allowed = link->stage == Link::Stage::kConfirm ? Confirmed(link, payload)
                                                            : OnFrame(link, header.type, payload, header.length);
  if (!allowed && !link->dead) CloseLink(link, "a frame that the format does not allow");
  return !link->dead;
}

bool Loop::OnFrame(Link* link, FrameType type, const uint8_t* payload, size_t length) {
  switch (type) {
    case FrameType::kPing:
      // A peer that asks without reading the answers gets no more of them.
      if (link->out.size() - link->sent < kPongLimit) {
        Append(link, FrameType::kPong, payload, length);
        Flush(link);
      }
      return true;
    case FrameType::kPong:
      if (link->training > 0) ContinueTraining(link);
      return true;
    case FrameType::kPad:
      // The dialer is opening this side's window, too; the PING behind it sends the answer off.
      if (!link->dialer && link->flow == nullptr && !link->refusing && link->out.size() - link->sent < kPongLimit) {
        Append(link, FrameType::kPad, payload, length);
      }
      return true;
    case FrameType::kRekey:
      return true;
    default:
      break;
  }
  if (link->flow != nullptr) return OnFlowFrame(link->flow, type, payload, length);
  if (link->refusing) return OnRefusedFrame(link, type, payload, length);
  return OnIdleFrame(link, type, payload, length);
}

bool Loop::OnIdleFrame(Link* link, FrameType type, const uint8_t* payload, size_t length) {
  if (type == FrameType::kOpen && !link->dialer) return HandleOpen(link, payload, length);
  // The RESET of a flow that both sides have finished may still be on its way.
  return type == FrameType::kReset && Load32(payload) == link->number;
}

bool Loop::OnRefusedFrame(Link* link, FrameType type, const uint8_t* payload, size_t length) {
  if (type == FrameType::kData) {
    link->discarded += length;
    return link->discarded <= kMostDiscarded;
  }
  if (type != FrameType::kFinish && type != FrameType::kReset) return false;
  if (Load32(payload) != link->number) return true;
  link->refusing = false;
  link->timer.Cancel();
  Release(link);
  return true;
}

void Loop::AppendRaw(Link* link, const uint8_t* bytes, size_t length) { link->out.insert(link->out.end(), bytes, bytes + length); }

void Loop::Append(Link* link, FrameType type, const uint8_t* payload, size_t length) {
  if (link->dead) return;
  if (link->stream != nullptr) {
    uint8_t frame[kHeaderLength + kMaxOpen];
    EncodeHeader(type, static_cast<uint32_t>(length), frame);
    memcpy(frame + kHeaderLength, payload, length);
    WriteStream(link, frame, kHeaderLength + length);
    return;
  }
  if (type != FrameType::kRekey && type != FrameType::kConfirm) RekeyIfDue(link);
  // Padding counts: when it is lost, BBR's search ends as it does when a flow's bytes are.
  if (type == FrameType::kPad) link->taught += length;
  const size_t at = link->out.size();
  link->out.resize(at + kHeaderLength + length + kTagLength);
  if (length > 0) memcpy(link->out.data() + at + kHeaderLength, payload, length);
  // Cannot fail before the hard limit, which RekeyIfDue keeps far away; nothing unsealed may leave even so.
  if (!link->seal->Seal(type, link->out.data() + at, static_cast<uint32_t>(length))) {
    link->out.resize(at);
    CloseLink(link, "a frame cannot be sealed");
  }
}

void Loop::RekeyIfDue(Link* link) {
  if (link->seal->counter() < limits_.rekey_frames &&
      now_us_ - link->keyed_at < static_cast<int64_t>(limits_.rekey_after) * 1000) {
    return;
  }
  link->keyed_at = now_us_;
  Append(link, FrameType::kRekey, nullptr, 0);
}

void Loop::SendScratch(Link* link, size_t length) {
  if (link->stream != nullptr) {
    EncodeHeader(FrameType::kData, static_cast<uint32_t>(length), scratch_.get());
    WriteStream(link, scratch_.get(), kHeaderLength + length);
    return;
  }
  NoteSent(link, length);
  RekeyIfDue(link);
  if (link->dead) return;
  if (!link->seal->Seal(FrameType::kData, scratch_.get(), static_cast<uint32_t>(length))) {
    CloseLink(link, "a frame cannot be sealed");
    return;
  }
  const size_t frame = kHeaderLength + length + kTagLength;
  const size_t before = link->out.size() - link->sent;
  iovec parts[2] = {{link->out.data() + link->sent, before}, {scratch_.get(), frame}};
  msghdr message{};
  message.msg_iov = before > 0 ? parts : parts + 1;
  message.msg_iovlen = before > 0 ? 2 : 1;
  ssize_t sent = 0;
  do {
    sent = sendmsg(link->fd, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno != EAGAIN) {
      CloseLink(link, strerror(errno));
      return;
    }
    sent = 0;
  }
  const size_t gone = static_cast<size_t>(sent);
  if (gone == before + frame) {
    link->out.clear();
    link->sent = 0;
    return;
  }
  link->writable = false;
  if (gone < before) {
    link->sent += gone;
    AppendRaw(link, scratch_.get(), frame);
  } else {
    link->out.assign(scratch_.get() + (gone - before), scratch_.get() + frame);
    link->sent = 0;
  }
}

void Loop::Flush(Link* link) {
  while (link->writable && !link->dead && link->sent < link->out.size()) {
    const ssize_t sent = send(link->fd, link->out.data() + link->sent, link->out.size() - link->sent, MSG_NOSIGNAL);
    if (sent >= 0) {
      link->sent += static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      link->writable = false;
    } else if (errno != EINTR) {
      CloseLink(link, strerror(errno));
      return;
    }
  }
  if (link->sent == link->out.size()) {
    link->out.clear();
    link->sent = 0;
    if (link->flow == nullptr && link->out.capacity() > kIdleOutput) link->out.shrink_to_fit();
  }
}

// The link has no flow any more.
void Loop::Release(Link* link) {
  if (link->dead) return;
  if (link->stream != nullptr) {
    CloseStream(link, true);
    return;
  }
  // Thousands of idle links must not keep what their flows needed.
  DropInput(link);
  if (link->out.empty() && link->out.capacity() > kIdleOutput) link->out.shrink_to_fit();
  if (link->dialer) {
    link->peer->leased -= 1;
    Offer(link);
    Refill(link->peer);
  } else if (link->retiring) {
    CloseLink(link, nullptr);
  }
}

// `reason` is for the log; nullptr when this side wanted it so.
void Loop::CloseLink(Link* link, const char* reason) {
  if (link->dead) return;
  if (link->stream != nullptr) {
    if (reason != nullptr) shared().Emit("lost\t" + link->peer->id + '\t' + reason);
    CloseStream(link, false);
    return;
  }
  Bury(link);
  // Counted first: whoever sees the connection end finds it in the counters.
  if (!link->dialer && link->stage != Link::Stage::kEstablished) shared().refused_carriers += 1;
  if (link->sending) CountPath(link);
  close(link->fd);
  link->fd = -1;
  link->timer.Cancel();
  links_.erase(link);
  link->in.reset();
  Flow* flow = link->flow;
  link->flow = nullptr;
  const bool established = link->stage == Link::Stage::kEstablished;
  if (reason != nullptr) {
    const char* how = flow != nullptr ? "lost" : established ? "idle" : "handshake";
    shared().Emit(std::string(how) + '\t' + (link->peer == nullptr ? "" : link->peer->id) + '\t' + reason);
  }
  Peer* peer = link->peer;
  if (link->dialer) {
    if (!established) {
      peer->dialing -= 1;
      peer->counters->failed += 1;
      BackOff(peer);
    } else if (flow != nullptr) {
      peer->leased -= 1;
    } else {
      const auto found = std::find(peer->idle.begin(), peer->idle.end(), link);
      if (found != peer->idle.end()) {
        peer->idle.erase(found);
        // A peer that accepts links and closes them at once is no better than one that refuses them.
        if (reason != nullptr && now_us_ - link->idle_since < kYoungUs) BackOff(peer);
      }
    }
  } else if (!established) {
    if (link->stage == Link::Stage::kConfirm) peer->answered -= 1;
    EndHandshake(link);
  } else {
    peer->accepted -= 1;
  }
  if (flow != nullptr) {
    flow->link = nullptr;
    CloseLocal(flow, true);
    EndFlow(flow);
  }
  if (link->dialer && !relay_->quit_) Refill(peer);
}

}  // namespace arctic::relay
