// The beginning of a link: its socket, HELLO and WELCOME, and the proof of both sides. The model is src/engines/tproxy/link.ts.
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "loop.h"

namespace arctic::relay {
namespace {

constexpr int kKeepaliveSeconds = 10;

}  // namespace

std::string Hex(const SessionId& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : id) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

void Loop::TuneCarrier(int fd) {
  const auto setting = [fd](int force, int ordinary, uint32_t bytes) {
    if (bytes == 0) return;
    const int value = static_cast<int>(bytes);
    if (setsockopt(fd, SOL_SOCKET, force, &value, sizeof value) < 0) SetInt(fd, SOL_SOCKET, ordinary, value);
  };
  SetInt(fd, SOL_SOCKET, SO_MARK, static_cast<int>(limits_.own_mark));
  setting(SO_SNDBUFFORCE, SO_SNDBUF, limits_.carrier_buffer);
  setting(SO_RCVBUFFORCE, SO_RCVBUF, limits_.carrier_buffer);
  SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetInt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(limits_.user_timeout));
  SetInt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveSeconds);
  SetInt(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveSeconds);
  SetCongestion(fd, true);
}

void Loop::NoteCongestionControl(int fd) {
  char name[16] = "";
  socklen_t length = sizeof name;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0) {
    shared().SetCongestionControl(std::string(name, strnlen(name, sizeof name)));
  }
}

void Loop::StartHello(Link* link) {
  RAND_bytes(link->dialer_nonce.data(), static_cast<int>(link->dialer_nonce.size()));
  uint8_t hello[kHelloLength];
  link->offered = BestSuite();
  EncodeHello(link->session->id, link->dialer_nonce, link->offered, hello);
  link->stage = Link::Stage::kWelcome;
  AppendRaw(link, hello, sizeof hello);
}

void Loop::ContinueHello(Link* link, std::shared_ptr<Session> session) {
  link->session = std::move(session);
  link->peer = PeerOf(link->session->peer);
  // Told now, the dialer keeps its flow waiting; an established link may have a flow on it already, which would be lost.
  if (link->peer->accepted + link->peer->answered >= limits_.most_links) {
    CloseLink(link, "the peer has dialed too many links");
    return;
  }
  Nonce nonce;
  RAND_bytes(nonce.data(), static_cast<int>(nonce.size()));
  const bool awaited = link->stage == Link::Stage::kAwaitSession;
  link->stage = Link::Stage::kConfirm;
  link->peer->answered += 1;
  const Suite suite = link->offered == BestSuite() ? link->offered : Suite::kAes256Gcm;
  Agree(link, !link->session->initiator, nonce, suite);
  uint8_t welcome[kWelcomeLength];
  EncodeWelcome(nonce, suite, welcome);
  AppendRaw(link, welcome, sizeof welcome);
  Append(link, FrameType::kConfirm, link->transcript.data(), link->transcript.size());
  Flush(link);
  if (awaited && !link->dead) ReadLink(link);
}

void Loop::Agree(Link* link, bool dialer_is_initiator, const Nonce& acceptor, Suite suite) {
  Secrets secrets;
  DeriveSecrets(link->session->id, link->session->key, dialer_is_initiator, link->dialer_nonce, acceptor, link->offered,
                suite, &secrets);
  const Key& ours = link->dialer ? secrets.to_acceptor : secrets.to_dialer;
  const Key& theirs = link->dialer ? secrets.to_dialer : secrets.to_acceptor;
  link->seal = std::make_unique<Direction>(ours, Direction::Use::kSeal, suite);
  link->open = std::make_unique<Direction>(theirs, Direction::Use::kOpen, suite);
  link->transcript = secrets.transcript;
  link->keyed_at = now_us_;
}

bool Loop::Confirmed(Link* link, const uint8_t* payload) {
  if (CRYPTO_memcmp(payload, link->transcript.data(), link->transcript.size()) != 0) return false;
  link->timer.Cancel();
  ChooseCongestion(link);
  NoteCongestionControl(link->fd);
  CountPath(link);
  if (link->dialer) {
    Append(link, FrameType::kConfirm, link->transcript.data(), link->transcript.size());
    link->stage = Link::Stage::kEstablished;
    Peer* peer = link->peer;
    peer->dialing -= 1;
    peer->counters->dialed += 1;
    if (link->session->retired) link->retiring = true;
    Flush(link);
    if (!link->dead) Offer(link);
    Refill(peer);
    return true;
  }
  EndHandshake(link);
  link->stage = Link::Stage::kEstablished;
  link->peer->counters->accepted += 1;
  link->peer->answered -= 1;
  link->peer->accepted += 1;
  // Retired between HELLO and CONFIRM.
  if (link->session->retired) CloseLink(link, "the session of the carrier has been retired");
  return true;
}

}  // namespace arctic::relay
