// The relay's thread: epoll loop, links, flows and pools. Everything here belongs to that one thread.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "../kcp/endpoint.h"
#include "../short_sleeps.h"
#include "buffer_pool.h"
#include "link_keys.h"
#include "path.h"
#include "relay.h"
#include "session.h"
#include "timers.h"
#include "token_bucket.h"

namespace arctic::relay {

struct Flow;
struct Link;

// Bits 20-23 of a mark say how the firewall uses it; the rest names the service.
constexpr uint32_t kServiceBits = 0xff0fffff;

// Something epoll watches, edge-triggered but for listeners. `readable` and `writable` stay until a call says EAGAIN.
struct Pollable {
  enum class Kind { kWake, kListener, kLink, kFlow, kDatagrams };
  explicit Pollable(Kind of) : kind(of) {}
  virtual ~Pollable() = default;

  const Kind kind;
  int fd = -1;
  bool readable = false;
  bool writable = false;
  // The other side has hung up: an edge may have come together with the last data, so a short read drains nothing.
  bool hangup = false;
  // Closed; the object lives until the end of the round, because events of the same batch may name it.
  bool dead = false;
  // In the list of those that used up their budget.
  bool queued = false;
};

struct Listener : Pollable {
  Listener() : Pollable(Kind::kListener) {}
  bool captured = false;
  uint16_t port = 0;
  Timer resume;
};

struct ServiceState {
  Service service;
  std::shared_ptr<ServiceCounters> counters;
  // Limits what this side reads from its local connections.
  TokenBucket bucket;
  std::deque<Flow*> waiting;
  Timer grant;
};

struct Peer {
  std::string id;
  bool configured = false;
  bool warm = false;
  Address address;
  uint16_t port = 0;
  std::shared_ptr<Session> current;
  // The one used last at the end.
  std::deque<Link*> idle;
  std::deque<Flow*> waiting;
  size_t leased = 0, dialing = 0;
  PathKind path = PathKind::kUnknown;
  // Links it has dialed to us, and flows on them.
  size_t accepted = 0, exit_flows = 0;
  // Handshakes of links it dials that wait for its proof.
  size_t answered = 0;
  // Highest bandwidth that a long flow of any link has proved lately, bytes a second.
  uint64_t best_bandwidth = 0;
  int64_t best_at = 0;
  // Bytes a second that all flows together have been seen to get.
  double carries = 0;
  // Trainings begun since `trained_at`.
  uint32_t trained = 0;
  int64_t trained_at = 0;
  int64_t backoff_us = 0;
  Timer backoff;
  std::shared_ptr<PeerCounters> counters;
};

struct Link : Pollable {
  enum class Stage { kConnect, kHello, kAwaitSession, kWelcome, kConfirm, kEstablished };
  Link() : Pollable(Kind::kLink) {}

