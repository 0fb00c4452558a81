#include "link_keys.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <string.h>

#include <string_view>

#include "../tunnel/aegis128l.h"

namespace arctic::relay {
namespace {

// Then one digit: the suite.
constexpr char kMagic[3] = {'A', 'R', 'C'};
constexpr size_t kMagicLength = sizeof kMagic + 1;

void EncodeMagic(Suite suite, uint8_t* bytes) {
  memcpy(bytes, kMagic, sizeof kMagic);
  bytes[sizeof kMagic] = static_cast<uint8_t>('0' + static_cast<uint8_t>(suite));
}

bool DecodeMagic(const uint8_t* bytes, Suite* suite) {
  const uint8_t digit = bytes[sizeof kMagic];
  if (memcmp(bytes, kMagic, sizeof kMagic) != 0 || (digit != '1' && digit != '2')) return false;
  *suite = static_cast<Suite>(digit - '0');
  return true;
}

void Hmac(const uint8_t* key, size_t key_length, const uint8_t* data, size_t length, uint8_t* out) {
  unsigned written = 32;
  HMAC(EVP_sha256(), key, static_cast<int>(key_length), data, length, out, &written);
}

void Expand(const Key& secret, std::string_view label, uint8_t* out, size_t length) {
  Hkdf(secret.data(), secret.size(), nullptr, 0, reinterpret_cast<const uint8_t*>(label.data()), label.size(), out, length);
}

}  // namespace

void Hkdf(const uint8_t* ikm, size_t ikm_length, const uint8_t* salt, size_t salt_length, const uint8_t* info,
          size_t info_length, uint8_t* out, size_t length) {
  static constexpr uint8_t kNoSalt[32] = {};
  uint8_t prk[32];
  Hmac(salt_length == 0 ? kNoSalt : salt, salt_length == 0 ? sizeof kNoSalt : salt_length, ikm, ikm_length, prk);
  uint8_t block[32], input[32 + 128 + 1];
  size_t previous = 0;
  for (uint8_t round = 1; length > 0; round += 1) {
    memcpy(input, block, previous);
    memcpy(input + previous, info, info_length);
    input[previous + info_length] = round;
    Hmac(prk, sizeof prk, input, previous + info_length + 1, block);
    previous = sizeof block;
    const size_t take = length < sizeof block ? length : sizeof block;
    memcpy(out, block, take);
    out += take;
    length -= take;
  }
  OPENSSL_cleanse(prk, sizeof prk);
  OPENSSL_cleanse(block, sizeof block);
  OPENSSL_cleanse(input, sizeof input);
}

bool HasSuite(Suite suite) { return suite == Suite::kAes256Gcm || tunnel::HasAegis(); }

void EncodeHello(const SessionId& id, const Nonce& nonce, Suite best, uint8_t* bytes) {
  EncodeMagic(best, bytes);
  memcpy(bytes + kMagicLength, id.data(), id.size());
  memcpy(bytes + kMagicLength + id.size(), nonce.data(), nonce.size());
}

bool DecodeHello(const uint8_t* bytes, SessionId* id, Nonce* nonce, Suite* best) {
  if (!DecodeMagic(bytes, best)) return false;
  memcpy(id->data(), bytes + kMagicLength, id->size());
  memcpy(nonce->data(), bytes + kMagicLength + id->size(), nonce->size());
  return true;
}

void EncodeWelcome(const Nonce& nonce, Suite suite, uint8_t* bytes) {
  EncodeMagic(suite, bytes);
  memcpy(bytes + kMagicLength, nonce.data(), nonce.size());
}

bool DecodeWelcome(const uint8_t* bytes, Nonce* nonce, Suite* suite) {
  if (!DecodeMagic(bytes, suite)) return false;
  memcpy(nonce->data(), bytes + kMagicLength, nonce->size());
  return true;
}

Secrets::~Secrets() {
  OPENSSL_cleanse(to_acceptor.data(), to_acceptor.size());
  OPENSSL_cleanse(to_dialer.data(), to_dialer.size());
}

void DeriveSecrets(const SessionId& id, const Key& key, bool dialer_is_initiator, const Nonce& dialer, const Nonce& acceptor,
                   Suite offered, Suite chosen, Secrets* secrets) {
  constexpr std::string_view kLabel = "arctic v1 carrier link";
  uint8_t info[kLabel.size() + 1 + kSessionIdLength];
  memcpy(info, kLabel.data(), kLabel.size());
  info[kLabel.size()] = dialer_is_initiator ? 1 : 0;
  memcpy(info + kLabel.size() + 1, id.data(), id.size());
  uint8_t salt[2 * kNonceLength], out[64];
  memcpy(salt, dialer.data(), kNonceLength);
  memcpy(salt + kNonceLength, acceptor.data(), kNonceLength);
  Hkdf(key.data(), key.size(), salt, sizeof salt, info, sizeof info, out, sizeof out);
  memcpy(secrets->to_acceptor.data(), out, 32);
  memcpy(secrets->to_dialer.data(), out + 32, 32);
  OPENSSL_cleanse(out, sizeof out);
  uint8_t first[kHelloLength + kWelcomeLength];
  EncodeHello(id, dialer, offered, first);
  EncodeWelcome(acceptor, chosen, first + kHelloLength);
  SHA256(first, sizeof first, secrets->transcript.data());
}

Direction::Direction(const Key& secret, Use use, Suite suite) : secret_(secret), use_(use), suite_(suite) {
  if (suite == Suite::kAes256Gcm) context_ = EVP_CIPHER_CTX_new();
  Install();
}

Direction::~Direction() {
  EVP_CIPHER_CTX_free(context_);
  OPENSSL_cleanse(secret_.data(), secret_.size());
  OPENSSL_cleanse(aegis_key_, sizeof aegis_key_);
}

void Direction::Install() {
  counter_ = 0;
  if (suite_ == Suite::kAegis128L) {
    Expand(secret_, "arctic v1 carrier aegis key", aegis_key_, sizeof aegis_key_);
    Expand(secret_, "arctic v1 carrier aegis iv", iv_, 16);
    return;
  }
  Key key;
  Expand(secret_, "arctic v1 carrier key", key.data(), key.size());
  Expand(secret_, "arctic v1 carrier iv", iv_, 12);
  EVP_CipherInit_ex(context_, EVP_aes_256_gcm(), nullptr, key.data(), iv_, use_ == Use::kSeal ? 1 : 0);
  OPENSSL_cleanse(key.data(), key.size());
}

void Direction::Rekey() {
  Key next;
  Expand(secret_, "arctic v1 carrier next", next.data(), next.size());
  secret_ = next;
  OPENSSL_cleanse(next.data(), next.size());
  Install();
}

bool Direction::NextNonce(uint8_t* nonce) {
  if (counter_ >= kHardLimit) return false;
  const size_t length = suite_ == Suite::kAegis128L ? 16 : 12;
  memcpy(nonce, iv_, length);
  Store32(nonce + length - 4, Load32(nonce + length - 4) ^ static_cast<uint32_t>(counter_));
  counter_ += 1;
  return true;
}

bool Direction::Seal(FrameType type, uint8_t* frame, uint32_t length) {
  EncodeHeader(type, length, frame);
  uint8_t nonce[16];
  uint8_t* payload = frame + kHeaderLength;
  const bool sealed = NextNonce(nonce) && (suite_ == Suite::kAegis128L
                                               ? tunnel::AegisSeal(aegis_key_, nonce, frame, kHeaderLength, payload, length,
                                                                   payload + length)
                                               : SealGcm(nonce, frame, length));
  if (sealed && type == FrameType::kRekey) Rekey();
  return sealed;
}

bool Direction::SealGcm(const uint8_t* nonce, uint8_t* frame, uint32_t length) {
  int written = 0;
  uint8_t* payload = frame + kHeaderLength;
  return EVP_EncryptInit_ex(context_, nullptr, nullptr, nullptr, nonce) == 1 &&
                      EVP_EncryptUpdate(context_, nullptr, &written, frame, kHeaderLength) == 1 &&
                      (length == 0 || EVP_EncryptUpdate(context_, payload, &written, payload, static_cast<int>(length)) == 1) &&
                      EVP_EncryptFinal_ex(context_, payload + length, &written) == 1 &&
                      EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_GCM_GET_TAG, kTagLength, payload + length) == 1;
}

bool Direction::OpenFrame(uint8_t* frame, uint32_t length) {
  uint8_t nonce[16];
  uint8_t* payload = frame + kHeaderLength;
  // Both compare the tag in constant time.
  const bool opened = NextNonce(nonce) && (suite_ == Suite::kAegis128L
                                               ? tunnel::AegisOpen(aegis_key_, nonce, frame, kHeaderLength, payload, length,
                                                                   payload + length)
                                               : OpenGcm(nonce, frame, length));
  if (opened && frame[0] == static_cast<uint8_t>(FrameType::kRekey)) Rekey();
  return opened;
}

bool Direction::OpenGcm(const uint8_t* nonce, uint8_t* frame, uint32_t length) {
  int written = 0;
  uint8_t* payload = frame + kHeaderLength;
  return EVP_DecryptInit_ex(context_, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_DecryptUpdate(context_, nullptr, &written, frame, kHeaderLength) == 1 &&
         (length == 0 || EVP_DecryptUpdate(context_, payload, &written, payload, static_cast<int>(length)) == 1) &&
         EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_GCM_SET_TAG, kTagLength, payload + length) == 1 &&
         EVP_DecryptFinal_ex(context_, payload + length, &written) == 1;
}

}  // namespace arctic::relay
