// The AEADs of the tunnel: two by the OpenSSL that the node binary exports, and AEGIS-128L.
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>

namespace arctic::tunnel {

enum class Aead : uint8_t { kAes256Gcm = 1, kChaCha20Poly1305 = 2, kAegis128L = 3 };
constexpr int kAeads = 3;

constexpr size_t kKeyLength = 32;
constexpr size_t kTagLength = 16;

// Whether this processor has AES instructions.
bool HasAesInstructions();

struct Nonce {
  uint8_t bytes[16];
};

// 12 bytes (AEGIS: 16), zeros and the counter, little-endian. One key a direction, so a counter is a nonce.
Nonce NonceOf(Aead aead, uint64_t counter);

// One key in one direction. Not for two threads at once. The key is wiped with the object.
class Cipher {
 public:
  // AEGIS takes the first 16 bytes of the key.
  Cipher(Aead aead, const uint8_t key[kKeyLength], bool sealing);
  ~Cipher();
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;

  // Without it nothing seals or opens: OpenSSL refused, or the processor has no AEGIS.
  bool ok() const { return context_ != nullptr || aegis_; }

  // Encrypts `length` bytes in place and writes the tag behind them.
  bool Seal(const Nonce& nonce, const uint8_t* aad, size_t aad_length, uint8_t* text, size_t length);
  // Decrypts `length` bytes in place; false, with the text spoilt, unless the tag behind them fits.
  bool Open(const Nonce& nonce, const uint8_t* aad, size_t aad_length, uint8_t* text, size_t length);

 private:
  EVP_CIPHER_CTX* context_ = nullptr;
  bool aegis_ = false;
  uint8_t key_[16] = {};
};

}  // namespace arctic::tunnel
