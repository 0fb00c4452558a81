#include "keys.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

#include <string_view>

namespace arctic::kcp {
namespace {

constexpr uint64_t kMostUnderOneKey = 1u << 24;

void Mac(const Key& key, const uint8_t* bytes, size_t length, uint8_t* out) {
  uint8_t whole[32];
  unsigned written = sizeof whole;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes, length, whole, &written);
  memcpy(out, whole, kMac);
}

void Expand(const Key& secret, std::string_view label, uint8_t* out, size_t length) {
  relay::Hkdf(secret.data(), secret.size(), nullptr, 0, reinterpret_cast<const uint8_t*>(label.data()), label.size(), out, length);
}

// label | r | session id
size_t Info(std::string_view label, bool initiator, const SessionId& id, uint8_t* to) {
  memcpy(to, label.data(), label.size());
  to[label.size()] = initiator ? 1 : 0;
  memcpy(to + label.size() + 1, id.data(), id.size());
  return label.size() + 1 + id.size();
}

void HelloMac(const uint8_t* bytes, const Key& carrier_key, bool initiator, uint8_t* out) {
  SessionId id;
  memcpy(id.data(), bytes + 8, id.size());
  uint8_t info[64];
  const size_t length = Info("arctic v1 kcp hello", initiator, id, info);
  Key key;
  relay::Hkdf(carrier_key.data(), carrier_key.size(), nullptr, 0, info, length, key.data(), key.size());
  Mac(key, bytes, kHelloLength - kMac, out);
  OPENSSL_cleanse(key.data(), key.size());
}

void WelcomeMac(const uint8_t* bytes, const uint8_t* hello, const Secrets& secrets, uint8_t* out) {
  uint8_t transcript[kHelloLength + kWelcomeLength];
  memcpy(transcript, hello, kHelloLength);
  memcpy(transcript + kHelloLength, bytes, kWelcomeLength - kMac);
  Mac(secrets.confirm, transcript, kHelloLength + kWelcomeLength - kMac, out);
}

bool StartsLike(const uint8_t* bytes, Type type) {
  return bytes[0] == static_cast<uint8_t>(type) && bytes[1] == 0 && bytes[2] == 0 && bytes[3] == 0;
}

void NonceOf(const uint8_t* iv, uint64_t counter, uint8_t* nonce) {
  memcpy(nonce, iv, 12);
  Store64(nonce + 4, Load64(nonce + 4) ^ counter);
}

}  // namespace

void EncodeHello(const Hello& hello, const Key& carrier_key, bool initiator, uint8_t* to) {
  Store32(to, static_cast<uint32_t>(Type::kHello) << 24);
  Store32(to + 4, hello.association);
  memcpy(to + 8, hello.session.data(), hello.session.size());
  memcpy(to + 8 + hello.session.size(), hello.nonce.data(), hello.nonce.size());
  HelloMac(to, carrier_key, initiator, to + kHelloLength - kMac);
}

bool PeekHello(const uint8_t* bytes, size_t length, Hello* hello) {
  if (length != kHelloLength || !StartsLike(bytes, Type::kHello)) return false;
  hello->association = Load32(bytes + 4);
  memcpy(hello->session.data(), bytes + 8, hello->session.size());
  memcpy(hello->nonce.data(), bytes + 8 + hello->session.size(), hello->nonce.size());
  return true;
}

bool ProveHello(const uint8_t* bytes, const Key& carrier_key, bool initiator) {
  uint8_t mac[kMac];
  HelloMac(bytes, carrier_key, initiator, mac);
  return CRYPTO_memcmp(mac, bytes + kHelloLength - kMac, kMac) == 0;
}

Secrets::~Secrets() {
  for (Key* key : {&to_acceptor, &to_dialer, &confirm}) OPENSSL_cleanse(key->data(), key->size());
}

void DeriveSecrets(const Key& carrier_key, const SessionId& id, bool initiator, const Nonce& dialer, const Nonce& acceptor,
                   Secrets* secrets) {
  uint8_t info[64], salt[2 * relay::kNonceLength], out[64];
  memcpy(salt, dialer.data(), dialer.size());
  memcpy(salt + dialer.size(), acceptor.data(), acceptor.size());
  size_t length = Info("arctic v1 kcp association", initiator, id, info);
  relay::Hkdf(carrier_key.data(), carrier_key.size(), salt, sizeof salt, info, length, out, sizeof out);
  memcpy(secrets->to_acceptor.data(), out, 32);
  memcpy(secrets->to_dialer.data(), out + 32, 32);
  length = Info("arctic v1 kcp confirm", initiator, id, info);
  relay::Hkdf(carrier_key.data(), carrier_key.size(), salt, sizeof salt, info, length, secrets->confirm.data(), 32);
  OPENSSL_cleanse(out, sizeof out);
}

void EncodeWelcome(const Welcome& welcome, const uint8_t* hello, const Secrets& secrets, uint8_t* to) {
  Store32(to, static_cast<uint32_t>(Type::kWelcome) << 24);
  Store32(to + 4, welcome.dialer);
  Store32(to + 8, welcome.acceptor);
  memcpy(to + 12, welcome.nonce.data(), welcome.nonce.size());
  WelcomeMac(to, hello, secrets, to + kWelcomeLength - kMac);
}