  bool dialer = false;
  Stage stage = Stage::kHello;
  Peer* peer = nullptr;
  std::shared_ptr<Session> session;
  SessionId wanted_session;
  Nonce dialer_nonce;
  Suite offered = Suite::kAes256Gcm;
  Key transcript;
  std::unique_ptr<Direction> seal, open;
  int64_t keyed_at = 0;
  // Number of the flow on the link or, when idle, of the last one.
  uint32_t number = 0;
  Flow* flow = nullptr;
  // The exit has refused the flow and waits for the entry to end it.
  bool refusing = false;
  uint64_t discarded = 0;
  // Its session was renewed: no further flow.
  bool retiring = false;
  bool used = false;
  // Has the congestion control of a short path, as every socket at first.
  bool short_path = true;
  // A frame waits in `in` because the local side is blocked.
  bool stalled = false;
  int64_t heard_at = 0, idle_since = 0, pinged_at = 0;
  // Bytes sent since the estimate was looked at, by this flow, and by the longest since BBR started over (path.cc).
  uint64_t taught = 0, in_flow = 0, longest = 0;
  int64_t sent_at = 0;
  // Bytes of PAD in the round of training under way, 0 when none is; and when the training began.
  uint32_t training = 0;
  int64_t training_at = 0;
  // Bytes a second of the fastest flow so far, either direction; 1 when only trained.
  uint64_t worth = 0;
  // What the last look of fairness.cc saw, and what it did.
  uint64_t looked_at_bytes = 0, rwnd_limited_before = 0, cap = 0;
  uint32_t delivered_before = 0;
  int64_t looked_at = 0, searched_at = 0;
  // Address it came from; in the count of handshakes by source until it is established.
  std::string source;
  // Has sent since its path was last counted, and what was counted then.
  bool sending = false;
  uint64_t counted_sent = 0, counted_retransmitted = 0;
  // Received and not yet taken: in[begin, end). Only there while needed.
  BufferPool::Buffer in;
  size_t begin = 0, end = 0;
  // Bytes of one DATA frame at most; fairness.cc keeps it in whole segments of the link's own.
  size_t record = WholeSegments(kOrdinarySegment);
  // Sealed and not yet sent: out from sent on.
  std::vector<uint8_t> out;
  size_t sent = 0;
  // Handshake, then discarding after a refusal.
  Timer timer;
  // Instead of a connection: a conversation of a KCP association, for one flow, its frames without tags.
  kcp::Stream* stream = nullptr;
  kcp::Line* line = nullptr;
  // Bytes of a DATA frame still to come, and the beginning of another frame.
  uint32_t data_left = 0;
  std::vector<uint8_t> head;
};

// A UDP socket of the KCP endpoint.
struct DatagramSocket : Pollable {
  DatagramSocket() : Pollable(Kind::kDatagrams) {}
  // When epoll has named it before, and how often in a row that was only just ago.
  int64_t named_at = 0;
  int busy = 0;
  // Not watched: looked at from time to time.
  bool paused = false;
  Timer look;
};

enum class Ended { kNo, kFinished, kReset };
enum class Side { kEntry, kExit };

struct Flow : Pollable {
  Flow() : Pollable(Kind::kFlow) {}

  Side side = Side::kEntry;
  std::shared_ptr<ServiceState> service;
  Link* link = nullptr;
  Open open;
  bool connecting = false;
  // The destination is connected: at the entry by the exit's word.
  bool connected = false;
  // Entry: this end reset it, so that OPENED is not waited for.
  bool left = false;
  bool waiting_link = false;
  bool throttled = false;
  bool granted = false;
  // Our direction and the peer's.
  Ended sent = Ended::kNo, received = Ended::kNo;
  // Decrypted and not yet taken by the local socket.
  std::vector<uint8_t> parked;
  size_t parked_at = 0;
  uint64_t discarded = 0;
  // When it was accepted or its OPEN came, and what it has carried since.
  int64_t begun_at = 0, moved_at = 0;
  uint64_t bytes_in = 0, bytes_out = 0;
  // Microseconds from then to the connection at the exit, 0 before; and how often and how long the limit held it.
  uint64_t open_us = 0, limiter_waits = 0, limiter_wait_us = 0;
  int64_t throttled_at = 0;
  bool reused = false, kept_alive = false;
  // Something urgent has come: recv stops short of it, so that less than was asked for does not mean that there is no more.
  bool urgent = false;
  // The exit's connection has TCP_NODELAY.
  bool no_delay = false;
  // It delays its acknowledgements until its first data has left.
  bool ack_held = false;
  // Waiting for a link, connecting, or discarding after our reset.
  Timer timer;
};

class Loop : private kcp::Owner {
 public:
  explicit Loop(Relay* relay);
  ~Loop();
  void Run();

 private:
  // Bytes one flow or link moves before the others have their turn.
  static constexpr size_t kBudget = 512 * 1024;
  static constexpr size_t kInput = 2 * kMaxFrame;
  static constexpr uint64_t kMostDiscarded = 32 * 1024 * 1024;
  static constexpr int64_t kDiscardUs = 2000 * 1000;
  static constexpr size_t kPongLimit = 256 * 1024;
  static constexpr size_t kMostDialing = 64;
  static constexpr int64_t kYoungUs = 1000 * 1000;
  static constexpr int64_t kOpenedUs = 2000, kOpenedCrowdedUs = 10 * 1000;
  static constexpr int64_t kSilenceUs = 1000 * 1000;

  // loop.cc
  void Dispatch(Pollable* one, uint32_t events);
  void Watch(Pollable* one);
  void Queue(Pollable* one);
  void Bury(Pollable* one);
  void Maintain();

