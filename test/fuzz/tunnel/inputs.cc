// libFuzzer's entry to what the tunnel's core is given by others. The first byte of the input chooses:
//   0  records of a decrypted datagram      1  a frame of the TUN device, its virtio_net_hdr first
//   2  a snapshot of the configuration      3  a policy
//   4  lengths of frames that wait, and when one is taken
//   5  counters of datagrams, each as its distance from the highest so far
//   6  a packet of a peer, held against a policy
//   7  lengths and marks of packets that leave together
//   8  a rate, then lengths of packets that are held to it, and when they come
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <unordered_set>
#include <vector>

#include "../../../src/native/tunnel/datagram.h"
#include "../../../src/native/tunnel/policy.h"
#include "../../../src/native/tunnel/table.h"
#include "states.h"

using namespace arctic::tunnel;

namespace {

// Stands in for a policy: what no service covers.
bool Strange(const Packet& packet) { return (packet.source[packet.address_length - 1] & 0x80) != 0; }

// RFC 6040, figure 4, by inner and outer field: not-ECT, ECT(1), ECT(0), CE. -1: the packet is dropped.
int DecapsulatedEcn(int inner, int outer) {
  static constexpr int kFigure[4][4] = {{0, 0, 0, -1}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};
  return kFigure[inner][outer];
}

// Takes what is to be written to the device and holds it to what the kernel relies on.
class Sink : public Receiver {
 public:
  Sink(const uint8_t* text, size_t length, uint8_t outer_ecn) : text_(text), end_(text + length), outer_ecn_(outer_ecn) {}
  bool MayDeliver(const Packet& packet, const uint8_t* bytes, size_t length) override {
    Require(bytes >= text_ && bytes + length <= end_, "a packet is within its datagram");
    Require((packet.version == 4 ? Read16(bytes + 2) : 40u + Read16(bytes + 4)) == length, "a packet is as long as it says");
    if (Strange(packet)) return false;
    const int ecn = DecapsulatedEcn(packet.tos & 3, outer_ecn_);
    if (ecn >= 0) wanted_.push_back({static_cast<uint8_t>((packet.tos & ~3) | ecn), ecn != (packet.tos & 3)});
    return true;
  }
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
    Require(!Strange(packet), "what is refused is not delivered");
    for (size_t i = 0; i < packets; ++i) {
      Require(!wanted_.empty() && packet.tos == wanted_.front().tos, "a packet has the marks of RFC 6040");
      if (packet.version == 4 && (wanted_.front().remarked || packets > 1))
        Require(Fold(Sum(frame.data(), packet.header, 0)) == 0xffff, "a header that was changed has its checksum");
      wanted_.pop_front();
    }
    Require(packets == 1 || header.gso_size != 0, "several packets are a segmented frame");
    if ((header.flags & kVnetNeedsCsum) != 0) {
      Require(header.csum_start + header.csum_offset + 2u <= frame.size(), "the checksum is in the frame");
      const uint8_t* transport = frame.data() + packet.header;
      const size_t room = frame.size() - packet.header;
      Require(packet.protocol == kTcp ? room >= 20 && transport[12] >> 4 >= 5 && (transport[12] >> 4) * 4u <= room
                                      : packet.protocol == kUdp && room >= 8 && Read16(transport + 4) == room,
              "a transport header is whole and, of UDP, as long as it says");
      Require(!packet.fragment, "a fragment's checksum is not completed");
    }
    Segmenter again;
    Require(again.Load(header, frame.data(), frame.size()), "what is delivered could be read again");
    Require(again.count() == packets, "it holds as many packets as came");
  }
  // All that may be delivered has been.
  bool empty() const { return wanted_.empty(); }

 private:
  struct Wanted {
    uint8_t tos;
    bool remarked;
  };
  const uint8_t* text_;
  const uint8_t* end_;
  uint8_t outer_ecn_;
  std::deque<Wanted> wanted_;
};

