// libFuzzer's entry to what the tunnel's core is given by others. The first byte of the input chooses:
//   0  records of a decrypted datagram      1  a frame of the TUN device, its virtio_net_hdr first
//   2  a snapshot of the configuration      3  a policy
//   4  lengths of frames that wait, and when one is taken
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <vector>

#include "../../src/native/tunnel/datagram.h"
#include "../../src/native/tunnel/flows.h"
#include "../../src/native/tunnel/policy.h"
#include "../../src/native/tunnel/table.h"

using namespace arctic::tunnel;

namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "violated: %s\n", what);
  abort();
}

// Takes what is to be written to the device and holds it to what the kernel relies on.
class Sink : public Receiver {
 public:
  bool MayDeliver(const Packet& packet, const uint8_t*, size_t) override { return packet.version != 0; }
  void Deliver(const iovec* parts, int count, size_t packets, size_t) override {
    Require(count >= 2 && packets >= 1, "a frame has a header and a packet");
    VnetHeader header;
    Require(parts[0].iov_len == sizeof header, "virtio_net_hdr");
    memcpy(&header, parts[0].iov_base, sizeof header);
    std::vector<uint8_t> frame;
    for (int i = 1; i < count; ++i) {
      const auto* from = static_cast<const uint8_t*>(parts[i].iov_base);
      frame.insert(frame.end(), from, from + parts[i].iov_len);
    }
    Packet packet;
    Require(ParsePacket(frame.data(), frame.size(), &packet), "what is delivered is a packet");
    Require(packets == 1 || header.gso_size != 0, "several packets are a segmented frame");
    if ((header.flags & kVnetNeedsCsum) != 0)
      Require(header.csum_start + header.csum_offset + 2u <= frame.size(), "the checksum is in the frame");
    Segmenter again;
    Require(again.Load(header, frame.data(), frame.size()), "what is delivered could be read again");
    Require(again.count() == packets, "it holds as many packets as came");
  }
};

void Records(uint8_t* bytes, size_t length) {
  Sink sink;
  Unpacker unpacker(&sink);
  unpacker.Feed(bytes, length, length > 0 ? bytes[0] & 3 : 0);
  unpacker.Flush();
}

void Frame(uint8_t* bytes, size_t length) {
  VnetHeader header;
  if (length < sizeof header) return;
  memcpy(&header, bytes, sizeof header);
  Segmenter segments;
  if (!segments.Load(header, bytes + sizeof header, length - sizeof header)) return;
  Packer packer;
  packer.Start(1440);
  for (size_t i = 0; i < segments.count(); ++i) {
    const Segment segment = segments.At(i);
    uint8_t* to = packer.Append(segment.length, segment.needs_csum, segments.packet().tos);
    if (to == nullptr) {
      packer.Start(1440);
      to = packer.Append(segment.length, segment.needs_csum, segments.packet().tos);
    }
    if (to == nullptr) return;
    segments.Write(i, to);
    Packet packet;
    Require(ParsePacket(to, segment.length, &packet), "what is cut from a frame is a packet");
  }
}

void Snapshot(const uint8_t* bytes, size_t length) {
  TableBuilder builder;
  const uint8_t open[16] = {1, 0, 0, 0, 0, 0, 0, 0, 1};
  Require(builder.SetPolicy(1, open, sizeof open), "policy");
  std::shared_ptr<const Table> table;
  for (int times = 0; times < 2; ++times)
    Require((builder.Build(bytes, length, &table) == 0) == (table != nullptr), "a table or a refusal");
}

void Rules(const uint8_t* bytes, size_t length) {
  const auto policy = Policy::Parse(bytes, length);
  if (!policy) return;
  uint8_t packet_bytes[40] = {0x60};
  Packet packet;
  Require(ParsePacket(packet_bytes, sizeof packet_bytes, &packet), "packet");
  policy->Outbound(packet);
  policy->MayArrive(packet, packet_bytes, sizeof packet_bytes);
}

// Frames come out as they went in, whatever their lengths and however many wait.
void Waiting(const uint8_t* bytes, size_t length) {
  static FrameQueue queue;
  while (!queue.empty()) queue.Pop();
  std::deque<std::pair<size_t, uint8_t>> wanted;
  const auto take = [&] {
    const auto [frame, mark] = wanted.front();
    Require(queue.front_length() == frame, "length");
    Require(queue.front()[0] == mark && queue.front()[frame - 1] == mark, "bytes");
    queue.Pop();
    wanted.pop_front();
  };
  for (size_t i = 0; i + 3 <= length; i += 3) {
    const size_t frame = 1 + (size_t{bytes[i]} << 8 | bytes[i + 1]) % (FrameQueue::kRoom - 1);
    uint8_t* room = queue.Room();
    if (room != nullptr) {
      const uint8_t mark = static_cast<uint8_t>(i);
      // What is read may be as long as the room, whatever is kept of it.
      room[FrameQueue::kRoom - 1] = mark;
      room[0] = room[frame - 1] = mark;
      queue.Push(frame);
      wanted.emplace_back(frame, mark);
    } else {
      Require(!wanted.empty(), "an empty queue has room");
    }
    for (int n = bytes[i + 2] & 3; n > 0 && !wanted.empty(); --n) take();
  }
  while (!wanted.empty()) take();
  Require(queue.empty(), "nothing is left");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t length = size - 1;
  // A copy of exactly that size, so that a read past its end is seen.
  auto* bytes = static_cast<uint8_t*>(malloc(length == 0 ? 1 : length));
  memcpy(bytes, data + 1, length);
  switch (data[0] % 5) {
    case 0: Records(bytes, length); break;
    case 1: Frame(bytes, length); break;
    case 2: Snapshot(bytes, length); break;
    case 3: Rules(bytes, length); break;
    default: Waiting(bytes, length);
  }
  free(bytes);
  return 0;
}
