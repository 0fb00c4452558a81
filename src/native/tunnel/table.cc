#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

#include "datagram.h"
#include "reader.h"

namespace arctic::tunnel {

TunQueue::~TunQueue() { close(fd_); }

ReceiveKey::ReceiveKey(uint32_t index, const uint8_t keys[kAeads][kKeyLength]) : index(index) {
  memcpy(keys_, keys, sizeof keys_);
}

ReceiveKey::~ReceiveKey() { OPENSSL_cleanse(keys_, sizeof keys_); }

Cipher* ReceiveKey::Of(Aead aead) {
  const int slot = static_cast<int>(aead) - 1;
  if (!ciphers_[slot]) ciphers_[slot] = std::make_unique<Cipher>(aead, keys_[slot], false);
  return ciphers_[slot]->ok() ? ciphers_[slot].get() : nullptr;
}

bool TableBuilder::SetPolicy(uint32_t id, const uint8_t* bytes, size_t length) {
  auto policy = Policy::Parse(bytes, length);
  if (!policy) return false;
  policies_[id] = std::move(policy);
  return true;
}

int TableBuilder::Build(const uint8_t* bytes, size_t length, std::shared_ptr<const Table>* table) {
  Reader in(bytes, length);
  auto made = std::make_shared<Table>();
  std::unordered_map<uint32_t, Known> known;
  // Endpoints are set once all is well.
  std::vector<std::pair<std::shared_ptr<Peer>, sockaddr_in6>> endpoints;
  const uint32_t count = in.U32();
  for (uint32_t i = 0; i < count; ++i) {
    PeerEntry entry;
    const uint32_t id = in.U32();
    const int fd = static_cast<int32_t>(in.U32());
    const uint32_t tun_token = in.U32();
    const uint32_t policy = in.U32();
    const uint16_t largest = in.U16();
    const uint16_t zero = in.U16();
    if (!in.ok() || zero != 0 || largest <= kOverhead + kRecordHeader || known.count(id) != 0) return -EINVAL;
    entry.most_text = largest - kOverhead;

    Known now;
    const auto found = known_.find(id);
    const Known* before = found == known_.end() ? nullptr : &found->second;
    now.peer = before ? before->peer : std::make_shared<Peer>(id);
    if (fd >= 0) {
      if (before && before->tun && before->tun_token == tun_token) {
        now.tun = before->tun;
      } else {
        const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0) return -errno;
        now.tun = std::make_shared<TunQueue>(copy);
      }
      now.tun_token = tun_token;
    }
    const auto rules = policies_.find(policy);
    if (rules != policies_.end()) entry.policy = rules->second;
    if (fd >= 0 && !entry.policy) return -EINVAL;

    const uint8_t has_endpoint = in.U8();
    in.U8();
    sockaddr_in6 endpoint{};
    endpoint.sin6_family = AF_INET6;
    endpoint.sin6_port = htons(in.U16());
    in.Copy(&endpoint.sin6_addr, 16);
    endpoint.sin6_scope_id = in.U32();
    now.endpoint_token = in.U32();
    if (has_endpoint != 0 && (before == nullptr || before->endpoint_token != now.endpoint_token))
      endpoints.emplace_back(now.peer, endpoint);

    uint8_t keys[kAeads][kKeyLength];
    bool sound = true;
    if (in.U8() != 0) {
      const uint32_t key_id = in.U32(), index = in.U32();
      const uint8_t aead = in.U8();
      in.Copy(keys[0], kKeyLength);
      in.Copy(keys[1], kKeyLength);
      if (aead != 1 && aead != 2) return -EINVAL;
      if (before) {
        const auto same = before->sending.find(key_id);
        if (same != before->sending.end()) entry.send = same->second;
      }
      if (!entry.send) entry.send = std::make_shared<SendKey>(static_cast<Aead>(aead), index, keys[0], keys[1]);
      sound = entry.send->index == index && entry.send->aead == static_cast<Aead>(aead) && entry.send->cipher.ok();
      now.sending[key_id] = entry.send;
    }
    const uint32_t receiving = in.U32();
    for (uint32_t k = 0; k < receiving && in.ok(); ++k) {
      const uint32_t key_id = in.U32(), index = in.U32();
      for (auto& key : keys) in.Copy(key, kKeyLength);
      std::shared_ptr<ReceiveKey> receive;
      if (before) {
        const auto same = before->receiving.find(key_id);
        if (same != before->receiving.end()) receive = same->second;
      }
      if (!receive) receive = std::make_shared<ReceiveKey>(index, keys);
      sound = sound && receive->index == index && now.receiving.emplace(key_id, receive).second;
      made->receiving.emplace(index, Table::Receiving{receive, i});
    }
    OPENSSL_cleanse(keys, sizeof keys);
    const uint32_t limits = in.U32();
    for (uint32_t k = 0; k < limits && in.ok(); ++k) {
      const uint32_t service = in.U32();
      const uint64_t rate = in.U64();
      if (rate == 0) return -EINVAL;
      entry.limits[service] = rate;
    }
    if (!in.ok() || !sound) return -EINVAL;
    entry.peer = now.peer;
    entry.tun = now.tun;
    made->peers.push_back(std::move(entry));
    known.emplace(id, std::move(now));
  }
  if (!in.ok() || in.left() != 0) return -EINVAL;
  for (const auto& [peer, endpoint] : endpoints) peer->set_endpoint(endpoint);
  known_ = std::move(known);
  *table = std::move(made);
  return 0;
}

}  // namespace arctic::tunnel
