// The UDP sockets, the handshakes and the associations behind them. Belongs to the relay's thread.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "../relay/session.h"
#include "../relay/timers.h"
#include "association.h"

namespace arctic::kcp {

using relay::Session;
using relay::Timer;
using relay::Timers;

// Where a peer stands. `kRefused` is for the dialer who got no answer for a while; it goes on trying.
enum class Standing : uint8_t { kNone = 0, kTrying = 1, kUp = 2, kUnreachable = 3 };

// An association and where its datagrams go.
struct Line {
  uint32_t name = 0;
  std::shared_ptr<Session> session;
  std::unique_ptr<Association> association;
  sockaddr_storage to{};
  socklen_t to_length = 0;
  int socket = -1;
  // The acceptor's, once the dialer has used the keys.
  bool confirmed = false;
  // No further conversations: its session was renewed, or the peer moved.
  bool retiring = false;
  bool dirty = false, gone = false;
  // The acceptor's: what it answered to which nonce.
  Nonce dialer_nonce{};
  uint8_t welcome[kWelcomeLength] = {};
  Timer timer;
};

// The relay as the endpoint needs it.
class Owner {
 public:
  virtual ~Owner() = default;
  // Null when it is not known (yet); with `ask` it then finds out.
  virtual std::shared_ptr<Session> FindSession(const SessionId& id, bool ask) = 0;
  // The association this host dials has come up.
  virtual void OnLineUp(const std::string& peer) = 0;
  virtual void OnStanding(const std::string& peer, Standing standing) = 0;
  // `opened`, `readable`, `writable` or `killed` of the association is not empty.
  virtual void OnStreams(Line* line) = 0;
  // It is over: every stream has to be let go before this returns.
  virtual void OnLineDown(Line* line, const char* reason) = 0;
};

class Endpoint {
 public:
  Endpoint(Timers* timers, const int64_t* now_us, Owner* owner) : timers_(timers), now_us_(now_us), owner_(owner) {}
  // Says goodbye on every line.
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // `aegis`: this host can seal with AEGIS-128L, and may.
  void Configure(const Settings& settings, int64_t handshake_us, size_t most_handshakes, bool aegis) {
    settings_ = settings;
    aegis_ = aegis;
    handshake_us_ = handshake_us;
    most_handshakes_ = most_handshakes;
  }
  // Opens both sockets; `watched` is called with each. 0 or errno.
  int Listen(uint16_t port, int mark, const std::function<void(int)>& watched);
  struct Taken {
    // There may be more.
    bool more = false;
    size_t datagrams = 0;
    // How long the next look may wait without anybody noticing, in microseconds.
    int64_t patience_us = 0;
  };
  // At most a fair share of what is there.
  Taken Read(int socket);
  // Sends what has come together since.
  void Flush();

  // Keeps a line to the peer from now on, with `probed` one that measures the path all the time; `session` null while there is none.
  void Want(const std::string& peer, const sockaddr_storage& to, socklen_t length, std::shared_ptr<Session> session,
            bool probed);
  void Renew(const std::string& peer, std::shared_ptr<Session> session);
  void Unwant(const std::string& peer);
  // The session was renewed: flows under it go on.
  void Retire(const std::shared_ptr<Session>& session);
  // Ends every line with the peer, whatever session it is under.
  void Remove(const std::string& peer);

  // The line for new flows to the peer; null while there is none.
  Line* UpTo(const std::string& peer);
  void Touch(Line* line);
  uint64_t refused() const { return refused_; }

 private:
  struct Dial {
    std::string peer;
    sockaddr_storage to{};
    socklen_t to_length = 0;
    std::shared_ptr<Session> session;
    Standing standing = Standing::kNone;
    uint32_t name = 0;
    Nonce nonce{};
    uint8_t hello[kHelloLength] = {};
    int64_t began_at = 0, sent_at = 0;
    int attempts = 0;
    // HELLO says that this host has AEGIS-128L.
    bool offered = false;
    bool asking = false, probed = false;
    Line* up = nullptr;
    Timer timer;
  };

  static constexpr int kBatch = 16;
  static constexpr size_t kBuffer = 65536;
  static constexpr size_t kMostPendingOfOne = 4;
  static constexpr int64_t kUnreachableUs = 3'000'000;
  static constexpr int64_t kSlowRetryUs = 5'000'000;

  void Datagram(uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket);
  void OnHello(const uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket);
  void OnWelcome(const uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket);
  // The acceptor's: the dialer has so long to use the keys.
  void AwaitConfirmation(Line* line);
  void Begin(Dial* dial);
  void Forget(Dial* dial);
  std::vector<Line*> LinesOf(const std::function<bool(const Line&)>& which) const;
  void SayHello(Dial* dial);
  void SetStanding(Dial* dial, Standing standing);
  uint32_t FreshName();
  Settings SettingsFor(Suite suite) const;
  Line* Add(std::shared_ptr<Session> session, const sockaddr_storage& to, socklen_t length, int socket, uint32_t name);
  void Pump(Line* line);
  void End(Line* line, const char* reason);
  void EndWhenEmpty(Line* line);
  void Leave(Line* line);
  void SendBatch(Line* line);
  bool SendRun(Line* line, const uint8_t* bytes, size_t length, size_t segment);
  int SocketFor(const sockaddr_storage& to) const;

  Timers* timers_;
  const int64_t* now_us_;
  Owner* owner_;
  Settings settings_;
  int64_t handshake_us_ = 5'000'000;
  size_t most_handshakes_ = 512, pending_ = 0;
  int sockets_[2] = {-1, -1};
  bool gso_ = true, aegis_ = false;
  std::vector<uint8_t> buffers_;
  Batch batch_;
  std::unordered_map<uint32_t, std::unique_ptr<Line>> lines_;
  std::unordered_map<std::string, std::unique_ptr<Dial>> dials_;
  std::vector<Line*> dirty_, heard_;
  std::vector<std::unique_ptr<Line>> graveyard_;
  // Sessions that somebody named and nobody here knew, within this second.
  int64_t unknown_since_ = 0;
  int unknown_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace arctic::kcp