  // configure.cc
  void ObeyAll();
  void Obey(const Limits& limits);
  void Obey(const Configure& config);
  void Obey(const SetSession& session);
  void Obey(const NoSession& none);
  void Obey(const Retire& retire);
  void Obey(const Listen& listen);
  void Obey(const ListenDatagrams& listen);
  void Obey(const StopAccepting&);
  void Obey(const ResetAll&);
  void Obey(const SampleFlows& sample);
  void Obey(const SetPath& path);
  void Update(std::unordered_map<std::string, std::shared_ptr<ServiceState>>* states, const std::vector<Service>& services,
              Side side);

  // Why another flow of this service cannot be had now, or nullptr.
  const char* Full(const ServiceState& service) const;

  // observe.cc
  void NoteOpened(Flow* flow);
  void CountPath(Link* link);
  void CheckFlows();
  std::string DescribeFlow(const Flow& flow) const;

  // accept.cc
  void Accept(Listener* listener);
  void AcceptCaptured(int fd, const sockaddr_storage& from, uint16_t listen_port);
  void AcceptCarrier(int fd, const sockaddr_storage& from);
  void EndHandshake(Link* link);

  // pool.cc
  Peer* PeerOf(const std::string& id);
  void Lease(Peer* peer, Flow* flow);
  Link* TakeIdle(Peer* peer);
  void Offer(Link* link);
  void Refill(Peer* peer);
  void BackOff(Peer* peer);
  void Dial(Peer* peer);
  void CloseIdle(Peer* peer, bool retiring_only);
  void CountPool(Peer* peer);

  // stream_link.cc
  std::shared_ptr<Session> FindSession(const SessionId& id, bool ask) override;
  void OnLineUp(const std::string& peer) override;
  void OnStanding(const std::string& peer, kcp::Standing standing) override;
  void OnStreams(kcp::Line* line) override;
  void OnLineDown(kcp::Line* line, const char* reason) override;
  bool LeaseStream(Peer* peer, Flow* flow);
  Link* MakeStreamLink(kcp::Line* line, kcp::Stream* stream, bool dialer);
  void ReadStream(Link* link);
  size_t ParseStream(Link* link, const uint8_t* bytes, size_t length);
  void WriteStream(Link* link, const uint8_t* bytes, size_t length);
  void CloseStream(Link* link, bool orderly);
  void OnDatagrams(DatagramSocket* socket);
  void Pause(DatagramSocket* socket, int64_t us);
  void WantLines();
  void CountLines();

  // link.cc
  void OnLink(Link* link, uint32_t events);
  void ReadLink(Link* link);
  void DropInput(Link* link);
  // False when the link is closed.
  bool Parse(Link* link);
  bool Step(Link* link, bool* progress);
  void StartHello(Link* link);
  void ContinueHello(Link* link, std::shared_ptr<Session> session);
  void Agree(Link* link, bool dialer_is_initiator, const Nonce& acceptor, Suite suite);
  Suite BestSuite() const { return limits_.aegis != 0 && HasSuite(Suite::kAegis128L) ? Suite::kAegis128L : Suite::kAes256Gcm; }
  bool Confirmed(Link* link, const uint8_t* payload);
  bool OnFrame(Link* link, FrameType type, const uint8_t* payload, size_t length);
  bool OnIdleFrame(Link* link, FrameType type, const uint8_t* payload, size_t length);
  bool OnRefusedFrame(Link* link, FrameType type, const uint8_t* payload, size_t length);
  // Seals behind what waits in `out`; nothing is sent yet.
  void Append(Link* link, FrameType type, const uint8_t* payload, size_t length);
  void AppendRaw(Link* link, const uint8_t* bytes, size_t length);
  void RekeyIfDue(Link* link);
  // Seals and sends the `length` bytes at scratch_ + kHeaderLength, after what waits in `out`.
  void SendScratch(Link* link, size_t length);
  void Flush(Link* link);
  void Release(Link* link);
  void CloseLink(Link* link, const char* reason);
  void TuneCarrier(int fd);
  void NoteCongestionControl(int fd);

  // congestion.cc
  void SetCongestion(int fd, bool short_path);
  void ChooseCongestion(Link* link);

  // path.cc
  void RenewEstimate(Link* link);
  void NoteSent(Link* link, size_t bytes);
  void NoteWorth(Link* link, const Flow* flow);
  void StartTraining(Link* link);
  void TrainRound(Link* link);
  void ContinueTraining(Link* link);