bool PeekWelcome(const uint8_t* bytes, size_t length, Welcome* welcome) {
  if (length != kWelcomeLength || !StartsLike(bytes, Type::kWelcome)) return false;
  welcome->dialer = Load32(bytes + 4);
  welcome->acceptor = Load32(bytes + 8);
  memcpy(welcome->nonce.data(), bytes + 12, welcome->nonce.size());
  return true;
}

bool ProveWelcome(const uint8_t* bytes, const uint8_t* hello, const Secrets& secrets) {
  uint8_t mac[kMac];
  WelcomeMac(bytes, hello, secrets, mac);
  return CRYPTO_memcmp(mac, bytes + kWelcomeLength - kMac, kMac) == 0;
}

DatagramKey::DatagramKey(const Key& secret, bool sealing) : secret_(secret), context_(EVP_CIPHER_CTX_new()) {
  Key key;
  Expand(secret_, "arctic v1 kcp key", key.data(), key.size());
  Expand(secret_, "arctic v1 kcp iv", iv_, sizeof iv_);
  EVP_CipherInit_ex(context_, EVP_aes_256_gcm(), nullptr, key.data(), iv_, sealing ? 1 : 0);
  OPENSSL_cleanse(key.data(), key.size());
}

DatagramKey::~DatagramKey() {
  EVP_CIPHER_CTX_free(context_);
  OPENSSL_cleanse(secret_.data(), secret_.size());
}

Key DatagramKey::NextSecret() const {
  Key next;
  Expand(secret_, "arctic v1 kcp next", next.data(), next.size());
  return next;
}

bool DatagramKey::Seal(uint64_t counter, uint8_t* datagram, size_t text) {
  uint8_t nonce[12], *at = datagram + kHeader;
  NonceOf(iv_, counter, nonce);
  int written = 0;
  return EVP_EncryptInit_ex(context_, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_EncryptUpdate(context_, nullptr, &written, datagram, kHeader) == 1 &&
         (text == 0 || EVP_EncryptUpdate(context_, at, &written, at, static_cast<int>(text)) == 1) &&
         EVP_EncryptFinal_ex(context_, at + text, &written) == 1 &&
         EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_GCM_GET_TAG, kTag, at + text) == 1;
}

bool DatagramKey::Open(uint64_t counter, uint8_t* datagram, size_t text) {
  uint8_t nonce[12], *at = datagram + kHeader, rest[16];
  NonceOf(iv_, counter, nonce);
  int written = 0;
  // EVP_DecryptFinal_ex compares the tag in constant time.
  return EVP_DecryptInit_ex(context_, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_GCM_SET_TAG, kTag, at + text) == 1 &&
         EVP_DecryptUpdate(context_, nullptr, &written, datagram, kHeader) == 1 &&
         (text == 0 || EVP_DecryptUpdate(context_, at, &written, at, static_cast<int>(text)) == 1) &&
         EVP_DecryptFinal_ex(context_, rest, &written) == 1;
}

bool Sealer::Seal(DatagramHeader header, uint8_t* datagram, size_t text) {
  if (sealed_ >= kMostUnderOneKey) return false;
  sealed_ += 1;
  header.epoch = epoch_;
  EncodeHeader(header, datagram);
  return key_->Seal(header.counter, datagram, text);
}

void Sealer::Rekey() {
  Key next = key_->NextSecret();
  key_ = std::make_unique<DatagramKey>(next, true);
  OPENSSL_cleanse(next.data(), next.size());
  epoch_ = static_cast<uint8_t>(epoch_ + 1);
  sealed_ = 0;
}

Opener::Opener(const Key& secret) : current_(std::make_unique<DatagramKey>(secret, false)) {
  Key next = current_->NextSecret();
  next_ = std::make_unique<DatagramKey>(next, false);
  OPENSSL_cleanse(next.data(), next.size());
}

bool Opener::Open(const DatagramHeader& header, uint8_t* datagram, size_t text, int64_t now_us) {
  const bool control = (header.counter & kControlBit) != 0;
  const uint64_t number = header.counter & ~kControlBit;
  tunnel::ReplayWindow& window = control ? control_ : data_;
  if (!window.MayAccept(number)) return false;
  if (previous_ != nullptr && now_us - changed_at_ > kStragglersUs) previous_.reset();
  const uint8_t ahead = static_cast<uint8_t>(header.epoch - epoch_);
  DatagramKey* key = ahead == 0 ? current_.get() : ahead == 1 ? next_.get() : ahead == 255 ? previous_.get() : nullptr;
  if (key == nullptr || !key->Open(header.counter, datagram, text)) return false;
  window.Accept(number);
  if (ahead == 1) {
    previous_ = std::move(current_);
    current_ = std::move(next_);
    Key next = current_->NextSecret();
    next_ = std::make_unique<DatagramKey>(next, false);
    OPENSSL_cleanse(next.data(), next.size());
    epoch_ = header.epoch;
    changed_at_ = now_us;
  }
  return true;
}

}  // namespace arctic::kcp
