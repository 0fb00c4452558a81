#include "keys.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

#include <string_view>

#include "../tunnel/aegis128l.h"

namespace arctic::kcp {
namespace {

constexpr uint64_t kMostUnderOneKey = 1u << 24;
// Bytes at the end of HELLO's nonce.
constexpr size_t kOffer = 8;

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

// Under a key of its own for `label`.
void LabelledMac(std::string_view label, const Key& carrier_key, bool initiator, const SessionId& id, const uint8_t* bytes,
                 size_t bytes_length, uint8_t* out) {
  uint8_t info[64];
  const size_t length = Info(label, initiator, id, info);
  Key key;
  relay::Hkdf(carrier_key.data(), carrier_key.size(), nullptr, 0, info, length, key.data(), key.size());
  Mac(key, bytes, bytes_length, out);
  OPENSSL_cleanse(key.data(), key.size());
}

void HelloMac(const uint8_t* bytes, const Key& carrier_key, bool initiator, uint8_t* out) {
  SessionId id;
  memcpy(id.data(), bytes + 8, id.size());
  LabelledMac("arctic v1 kcp hello", carrier_key, initiator, id, bytes, kHelloLength - kMac, out);
}

void OfferMac(const Key& carrier_key, bool initiator, const SessionId& id, const Nonce& nonce, uint8_t* out) {
  LabelledMac("arctic v1 kcp aegis offer", carrier_key, initiator, id, nonce.data(), nonce.size() - kOffer, out);
}

void WelcomeMac(const uint8_t* bytes, const uint8_t* hello, const Secrets& secrets, uint8_t* out) {
  uint8_t transcript[kHelloLength + kWelcomeLength];
  memcpy(transcript, hello, kHelloLength);
  memcpy(transcript + kHelloLength, bytes, kWelcomeLength - kMac);
  Mac(secrets.confirm, transcript, kHelloLength + kWelcomeLength - kMac, out);
}

bool StartsLike(const uint8_t* bytes, Type type) {
  return bytes[0] == static_cast<uint8_t>(type) && bytes[1] == 0 && bytes[2] == 0;
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
  if (length != kHelloLength || !StartsLike(bytes, Type::kHello) || bytes[3] != 0) return false;
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

void OfferAegis(const Key& carrier_key, bool initiator, const SessionId& id, Nonce* nonce) {
  uint8_t mac[kMac];
  OfferMac(carrier_key, initiator, id, *nonce, mac);
  memcpy(nonce->data() + nonce->size() - kOffer, mac, kOffer);
}

bool OffersAegis(const Key& carrier_key, bool initiator, const SessionId& id, const Nonce& nonce) {
  uint8_t mac[kMac];
  OfferMac(carrier_key, initiator, id, nonce, mac);
  return CRYPTO_memcmp(mac, nonce.data() + nonce.size() - kOffer, kOffer) == 0;
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
  // Nothing but zeros for a dialer that has offered nothing.
  Store32(to, static_cast<uint32_t>(Type::kWelcome) << 24 | (welcome.suite == Suite::kAegis128L ? 1 : 0));
  Store32(to + 4, welcome.dialer);
  Store32(to + 8, welcome.acceptor);
  memcpy(to + 12, welcome.nonce.data(), welcome.nonce.size());
  WelcomeMac(to, hello, secrets, to + kWelcomeLength - kMac);
}

bool PeekWelcome(const uint8_t* bytes, size_t length, Welcome* welcome) {
  if (length != kWelcomeLength || !StartsLike(bytes, Type::kWelcome) || bytes[3] > 1) return false;
  welcome->suite = bytes[3] == 1 ? Suite::kAegis128L : Suite::kAes256Gcm;
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

DatagramKey::DatagramKey(const Key& secret, bool sealing, Suite suite) : sealing_(sealing), suite_(suite), secret_(secret) {
  if (suite == Suite::kAegis128L) {
    Expand(secret_, "arctic v1 kcp aegis key", aegis_key_, sizeof aegis_key_);
    Expand(secret_, "arctic v1 kcp aegis iv", iv_, 16);
    return;
  }
  Key key;
  Expand(secret_, "arctic v1 kcp key", key.data(), key.size());
  Expand(secret_, "arctic v1 kcp iv", iv_, 12);
  context_ = EVP_CIPHER_CTX_new();
  EVP_CipherInit_ex(context_, EVP_aes_256_gcm(), nullptr, key.data(), iv_, sealing ? 1 : 0);
  OPENSSL_cleanse(key.data(), key.size());
}

DatagramKey::~DatagramKey() {
  EVP_CIPHER_CTX_free(context_);
  OPENSSL_cleanse(secret_.data(), secret_.size());
  OPENSSL_cleanse(aegis_key_, sizeof aegis_key_);
}

std::unique_ptr<DatagramKey> DatagramKey::Next() const {
  Key next;
  Expand(secret_, "arctic v1 kcp next", next.data(), next.size());
  auto key = std::make_unique<DatagramKey>(next, sealing_, suite_);
  OPENSSL_cleanse(next.data(), next.size());
  return key;
}

void DatagramKey::NonceOf(uint64_t counter, uint8_t* nonce) const {
  const size_t length = suite_ == Suite::kAegis128L ? 16 : 12;
  memcpy(nonce, iv_, length);
  uint8_t* last = nonce + length - 8;
  Store64(last, Load64(last) ^ counter);
}

bool DatagramKey::Seal(uint64_t counter, uint8_t* datagram, size_t text) {
  uint8_t nonce[16], *at = datagram + kHeader;
  NonceOf(counter, nonce);
  return suite_ == Suite::kAegis128L ? tunnel::AegisSeal(aegis_key_, nonce, datagram, kHeader, at, text, at + text)
                                     : SealGcm(nonce, datagram, text);
}

bool DatagramKey::Open(uint64_t counter, uint8_t* datagram, size_t text) {
  uint8_t nonce[16], *at = datagram + kHeader;
  NonceOf(counter, nonce);
  // Both compare the tag in constant time.
  return suite_ == Suite::kAegis128L ? tunnel::AegisOpen(aegis_key_, nonce, datagram, kHeader, at, text, at + text)
                                     : OpenGcm(nonce, datagram, text);
}

bool DatagramKey::SealGcm(const uint8_t* nonce, uint8_t* datagram, size_t text) {
  uint8_t* at = datagram + kHeader;
  int written = 0;
  return EVP_EncryptInit_ex(context_, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_EncryptUpdate(context_, nullptr, &written, datagram, kHeader) == 1 &&
         (text == 0 || EVP_EncryptUpdate(context_, at, &written, at, static_cast<int>(text)) == 1) &&
         EVP_EncryptFinal_ex(context_, at + text, &written) == 1 &&
         EVP_CIPHER_CTX_ctrl(context_, EVP_CTRL_GCM_GET_TAG, kTag, at + text) == 1;
}

bool DatagramKey::OpenGcm(const uint8_t* nonce, uint8_t* datagram, size_t text) {
  uint8_t *at = datagram + kHeader, rest[16];
  int written = 0;
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
  key_ = key_->Next();
  epoch_ = static_cast<uint8_t>(epoch_ + 1);
  sealed_ = 0;
}

Opener::Opener(const Key& secret, Suite suite)
    : current_(std::make_unique<DatagramKey>(secret, false, suite)), next_(current_->Next()) {}

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
    next_ = current_->Next();
    epoch_ = header.epoch;
    changed_at_ = now_us;
  }
  return true;
}

}  // namespace arctic::kcp