void Records(uint8_t* bytes, size_t length) {
  const uint8_t outer_ecn = length > 0 ? bytes[0] & 3 : 0;
  Sink sink(bytes, length, outer_ecn);
  Unpacker unpacker(&sink);
  unpacker.Feed(bytes, length, outer_ecn);
  unpacker.Flush();
  Require(sink.empty(), "what may be delivered is");
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
  // The first takes all that goes out, the second nothing.
  const uint8_t open[16] = {1, 0, 0, 0, 0, 0, 0, 0, 1};
  const uint8_t shut[16] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
  Require(builder.SetPolicy(1, open, sizeof open) && builder.SetPolicy(2, shut, sizeof shut), "policies");
  std::shared_ptr<const Table> table, again;
  Require((builder.Build(bytes, length, &table) == 0) == (table != nullptr), "a table or a refusal");
  if (table == nullptr) return;
  if (!table->peers.empty()) {
    const uint8_t* wanted = bytes + 16;
    const uint8_t bare[40] = {0x60};
    Packet packet;
    Require(ParsePacket(bare, sizeof bare, &packet), "packet");
    const auto& policy = table->peers[0].policy;
    const bool known = (wanted[0] == 1 || wanted[0] == 2) && wanted[1] == 0 && wanted[2] == 0 && wanted[3] == 0;
    Require((policy != nullptr) == known, "a peer has the policy that it names");
    Require(!known || (policy->Outbound(packet) != kNoService) == (wanted[0] == 1), "and no other");
  }
  Require(builder.Build(bytes, length, &again) == 0, "what was taken once is taken again");
  // What counts on from table to table: a counter that began anew would be used twice, a window would let replays in.
  for (size_t i = 0; i < table->peers.size(); ++i)
    Require(table->peers[i].peer == again->peers[i].peer && table->peers[i].send == again->peers[i].send,
            "a peer and its sending key stay");
  const auto keys = [](const Table& of) {
    std::unordered_set<const ReceiveKey*> found;
    for (const auto& [index, one] : of.receiving) found.insert(one.key.get());
    return found;
  };
  Require(keys(*table) == keys(*again), "receiving keys stay");
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

// From 10.1.0.0/16 of ours to 10.2.3.0/24 of the peer's, and to any address for 10.1.9.9; the same with fd00:: before it. The
// peer may reach fd00:5::/32 and 10.5.0.0/16 here from 10.2.3.4 and fd00:2::4.
struct Rule {
  uint8_t family, source_length, dest_length;
  uint8_t source[16], dest[16];
};
constexpr uint8_t kAny = kAnyAddress;
constexpr Rule kEntries[] = {{4, 16, 24, {10, 1}, {10, 2, 3}},
                             {4, 32, kAny, {10, 1, 9, 9}, {}},
                             {6, 32, 48, {0xfd, 0, 0, 1}, {0xfd, 0, 0, 2, 0, 3}}};
constexpr Rule kExits[] = {{4, 32, 16, {10, 2, 3, 4}, {10, 5}},
                           {6, 128, 32, {0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, {0xfd, 0, 0, 5}}};

bool Within(const uint8_t* address, const uint8_t* prefix, uint8_t length) {
  for (size_t bit = 0; length != kAny && bit < length; ++bit)
    if (((address[bit / 8] ^ prefix[bit / 8]) >> (7 - bit % 8) & 1) != 0) return false;
  return true;
}

template <size_t N>
bool Covered(const Rule (&rules)[N], uint8_t family, const uint8_t* source, const uint8_t* dest) {
  for (const Rule& rule : rules)
    if (rule.family == family && Within(source, rule.source, rule.source_length) && Within(dest, rule.dest, rule.dest_length))
      return true;
  return false;
}

template <size_t N>
void EncodeSide(const Rule (&rules)[N], std::vector<uint8_t>* to) {
  const auto u32 = [to](uint32_t value) {
    for (int i = 0; i < 4; ++i) to->push_back(static_cast<uint8_t>(value >> (8 * i)));
  };
  u32(kNoService);
  u32(N);
  for (const Rule& rule : rules) {
    to->insert(to->end(), {rule.family, rule.source_length, rule.dest_length, 0});
    u32(1);
    const size_t width = rule.family == 4 ? 4 : 16;
    if (rule.source_length != kAny) to->insert(to->end(), rule.source, rule.source + width);
    if (rule.dest_length != kAny) to->insert(to->end(), rule.dest, rule.dest + width);
    u32(1);
  }
}

// The packet's addresses, or those that it quotes; false when its header is not all there.
bool Addresses(const uint8_t* bytes, size_t length, const uint8_t** source, const uint8_t** dest, size_t* header) {
  if (length < 20) return false;
  const bool ipv4 = bytes[0] >> 4 == 4;
  *header = ipv4 ? (bytes[0] & 15) * 4u : 40;
  if ((!ipv4 && bytes[0] >> 4 != 6) || *header < 20 || *header > length) return false;
  *source = bytes + (ipv4 ? 12 : 8);
  *dest = bytes + (ipv4 ? 16 : 24);
  return true;
}

bool MayCome(const uint8_t* bytes, size_t length) {
  const uint8_t *source, *dest;
  size_t header;
  Require(Addresses(bytes, length, &source, &dest, &header), "a packet has addresses");
  const uint8_t family = bytes[0] >> 4;
  if (Covered(kExits, family, source, dest) || Covered(kEntries, family, dest, source)) return true;
  const bool fragment = family == 4 && ((bytes[6] & 0x3f) != 0 || bytes[7] != 0);
  if (fragment || length < header + 8) return false;
  const uint8_t type = bytes[header];
  const bool error = family == 4 ? bytes[9] == 1 && (type == 3 || type == 4 || type == 5 || type == 11 || type == 12)
                                 : bytes[6] == 58 && type >= 1 && type <= 4;
  const uint8_t* quoted = bytes + header + 8;
  if (!error || !Addresses(quoted, length - header - 8, &source, &dest, &header) || quoted[0] >> 4 != family) return false;
  return Covered(kEntries, family, source, dest) || Covered(kExits, family, dest, source);
}

// Nobody speaks for others: what a peer may send is what its routes say, or an error about a packet of ours.
void Arriving(const uint8_t* bytes, size_t length) {
  static const std::shared_ptr<const Policy> policy = [] {
    std::vector<uint8_t> encoded;
    EncodeSide(kEntries, &encoded);
    EncodeSide(kExits, &encoded);
    return Policy::Parse(encoded.data(), encoded.size());
  }();
  Require(policy != nullptr, "a sound policy is taken");
  Packet packet;
  if (!ParsePacket(bytes, length, &packet)) return;
  Require(policy->MayArrive(packet, bytes, length) == MayCome(bytes, length), "a packet comes from whom its routes name");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t length = size - 1;
  // A copy of exactly that size, so that a read past its end is seen.
  auto* bytes = static_cast<uint8_t*>(malloc(length == 0 ? 1 : length));
  memcpy(bytes, data + 1, length);
  switch (data[0]) {
    case 0: Records(bytes, length); break;
    case 1: Frame(bytes, length); break;
    case 2: Snapshot(bytes, length); break;
    case 3: Rules(bytes, length); break;
    case 4: Waiting(bytes, length); break;
    case 5: Counters(bytes, length); break;
    case 6: Arriving(bytes, length); break;
    case 7: Packing(bytes, length); break;
    case 8: Shaping(bytes, length); break;
    default: break;
  }
  free(bytes);
  return 0;
}
