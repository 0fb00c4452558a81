// Handshake and key schedule of an association (ops/docs/carrier-format.md). Carrier keys, session ids and nonces are
// those of the TCP links; labels differ, so no key is ever shared with one.
#pragma once

#include <openssl/evp.h>

#include <memory>

#include "../relay/link_keys.h"
#include "../tunnel/replay.h"
#include "datagram.h"

namespace arctic::kcp {

using relay::Key;
using relay::Nonce;
using relay::SessionId;

constexpr size_t kMac = 16;
constexpr size_t kHelloLength = 8 + relay::kSessionIdLength + relay::kNonceLength + kMac;
constexpr size_t kWelcomeLength = 12 + relay::kNonceLength + kMac;

struct Hello {
  // The dialer's name for the association.
  uint32_t association = 0;
  SessionId session{};
  Nonce nonce{};
};

struct Welcome {
  uint32_t dialer = 0, acceptor = 0;
  Nonce nonce{};
};

// `initiator`: the dialer of the association is the initiator of the session.
void EncodeHello(const Hello& hello, const Key& carrier_key, bool initiator, uint8_t* to);
// Which session it names, before it is believed. False when it cannot be a HELLO.
bool PeekHello(const uint8_t* bytes, size_t length, Hello* hello);
// Whether it was made by one who has the key. In constant time.
bool ProveHello(const uint8_t* bytes, const Key& carrier_key, bool initiator);

// A secret for each direction, and one that proves WELCOME.
struct Secrets {
  Key to_acceptor, to_dialer, confirm;
  ~Secrets();
};
void DeriveSecrets(const Key& carrier_key, const SessionId& id, bool initiator, const Nonce& dialer, const Nonce& acceptor,
                   Secrets* secrets);

// `hello` are the kHelloLength bytes that it answers.
void EncodeWelcome(const Welcome& welcome, const uint8_t* hello, const Secrets& secrets, uint8_t* to);
bool PeekWelcome(const uint8_t* bytes, size_t length, Welcome* welcome);
bool ProveWelcome(const uint8_t* bytes, const uint8_t* hello, const Secrets& secrets);

// One key of one direction; the next comes from the same secret and cannot be traced back.
class DatagramKey {
 public:
  DatagramKey(const Key& secret, bool sealing);
  ~DatagramKey();
  DatagramKey(const DatagramKey&) = delete;
  DatagramKey& operator=(const DatagramKey&) = delete;

  // In place behind the header, the tag behind the text. A counter must not come twice.
  bool Seal(uint64_t counter, uint8_t* datagram, size_t text);
  bool Open(uint64_t counter, uint8_t* datagram, size_t text);
  Key NextSecret() const;

 private:
  Key secret_;
  uint8_t iv_[12];
  EVP_CIPHER_CTX* context_;
};

class Sealer {
 public:
  explicit Sealer(const Key& secret) : key_(std::make_unique<DatagramKey>(secret, true)) {}
  // Writes the header, too. Counts datagrams under the key in force.
  bool Seal(DatagramHeader header, uint8_t* datagram, size_t text);
  void Rekey();
  uint64_t sealed() const { return sealed_; }

 private:
  std::unique_ptr<DatagramKey> key_;
  uint8_t epoch_ = 0;
  uint64_t sealed_ = 0;
};

// Follows the sender's changes of key, keeps the last one for stragglers, and lets no datagram pass twice.
class Opener {
 public:
  explicit Opener(const Key& secret);
  // The text behind the header is decrypted in place; false for anything forged, repeated or too old.
  bool Open(const DatagramHeader& header, uint8_t* datagram, size_t text, int64_t now_us);
  uint64_t highest() const { return data_.highest(); }
  // Datagrams the peer has sent, as far as is known here.
  uint64_t expected() const { return data_.highest() + control_.highest(); }

 private:
  static constexpr int64_t kStragglersUs = 5'000'000;
  std::unique_ptr<DatagramKey> current_, next_, previous_;
  uint8_t epoch_ = 0;
  int64_t changed_at_ = 0;
  tunnel::ReplayWindow data_, control_;
};

}  // namespace arctic::kcp
