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
using relay::Suite;

constexpr size_t kMac = 16;
constexpr size_t kHelloLength = 8 + relay::kSessionIdLength + relay::kNonceLength + kMac;
constexpr size_t kWelcomeLength = 12 + relay::kNonceLength + kMac;

struct Hello {
  // The dialer's name for the association.
  uint32_t association = 0;
  SessionId session{};
  Nonce nonce{};
};

// A dialer that has AEGIS-128L says so inside its nonce, where an acceptor that knows nothing of it sees random bytes: the
// last 8 are a MAC of the others under HELLO's key. The other 24 stay random.
void OfferAegis(const Key& carrier_key, bool initiator, const SessionId& id, Nonce* nonce);
bool OffersAegis(const Key& carrier_key, bool initiator, const SessionId& id, const Nonce& nonce);

struct Welcome {
  uint32_t dialer = 0, acceptor = 0;
  Nonce nonce{};
  // What both seal with; AEGIS-128L only when HELLO offers it.
  Suite suite = Suite::kAes256Gcm;
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
  DatagramKey(const Key& secret, bool sealing, Suite suite);
  ~DatagramKey();
  DatagramKey(const DatagramKey&) = delete;
  DatagramKey& operator=(const DatagramKey&) = delete;

  // In place behind the header, the tag behind the text. A counter must not come twice.
  bool Seal(uint64_t counter, uint8_t* datagram, size_t text);
  bool Open(uint64_t counter, uint8_t* datagram, size_t text);
  // The key after this one.
  std::unique_ptr<DatagramKey> Next() const;

 private:
  bool SealGcm(const uint8_t* nonce, uint8_t* datagram, size_t text);
  bool OpenGcm(const uint8_t* nonce, uint8_t* datagram, size_t text);
  // 12 bytes with AES-GCM, 16 with AEGIS; the last 8 are XORed with the counter.
  void NonceOf(uint64_t counter, uint8_t* nonce) const;

  const bool sealing_;
  const Suite suite_;
  Key secret_;
  uint8_t iv_[16];
  uint8_t aegis_key_[16] = {};
  EVP_CIPHER_CTX* context_ = nullptr;
};

class Sealer {
 public:
  Sealer(const Key& secret, Suite suite) : key_(std::make_unique<DatagramKey>(secret, true, suite)) {}
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
  Opener(const Key& secret, Suite suite);
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
