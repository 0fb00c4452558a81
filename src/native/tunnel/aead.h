// The two AEADs of the tunnel, by the OpenSSL that the node binary exports.
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>

namespace arctic::tunnel {

enum class Aead : uint8_t { kAes256Gcm = 1, kChaCha20Poly1305 = 2 };

constexpr size_t kKeyLength = 32;
constexpr size_t kTagLength = 16;

// Whether this processor has AES instructions.
bool HasAesInstructions();

// One key in one direction. Not for two threads at once. The key is wiped with the object.
class Cipher {
 public:
  Cipher(Aead aead, const uint8_t key[kKeyLength], bool sealing);
  ~Cipher();
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;

  bool ok() const { return context_ != nullptr; }

  // Encrypts `length` bytes in place and writes the tag behind them.
  bool Seal(uint64_t counter, const uint8_t* aad, size_t aad_length, uint8_t* text, size_t length);
  // Decrypts `length` bytes in place; false, with the text spoilt, unless the tag behind them fits.
  bool Open(uint64_t counter, const uint8_t* aad, size_t aad_length, uint8_t* text, size_t length);

 private:
  EVP_CIPHER_CTX* context_ = nullptr;
};

}  // namespace arctic::tunnel