  // fairness.cc
  void ShareFairly();
  void ShareFairly(Peer* peer, const std::vector<Link*>& links);
  void CapRate(Link* link, uint64_t bytes_per_second);

  // dial.cc
  bool HandleOpen(Link* link, const uint8_t* payload, size_t length);
  void Refuse(Link* link, int error);
  bool DataFollows(const Link* link) const;
  int DialDestination(const Service& service, const Open& open, bool data_follows, int* fd);
  int TryDial(const Service& service, const Open& open, bool data_follows, bool keep_port, int* fd);
  void FinishConnect(Flow* flow);
  void SendOpened(Flow* flow);

  // flow.cc
  Flow* BeginFlow(int fd, Side side, std::shared_ptr<ServiceState> service);
  void OnFlow(Flow* flow, uint32_t events);
  void Attach(Flow* flow, Link* link);
  bool OnFlowFrame(Flow* flow, FrameType type, const uint8_t* payload, size_t length);
  void ReadLocal(Flow* flow);
  void ReadAndFlush(Flow* flow);
  void WriteLocal(Flow* flow, const uint8_t* bytes, size_t length);
  void FlushLocal(Flow* flow);
  bool Blocked(const Flow* flow) const { return flow->connecting || !flow->parked.empty(); }
  void ResetFlow(Flow* flow, int error);
  void AbandonWaiting(Flow* flow, const char* why);
  void CloseLocal(Flow* flow, bool reset);
  void ReleaseWhenDone(Flow* flow);
  // The flow is over on both sides.
  void EndFlow(Flow* flow);
  void Throttle(Flow* flow);
  void Grant(ServiceState* service);

  void Now();
  Shared& shared() { return *relay_->shared_; }

  Relay* relay_;
  Limits limits_;
  int epoll_ = -1;
  Pollable wake_{Pollable::Kind::kWake};
  int64_t now_us_ = 0;
  // Before everything that owns a buffer or a Timer: destroyed last.
  BufferPool buffers_{kInput};
  Timers timers_;
  Timer maintenance_, fairness_, counting_;
  std::deque<std::unique_ptr<Timer>> grace_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<std::unique_ptr<DatagramSocket>> datagram_sockets_;
  std::unique_ptr<kcp::Endpoint> endpoint_;
  std::unordered_map<std::string, std::shared_ptr<ServiceState>> entries_, exits_;
  std::unordered_map<uint32_t, std::shared_ptr<ServiceState>> by_mark_;
  std::unordered_map<std::string, std::shared_ptr<Session>> sessions_;
  std::unordered_map<std::string, std::unique_ptr<Peer>> peers_;
  std::unordered_set<Link*> links_;
  std::unordered_set<Flow*> flows_;
  size_t handshakes_ = 0;
  // Most flows since memory was given back.
  size_t peak_flows_ = 0;
  std::unordered_map<std::string, size_t> handshakes_by_source_;
  // Descriptors that links and flows may take together.
  size_t descriptors_ = SIZE_MAX;
  bool accepting_ = true;
  // The last wait has brought many events at once.
  bool crowded_ = false;
  ShortSleeps sleeps_;
  std::vector<Pollable*> ready_;
  std::vector<std::unique_ptr<Pollable>> graveyard_;
  std::unique_ptr<uint8_t[]> scratch_{new uint8_t[kMaxFrame]}, stream_scratch_{new uint8_t[kMaxFrame]};
};

// Shared by the parts.
// A connection of a flow is reset when its descriptor is closed, also by a process that is killed: a FIN would tell a client or a
// server that what it has is all there is. Taken back before a close in order.
void SetResetOnClose(int fd, bool reset);
// With RST, whatever the listener it came from was told (src/engines/tproxy/local-sockets.ts tells it both).
void ResetAndClose(int fd);
int PendingError(int fd);
void SetInt(int fd, int level, int option, int value);
socklen_t ToSockaddr(const Address& address, uint16_t port, sockaddr_storage* out);
void FromSockaddr(const sockaddr_storage& from, Address* address, uint16_t* port);
std::string KeyOf(const SessionId& id);
std::string Hex(const SessionId& id);

}  // namespace arctic::relay
