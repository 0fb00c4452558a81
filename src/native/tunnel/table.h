// What the two threads work by: an immutable table made from an encoded snapshot. What has a state of its own (keys with their
// counters and windows, endpoints, totals) is shared between successive tables, so a change of the table resets nothing.
#pragma once

#include <netinet/in.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "aead.h"
#include "policy.h"
#include "replay.h"
#include "shaper.h"

namespace arctic::tunnel {

// Past this counter a key sends nothing more. TypeScript renews keys long before.
constexpr uint64_t kLastCounter = uint64_t{1} << 60;

// A TUN device's queue; its own descriptor, so that the opener may close theirs.
class TunQueue {
 public:
  explicit TunQueue(int fd) : fd_(fd) {}
  ~TunQueue();
  TunQueue(const TunQueue&) = delete;
  TunQueue& operator=(const TunQueue&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

// The key of one direction. Only the egress thread seals; only the ingress thread opens. Each AEAD has its own key of it, and all
// count on with one counter.
class SendKey {
 public:
  SendKey(Aead aead, uint32_t index, const uint8_t key[kKeyLength], const uint8_t aegis_key[kKeyLength])
      : aead(aead), index(index), cipher(aead, key, true), aegis(Aead::kAegis128L, aegis_key, true) {}
  // What every peer opens; AEGIS is for one that says it can.
  const Aead aead;
  const uint32_t index;
  Cipher cipher;
  Cipher aegis;
  // Datagrams sealed; the last counter used.
  std::atomic<uint64_t> sent{0};
};

class ReceiveKey {
 public:
  // Keys in the order of Aead.
  ReceiveKey(uint32_t index, const uint8_t keys[kAeads][kKeyLength]);
  ~ReceiveKey();
  ReceiveKey(const ReceiveKey&) = delete;
  ReceiveKey& operator=(const ReceiveKey&) = delete;

  // The sender chooses the AEAD; its context is made at first use. Null when this host cannot.
  Cipher* Of(Aead aead);

  const uint32_t index;
  ReplayWindow window;
  std::atomic<uint64_t> received{0};

 private:
  uint8_t keys_[kAeads][kKeyLength];
  std::unique_ptr<Cipher> ciphers_[kAeads];
};

struct Totals {
  std::atomic<uint64_t> sent_packets{0}, sent_bytes{0}, sent_datagrams{0}, sent_wire_bytes{0};
  // Read from the TUN device and not sent: no key or endpoint, the socket refused, the shaper's queue was full.
  std::atomic<uint64_t> dropped_unready{0}, dropped_socket{0}, dropped_limit{0};
  std::atomic<uint64_t> received_packets{0}, received_bytes{0}, received_datagrams{0}, received_wire_bytes{0};
  std::atomic<int64_t> lost{0};
  std::atomic<uint64_t> replayed{0}, forged{0}, malformed{0}, refused{0}, congested{0}, undelivered{0};
  // Sends that were larger than the path allows, and TUN devices that failed.
  std::atomic<uint64_t> too_big{0}, tun_faults{0};
};

class Peer {
 public:
  explicit Peer(uint32_t id) : id(id) {}
  const uint32_t id;
  Totals totals;
  std::atomic<bool> keepalive{false};
  // As its newest datagram says.
  std::atomic<bool> opens_aegis{false};

  bool endpoint(sockaddr_in6* to) const {
    std::lock_guard<std::mutex> guard(mutex_);
    *to = endpoint_;
    return endpoint_.sin6_family != 0;
  }
  void set_endpoint(const sockaddr_in6& to) {
    std::lock_guard<std::mutex> guard(mutex_);
    endpoint_ = to;
  }

  // The egress thread's.
  std::unordered_map<uint32_t, Shaper> shapers;

 private:
  mutable std::mutex mutex_;
  sockaddr_in6 endpoint_{};
};

struct PeerEntry {
  std::shared_ptr<Peer> peer;
  // Null: keys are kept, nothing is carried.
  std::shared_ptr<TunQueue> tun;
  std::shared_ptr<const Policy> policy;
  std::shared_ptr<SendKey> send;
  size_t most_text = 0;
  // Bits per second by service.
  std::unordered_map<uint32_t, uint64_t> limits;
};

struct Table {
  struct Receiving {
    std::shared_ptr<ReceiveKey> key;
    uint32_t entry;
  };
  std::vector<PeerEntry> peers;
  // Several keys may have one index by chance; each is tried.
  std::unordered_multimap<uint32_t, Receiving> receiving;
};

// Makes tables. One thread's.
//
// Snapshot (integers little-endian): u32 peers; each
//   u32 id, i32 TUN descriptor or -1, u32 token of the device, u32 policy, u16 largest datagram, u16 zero
//   endpoint: u8 set (0, 1), u8 zero, u16 port, 16 bytes address (IPv4 mapped), u32 scope, u32 token of the endpoint
//   u8 has a sending key; then u32 key id, u32 index, u8 AEAD, 32 bytes, 32 bytes AEGIS
//   u32 receiving keys; each u32 key id, u32 index, 32 bytes AES, 32 bytes ChaCha, 32 bytes AEGIS
//   u32 limits; each u32 service, u64 bits per second
class TableBuilder {
 public:
  // 0 or -errno: -EINVAL for bytes that are no snapshot or change a key that is in use; then nothing has changed.
  int Build(const uint8_t* bytes, size_t length, std::shared_ptr<const Table>* table);
  // False when the bytes are not a policy.
  bool SetPolicy(uint32_t id, const uint8_t* bytes, size_t length);
  void DropPolicy(uint32_t id) { policies_.erase(id); }

  struct Known {
    std::shared_ptr<Peer> peer;
    std::shared_ptr<TunQueue> tun;
    uint32_t tun_token = 0;
    uint32_t endpoint_token = 0;
    std::unordered_map<uint32_t, std::shared_ptr<SendKey>> sending;
    std::unordered_map<uint32_t, std::shared_ptr<ReceiveKey>> receiving;
    // Digest of the counters that were read last; zero before.
    uint64_t read = 0;
  };
  std::unordered_map<uint32_t, Known>& known() { return known_; }

 private:
  std::unordered_map<uint32_t, Known> known_;
  std::unordered_map<uint32_t, std::shared_ptr<const Policy>> policies_;
};

}  // namespace arctic::tunnel
