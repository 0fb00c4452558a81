// The two threads: egress reads TUN devices and sends, ingress receives and writes TUN devices. They never enter V8.
#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../short_sleeps.h"
#include "datagram.h"
#include "flows.h"
#include "table.h"

namespace arctic::tunnel {

struct SocketTotals {
  // Datagrams that are none of ours, name no key we hold, or do not open.
  std::atomic<uint64_t> foreign{0}, unknown{0}, forged{0};
};

// Hands the newest table to a thread that looks for it between batches.
class TableSlot {
 public:
  TableSlot();
  ~TableSlot();
  TableSlot(const TableSlot&) = delete;
  TableSlot& operator=(const TableSlot&) = delete;

  void Put(std::shared_ptr<const Table> table);
  void Stop();
  // Wakes the thread without a new table.
  void Wake();
  // True when there is another table than `held`, which then is it. The caller's old one may die with this call.
  bool Take(std::shared_ptr<const Table>* held);
  // Readable when something is to be taken.
  int fd() const { return fd_; }
  void Drain();
  bool stopped() const { return stopped_.load(std::memory_order_acquire); }

 private:
  int fd_;
  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> version_{0};
  uint64_t taken_ = 0;
  std::mutex mutex_;
  std::shared_ptr<const Table> table_;
};

class Egress {
 public:
  Egress(int socket, bool aegis);
  ~Egress();
  void Run();
  TableSlot slot;

 private:
  // What is sent between two looks at the device: enough for a full UDP_SEGMENT send, little enough that small flows hardly wait.
  static constexpr int kMostFrames = 128;
  static constexpr size_t kMostBytes = 60 * 1024;
  // What one visit takes when no other peer has anything to send.
  static constexpr size_t kMostVisit = 1024 * 1024;

  void Adopt();
  // Sends what the device has, up to `budget` bytes of it.
  void Visit(const PeerEntry& entry, size_t budget);
  // Reads until nothing is there or `budget` is used up; what may overtake is sent at once. False when nothing more was there.
  bool Fill(const PeerEntry& entry, size_t* budget);
  void Frame(const PeerEntry& entry, uint8_t* frame, size_t length, bool overtakes);
  void Shape(const PeerEntry& entry, uint64_t now);
  void Flush(const PeerEntry& entry, bool overtakes = false);
  void SendRuns(const PeerEntry& entry, const sockaddr_in6& endpoint);
  void SendSingly(const PeerEntry& entry, const sockaddr_in6& endpoint, size_t first, size_t count);
  int Timeout() const;

  int socket_;
  bool aegis_;
  bool ipv4_only_ = false;
  bool gso_ = true;
  int epoll_ = -1;
  std::shared_ptr<const Table> table_;
  // Places of the peers that have limits.
  std::vector<uint32_t> limited_;
  FrameQueue waiting_;
  ShortSleeps sleeps_;
  Flows flows_;
  Packer packer_;
};

class Ingress : private Receiver {
 public:
  Ingress(int socket, bool aegis, SocketTotals* totals);
  void Run();
  TableSlot slot;

 private:
  static constexpr size_t kBatch = 8;
  static constexpr size_t kBuffer = 65536;
  // Messages that wait for those that may overtake them.
  static constexpr size_t kSlots = 32;
  // What is delivered between two looks at the socket. A TCP frame of 64 KiB comes as two messages, since UDP_SEGMENT takes less;
  // this is room for both, so that they are one frame again: one write, one acknowledgement.
  static constexpr size_t kMostBytes = 120 * 1024;
  // Overtaking messages taken at a time, so that they cannot keep the others waiting for good.
  static constexpr size_t kMostOvertaking = 16;

  // One or more datagrams of one sender, of `segment` bytes each but the last.
  struct Message {
    size_t length, segment;
    uint8_t tos;
    sockaddr_in6 from;
  };

  // Takes what the socket has while there is room, and delivers what may overtake.
  void Receive();
  // Delivers of what waits.
  void Work();
  // Delivers the datagrams of one kind; answers how many are of the other.
  size_t Datagrams(size_t slot, bool overtaking);
  void Datagram(uint8_t* bytes, size_t length, uint8_t tos, const sockaddr_in6& from);
  // Whether it is a datagram of ours under a receiver index we gave; counted when not.
  bool Known(const uint8_t* bytes, size_t length, DatagramHeader* header);
  // Whether it is worth a look at its tag: known, and no replay. Counted when not.
  bool MayOpen(const uint8_t* bytes, size_t length);
  bool MayDeliver(const Packet& packet, const uint8_t* bytes, size_t length) override;
  void Deliver(const iovec* parts, int count, size_t packets, size_t bytes) override;

  ShortSleeps sleeps_;
  int socket_;
  bool aegis_;
  SocketTotals* totals_;
  std::shared_ptr<const Table> table_;
  const PeerEntry* entry_ = nullptr;
  Unpacker unpacker_{this};
  std::vector<uint8_t> buffers_;
  std::array<Message, kSlots> messages_{};
  // The slots that are free, and those that wait in the order of their arrival.
  std::vector<size_t> free_;
  std::deque<size_t> waiting_;
};

// Both threads over one bound UDP socket, of which it holds its own descriptor.
class Loop {
 public:
  // 0 or -errno. `aegis`: offer AEGIS-128L where the processor has it, and take it up.
  int Start(int socket, bool aegis);
  void Stop();
  ~Loop() { Stop(); }

  int Apply(const uint8_t* bytes, size_t length);
  bool SetPolicy(uint32_t id, const uint8_t* bytes, size_t length) { return builder_.SetPolicy(id, bytes, length); }
  void DropPolicy(uint32_t id) { builder_.DropPolicy(id); }
  // An empty datagram under the sending key. False when the peer is not known.
  bool Keepalive(uint32_t peer);
  // Counters of the socket, and of the peers whose counters are others than at the last call or that came with a snapshot since, in the layout
  // of src/engines/iptun/totals.ts; answers the bytes needed. When there is less room the next call answers for the same peers.
  size_t Read(uint8_t* to, size_t room);

 private:
  int socket_ = -1;
  bool running_ = false;
  SocketTotals totals_;
  TableBuilder builder_;
  std::unique_ptr<Egress> egress_;
  std::unique_ptr<Ingress> ingress_;
  std::thread egress_thread_, ingress_thread_;
};

// Readies a TUN descriptor opened with IFF_VNET_HDR: header length, checksum and segmentation offloads. 1 with UDP segmentation,
// 0 without, or -errno.
int PrepareTun(int fd);

// Readies a bound UDP socket: GRO, ECN, path MTU discovery. 0 or -errno.
int PrepareSocket(int fd);

}  // namespace arctic::tunnel
