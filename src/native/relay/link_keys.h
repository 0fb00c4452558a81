// Key schedule and sealing of a link (ops/docs/carrier-format.md), on the OpenSSL the node binary exports.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>

#include "frames.h"

namespace arctic::relay {

constexpr size_t kSessionIdLength = 16;
constexpr size_t kNonceLength = 32;
constexpr size_t kHelloLength = 4 + kSessionIdLength + kNonceLength;
constexpr size_t kWelcomeLength = 4 + kNonceLength;

using SessionId = std::array<uint8_t, kSessionIdLength>;
using Key = std::array<uint8_t, 32>;
using Nonce = std::array<uint8_t, kNonceLength>;

// RFC 5869 with SHA-256; `info` has at most 128 bytes, `length` at most 64.
void Hkdf(const uint8_t* ikm, size_t ikm_length, const uint8_t* salt, size_t salt_length, const uint8_t* info,
          size_t info_length, uint8_t* out, size_t length);

// How frames are sealed. A dialer that has AEGIS offers it in HELLO; the acceptor chooses in WELCOME.
enum class Suite : uint8_t { kAes256Gcm = 1, kAegis128L = 2 };

// Whether this host can.
bool HasSuite(Suite suite);

// `best` is what the dialer can and is ready for.
void EncodeHello(const SessionId& id, const Nonce& nonce, Suite best, uint8_t* bytes);
bool DecodeHello(const uint8_t* bytes, SessionId* id, Nonce* nonce, Suite* best);
void EncodeWelcome(const Nonce& nonce, Suite suite, uint8_t* bytes);
bool DecodeWelcome(const uint8_t* bytes, Nonce* nonce, Suite* suite);

struct Secrets {
  Key to_acceptor, to_dialer, transcript;
  ~Secrets();
};

// The transcript is of HELLO and WELCOME as they were sent, so neither offer nor choice can be changed on the way.
void DeriveSecrets(const SessionId& id, const Key& key, bool dialer_is_initiator, const Nonce& dialer, const Nonce& acceptor,
                   Suite offered, Suite chosen, Secrets* secrets);

// One direction of a link: key, IV and counter. A nonce is used once because the counter only moves on, and a key ends
// with its counter (kHardLimit).
class Direction {
 public:
  enum class Use { kSeal, kOpen };
  Direction(const Key& secret, Use use, Suite suite);
  ~Direction();
  Direction(const Direction&) = delete;
  Direction& operator=(const Direction&) = delete;

  // Frames sealed or opened under the key in force.
  uint64_t counter() const { return counter_; }
  // Seals `length` bytes at `frame + kHeaderLength` in place and writes header and tag around them.
  bool Seal(FrameType type, uint8_t* frame, uint32_t length);
  // Opens the payload behind a header of `length` in place; false when the tag does not fit.
  bool OpenFrame(uint8_t* frame, uint32_t length);
  // The old key cannot be had from the new one.
  void Rekey();

 private:
  static constexpr uint64_t kHardLimit = 1u << 22;
  void Install();
  bool NextNonce(uint8_t* nonce);
  bool SealGcm(const uint8_t* nonce, uint8_t* frame, uint32_t length);
  bool OpenGcm(const uint8_t* nonce, uint8_t* frame, uint32_t length);

  Key secret_;
  // 12 bytes of AES-GCM, 16 of AEGIS; the counter goes into the last ones.
  uint8_t iv_[16];
  uint64_t counter_ = 0;
  Use use_;
  Suite suite_;
  EVP_CIPHER_CTX* context_ = nullptr;
  uint8_t aegis_key_[16] = {};
};

}  // namespace arctic::relay
