// Handshakes, and the life of lines.
#include "endpoint.h"

#include <openssl/rand.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

namespace arctic::kcp {
namespace {

constexpr int kMostRounds = 8;
constexpr int kMostUnknown = 32;

}  // namespace

Endpoint::~Endpoint() {
  for (auto& [name, line] : lines_) {
    if (line->gone) continue;
    batch_.Clear();
    line->association->Close(*now_us_, &batch_);
    SendBatch(line.get());
  }
  for (const int socket : sockets_) {
    if (socket >= 0) close(socket);
  }
}

void Endpoint::Datagram(uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket) {
  if (length == 0) return;
  if (bytes[0] == static_cast<uint8_t>(Type::kHello)) {
    OnHello(bytes, length, from, from_length, socket);
    return;
  }
  if (bytes[0] == static_cast<uint8_t>(Type::kWelcome)) {
    OnWelcome(bytes, length, from, from_length, socket);
    return;
  }
  DatagramHeader header;
  if (!DecodeHeader(bytes, length, &header)) {
    refused_ += 1;
    return;
  }
  const auto found = lines_.find(header.association);
  if (found == lines_.end()) {
    refused_ += 1;
    return;
  }
  Line* line = found->second.get();
  if (!line->association->Receive(bytes, length, *now_us_)) {
    refused_ += 1;
    return;
  }
  if (!line->confirmed) {
    line->confirmed = true;
    line->timer.Cancel();
    pending_ -= 1;
    // The answer measures the round trip, which the dialer's handshake has told the dialer only.
    line->association->Ping();
  }
  // The peer is where its newest datagram came from.
  if ((header.counter & kControlBit) == 0 && line->association->NewestFrom(header.counter) &&
      (line->to_length != from_length || memcmp(&line->to, &from, from_length) != 0)) {
    memcpy(&line->to, &from, from_length);
    line->to_length = from_length;
    line->socket = socket;
  }
  if (!line->dirty) {
    line->dirty = true;
    dirty_.push_back(line);
  }
  if (heard_.empty() || heard_.back() != line) heard_.push_back(line);
}

void Endpoint::OnHello(const uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket) {
  Hello hello;
  if (!PeekHello(bytes, length, &hello)) {
    refused_ += 1;
    return;
  }
  if (*now_us_ - unknown_since_ > 1'000'000) {
    unknown_since_ = *now_us_;
    unknown_ = 0;
  }
  // Whoever invents sessions has few of them looked up, and cannot keep others from being recognised.
  const std::shared_ptr<Session> session = owner_->FindSession(hello.session, unknown_ < kMostUnknown);
  if (session == nullptr) {
    unknown_ += 1;
    refused_ += 1;
    return;
  }
  // The dialer is the initiator of the session when this host is not.
  const bool initiator = !session->initiator;
  if (session->retired || !ProveHello(bytes, session->key, initiator)) {
    refused_ += 1;
    return;
  }
  size_t waiting = 0;
  for (auto& [name, line] : lines_) {
    if (line->gone || line->session != session || line->association->dialer()) continue;
    if (line->dialer_nonce == hello.nonce) {
      // The answer got lost. One who repeats a HELLO of somebody else gains nothing by hearing it again.
      // The dialer counts on what it is answered now, so its time begins anew: it asks again just when that would be over.
      if (!line->confirmed) AwaitConfirmation(line.get());
      sendto(socket, line->welcome, sizeof line->welcome, 0, reinterpret_cast<const sockaddr*>(&from), from_length);
      return;
    }
    if (!line->confirmed) waiting += 1;
  }
  if (waiting >= kMostPendingOfOne || pending_ >= most_handshakes_) {
    refused_ += 1;
    return;
  }
  Welcome welcome;
  const bool aegis = aegis_ && OffersAegis(session->key, initiator, session->id, hello.nonce);
  welcome.suite = aegis ? Suite::kAegis128L : Suite::kAes256Gcm;
  welcome.dialer = hello.association;
  welcome.acceptor = FreshName();
  RAND_bytes(welcome.nonce.data(), static_cast<int>(welcome.nonce.size()));
  Secrets secrets;
  DeriveSecrets(session->key, session->id, initiator, hello.nonce, welcome.nonce, &secrets);
  Line* line = Add(session, from, from_length, socket, welcome.acceptor);
  line->dialer_nonce = hello.nonce;
  // Its first real round trip tells better; a long guess only means patience.
  line->association = std::make_unique<Association>(false, secrets.to_dialer, secrets.to_acceptor, hello.association, *now_us_,
                                                    200'000, SettingsFor(welcome.suite));
  EncodeWelcome(welcome, bytes, secrets, line->welcome);
  pending_ += 1;
  AwaitConfirmation(line);
  sendto(socket, line->welcome, sizeof line->welcome, 0, reinterpret_cast<const sockaddr*>(&from), from_length);
}

void Endpoint::AwaitConfirmation(Line* line) {
  line->timer.Set(timers_, *now_us_ + handshake_us_, [this, line] {
    if (!line->confirmed) End(line, nullptr);
  });
}

void Endpoint::OnWelcome(const uint8_t* bytes, size_t length, const sockaddr_storage& from, socklen_t from_length, int socket) {
  Welcome welcome;
  Dial* dial = nullptr;
  if (PeekWelcome(bytes, length, &welcome)) {
    for (auto& [id, one] : dials_) {
      if (one->asking && one->name == welcome.dialer) dial = one.get();
    }
  }
  if (dial == nullptr || dial->session == nullptr) {
    refused_ += 1;
    return;
  }
  Secrets secrets;
  DeriveSecrets(dial->session->key, dial->session->id, dial->session->initiator, dial->nonce, welcome.nonce, &secrets);
  // A suite that was not offered is nothing the peer would choose.
  if (!ProveWelcome(bytes, dial->hello, secrets) || (welcome.suite == Suite::kAegis128L && !dial->offered)) {
    refused_ += 1;
    return;
  }
  dial->asking = false;
  dial->timer.Cancel();
  Line* line = Add(dial->session, from, from_length, socket, dial->name);
  line->confirmed = true;
  line->association = std::make_unique<Association>(true, secrets.to_acceptor, secrets.to_dialer, welcome.acceptor, *now_us_,
                                                    *now_us_ - dial->sent_at, SettingsFor(welcome.suite));
  Line* before = dial->up;
  dial->up = line;
  // The first datagram under the keys proves this side to the other.
  line->association->Ping();
  line->association->SetProbing(dial->probed);
  Touch(line);
  if (before != nullptr) {
    before->retiring = true;
    EndWhenEmpty(before);
  }
  SetStanding(dial, Standing::kUp);
  owner_->OnLineUp(dial->peer);
}

Settings Endpoint::SettingsFor(Suite suite) const {
  Settings settings = settings_;
  settings.suite = suite;
  return settings;
}

uint32_t Endpoint::FreshName() {
  for (;;) {
    uint32_t name = 0;
    RAND_bytes(reinterpret_cast<uint8_t*>(&name), sizeof name);
    if (name == 0 || lines_.count(name) > 0) continue;
    const bool dialed = std::any_of(dials_.begin(), dials_.end(), [name](const auto& one) { return one.second->name == name; });
    if (!dialed) return name;
  }
}

Line* Endpoint::Add(std::shared_ptr<Session> session, const sockaddr_storage& to, socklen_t length, int socket, uint32_t name) {
  auto line = std::make_unique<Line>();
  Line* raw = line.get();
  raw->name = name;
  raw->session = std::move(session);
  memcpy(&raw->to, &to, length);
  raw->to_length = length;
  raw->socket = socket;
  lines_.emplace(name, std::move(line));
  return raw;
}

void Endpoint::SetStanding(Dial* dial, Standing standing) {
  if (dial->standing == standing) return;
  dial->standing = standing;
  owner_->OnStanding(dial->peer, standing);
}

void Endpoint::Want(const std::string& peer, const sockaddr_storage& to, socklen_t length, std::shared_ptr<Session> session,
                    bool probed) {
  std::unique_ptr<Dial>& dial = dials_[peer];
  const bool known = dial != nullptr;
  if (!known) {
    dial = std::make_unique<Dial>();
    dial->peer = peer;
  }
  const bool moved = dial->to_length != length || memcmp(&dial->to, &to, length) != 0;
  memcpy(&dial->to, &to, length);
  dial->to_length = length;
  dial->probed = probed;
  if (Line* line = UpTo(peer)) {
    line->association->SetProbing(probed);
    Touch(line);
  }
  if (known && !moved) return;
  if (session != nullptr) dial->session = std::move(session);
  Begin(dial.get());
}

void Endpoint::Renew(const std::string& peer, std::shared_ptr<Session> session) {
  const auto found = dials_.find(peer);
  if (found == dials_.end() || found->second->session == session) return;
  found->second->session = std::move(session);
  Begin(found->second.get());
}

void Endpoint::Unwant(const std::string& peer) {
  const auto found = dials_.find(peer);
  if (found == dials_.end()) return;
  Line* line = found->second->up;
  SetStanding(found->second.get(), Standing::kNone);
  dials_.erase(found);
  if (line == nullptr) return;
  line->retiring = true;
  EndWhenEmpty(line);
}

void Endpoint::Retire(const std::shared_ptr<Session>& session) {
  for (auto& [id, dial] : dials_) {
    if (dial->session == session) Forget(dial.get());
  }
  for (Line* line : LinesOf([&session](const Line& one) { return one.session == session; })) {
    if (!line->association->dialer()) continue;
    // Until the one under the next session is up, this one serves.
    const auto dial = dials_.find(session->peer);
    const bool serves = dial != dials_.end() && dial->second->up == line;
    if (serves && dial->second->session != nullptr) continue;
    if (serves) {
      dial->second->up = nullptr;
      SetStanding(dial->second.get(), Standing::kTrying);
    }
    line->retiring = true;
    EndWhenEmpty(line);
  }
}

void Endpoint::Remove(const std::string& peer) {
  const auto dial = dials_.find(peer);
  if (dial != dials_.end()) Forget(dial->second.get());
  for (Line* line : LinesOf([&peer](const Line& one) { return one.session->peer == peer; })) Leave(line);
}

// Until there is another session nobody is asked.
void Endpoint::Forget(Dial* dial) {
  dial->session = nullptr;
  dial->asking = false;
  dial->timer.Cancel();
}

std::vector<Line*> Endpoint::LinesOf(const std::function<bool(const Line&)>& which) const {
  std::vector<Line*> lines;
  for (const auto& [name, line] : lines_) {
    if (!line->gone && which(*line)) lines.push_back(line.get());
  }
  return lines;
}

void Endpoint::Begin(Dial* dial) {
  dial->timer.Cancel();
  if (SocketFor(dial->to) < 0) {
    SetStanding(dial, Standing::kUnreachable);
    return;
  }
  if (dial->session == nullptr) return;
  dial->name = FreshName();
  RAND_bytes(dial->nonce.data(), static_cast<int>(dial->nonce.size()));
  dial->offered = aegis_;
  if (aegis_) OfferAegis(dial->session->key, dial->session->initiator, dial->session->id, &dial->nonce);
  Hello hello;
  hello.association = dial->name;
  hello.session = dial->session->id;
  hello.nonce = dial->nonce;
  EncodeHello(hello, dial->session->key, dial->session->initiator, dial->hello);
  dial->asking = true;
  dial->attempts = 0;
  dial->began_at = *now_us_;
  if (dial->standing != Standing::kUp && dial->standing != Standing::kUnreachable) SetStanding(dial, Standing::kTrying);
  SayHello(dial);
}

void Endpoint::SayHello(Dial* dial) {
  dial->attempts += 1;
  dial->sent_at = *now_us_;
  sendto(SocketFor(dial->to), dial->hello, sizeof dial->hello, 0, reinterpret_cast<const sockaddr*>(&dial->to), dial->to_length);
  const int64_t wait = dial->attempts < 8 ? std::min<int64_t>(200'000 << dial->attempts / 2, kSlowRetryUs) : kSlowRetryUs;
  dial->timer.Set(timers_, *now_us_ + wait, [this, dial] {
    if (*now_us_ - dial->began_at >= kUnreachableUs && dial->up == nullptr) SetStanding(dial, Standing::kUnreachable);
    SayHello(dial);
  });
}

Line* Endpoint::UpTo(const std::string& peer) {
  const auto found = dials_.find(peer);
  if (found == dials_.end() || found->second->up == nullptr) return nullptr;
  Line* line = found->second->up;
  return line->gone || line->association->dead() ? nullptr : line;
}

void Endpoint::Touch(Line* line) {
  if (line->dirty || line->gone) return;
  line->dirty = true;
  dirty_.push_back(line);
}

void Endpoint::Flush() {
  for (int round = 0; round < kMostRounds && !dirty_.empty(); round += 1) {
    std::vector<Line*> lines;
    lines.swap(dirty_);
    for (Line* line : lines) {
      line->dirty = false;
      if (!line->gone) Pump(line);
    }
  }
  graveyard_.clear();
}

void Endpoint::Pump(Line* line) {
  Association& association = *line->association;
  for (int batches = 0; batches < kMostRounds; batches += 1) {
    batch_.Clear();
    association.Send(*now_us_, &batch_);
    SendBatch(line);
    if (batch_.room() > Batch::kMost / 2) break;
  }
  if (!association.dead()) owner_->OnStreams(line);
  const auto dial = line->retiring ? dials_.find(line->session->peer) : dials_.end();
  const Line* successor = dial == dials_.end() ? nullptr : dial->second->up;
  if (successor != nullptr && association.dialer() && successor->association->Outlives(association)) {
    End(line, "the peer has started again");
    return;
  }
  if (association.dead()) {
    End(line, association.reason());
    return;
  }
  if (line->gone) return;
  EndWhenEmpty(line);
  if (line->gone || !line->confirmed) return;
  const int64_t next = association.NextAt(*now_us_);
  if (next != Association::kNever) {
    line->timer.Set(timers_, std::max(next, *now_us_ + 1), [this, line] { Touch(line); });
  }
}

void Endpoint::EndWhenEmpty(Line* line) {
  if (!line->retiring || line->gone || line->association->streams() > 0) return;
  Leave(line);
}

// Tells the peer, and ends it.
void Endpoint::Leave(Line* line) {
  batch_.Clear();
  line->association->Close(*now_us_, &batch_);
  SendBatch(line);
  End(line, nullptr);
}

// `reason` is for the log; null when this side wanted it so.
void Endpoint::End(Line* line, const char* reason) {
  if (line->gone) return;
  line->gone = true;
  line->timer.Cancel();
  if (!line->confirmed) pending_ -= 1;
  owner_->OnLineDown(line, reason);
  // Timers and lists may name it until the end of the round.
  const auto found = lines_.find(line->name);
  graveyard_.push_back(std::move(found->second));
  lines_.erase(found);
  dirty_.erase(std::remove(dirty_.begin(), dirty_.end(), line), dirty_.end());
  for (auto& [id, dial] : dials_) {
    if (dial->up != line) continue;
    dial->up = nullptr;
    SetStanding(dial.get(), Standing::kTrying);
    if (!dial->asking) Begin(dial.get());
  }
}

}  // namespace arctic::kcp
