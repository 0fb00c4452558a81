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

void EncodeHello(const SessionId& id, const Nonce& nonce, uint8_t* bytes);
bool DecodeHello(const uint8_t* bytes, SessionId* id, Nonce* nonce);
void EncodeWelcome(const Nonce& nonce, uint8_t* bytes);
bool DecodeWelcome(const uint8_t* bytes, Nonce* nonce);

struct Secrets {
  Key to_acceptor, to_dialer, transcript;
  ~Secrets();
};

void DeriveSecrets(const SessionId& id, const Key& key, bool dialer_is_initiator, const Nonce& dialer, const Nonce& acceptor,
                   Secrets* secrets);

// One direction of a link: key, IV and counter. A nonce is used once because the counter only moves on, and a key ends
// with its counter (kHardLimit).
class Direction {
 public:
  enum class Use { kSeal, kOpen };
  Direction(const Key& secret, Use use);
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

  Key secret_;
  uint8_t iv_[12];
  uint64_t counter_ = 0;
  Use use_;
  EVP_CIPHER_CTX* context_;
};

}  // namespace arctic::relay
