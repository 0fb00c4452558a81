#include "aead.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <string.h>

#include <array>

#include "aegis128l.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace arctic::tunnel {
namespace {

// The parameter that EVP_CTRL_AEAD_GET_TAG and _SET_TAG make out of their arguments at every call.
std::array<OSSL_PARAM, 2> TagAt(uint8_t* tag) {
  return {OSSL_PARAM{OSSL_CIPHER_PARAM_AEAD_TAG, OSSL_PARAM_OCTET_STRING, tag, kTagLength, OSSL_PARAM_UNMODIFIED},
          OSSL_PARAM{nullptr, 0, nullptr, 0, 0}};
}

}  // namespace

Nonce NonceOf(Aead aead, uint64_t counter) {
  Nonce nonce{};
  const size_t at = aead == Aead::kAegis128L ? 8 : 4;
  for (size_t i = 0; i < 8; ++i) nonce.bytes[at + i] = static_cast<uint8_t>(counter >> (8 * i));
  return nonce;
}

bool HasAesInstructions() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
  return false;
#endif
}

Cipher::Cipher(Aead aead, const uint8_t key[kKeyLength], bool sealing) {
  if (aead == Aead::kAegis128L) {
    aegis_ = HasAegis();
    if (aegis_) memcpy(key_, key, sizeof key_);
    return;
  }
  const EVP_CIPHER* cipher = aead == Aead::kAes256Gcm ? EVP_aes_256_gcm() : EVP_chacha20_poly1305();
  context_ = EVP_CIPHER_CTX_new();
  if (context_ != nullptr && EVP_CipherInit_ex(context_, cipher, nullptr, key, nullptr, sealing ? 1 : 0) == 1) return;
  EVP_CIPHER_CTX_free(context_);
  context_ = nullptr;
}

// EVP_CIPHER_CTX_free wipes the key schedule.
Cipher::~Cipher() {
  EVP_CIPHER_CTX_free(context_);
  OPENSSL_cleanse(key_, sizeof key_);
}

bool Cipher::Seal(const Nonce& nonce, const uint8_t* aad, size_t aad_length, uint8_t* text, size_t length) {
  if (aegis_) return AegisSeal(key_, nonce.bytes, aad, aad_length, text, length, text + length);
  int written = 0;
  auto tag = TagAt(text + length);
  return EVP_CipherInit_ex2(context_, nullptr, nullptr, nonce.bytes, 1, nullptr) == 1 &&
         EVP_CipherUpdate(context_, nullptr, &written, aad, static_cast<int>(aad_length)) == 1 &&
         EVP_CipherUpdate(context_, text, &written, text, static_cast<int>(length)) == 1 &&
         EVP_CipherFinal_ex(context_, text + length, &written) == 1 &&
         EVP_CIPHER_CTX_get_params(context_, tag.data()) == 1;
}

bool Cipher::Open(const Nonce& nonce, const uint8_t* aad, size_t aad_length, uint8_t* text, size_t length) {
  if (aegis_) return AegisOpen(key_, nonce.bytes, aad, aad_length, text, length, text + length);
  int written = 0;
  uint8_t rest[16];
  const auto tag = TagAt(text + length);
  return EVP_CipherInit_ex2(context_, nullptr, nullptr, nonce.bytes, 0, tag.data()) == 1 &&
         EVP_CipherUpdate(context_, nullptr, &written, aad, static_cast<int>(aad_length)) == 1 &&
         EVP_CipherUpdate(context_, text, &written, text, static_cast<int>(length)) == 1 &&
         EVP_CipherFinal_ex(context_, rest, &written) == 1;
}

}  // namespace arctic::tunnel
