// The tunnel's core without Node, for sanitizers: known answers, then mutations of datagrams, frames, policies and snapshots.
//   core <seconds> <seed>
// Lines `text <hex>` on standard output are the plaintexts of datagrams for the reference codec to read.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <random>
#include <vector>

#include "../../../src/native/tunnel/aegis128l.h"
#include "../../../src/native/tunnel/datagram.h"
#include "../../../src/native/tunnel/flows.h"
#include "../../../src/native/tunnel/policy.h"
#include "../../../src/native/tunnel/replay.h"
#include "../../../src/native/tunnel/table.h"

using namespace arctic::tunnel;

namespace {

std::mt19937_64 randomness;
uint64_t Pick(uint64_t below) { return below == 0 ? 0 : randomness() % below; }

void Require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "violated: %s\n", what);
  abort();
}

// Every frame must be whole and sound, whatever the datagram was.
class Checker : public Receiver {
 public:
  bool MayDeliver(const Packet& packet, const uint8_t* bytes, size_t length) override {
    Require(packet.version == 4 || packet.version == 6, "version");
    return policy == nullptr || policy->MayArrive(packet, bytes, length);
  }
  void Deliver(const iovec* parts, int count, size_t packets, size_t) override {
    Require(count >= 2 && parts[0].iov_len == sizeof(VnetHeader), "a frame has a header and a packet");
    VnetHeader header;
    memcpy(&header, parts[0].iov_base, sizeof header);
    std::vector<uint8_t> frame;
    for (int i = 1; i < count; ++i) {
      const auto* part = static_cast<const uint8_t*>(parts[i].iov_base);
      frame.insert(frame.end(), part, part + parts[i].iov_len);
    }
    Packet packet;
    Require(frame.size() <= kMaxPacket && ParsePacket(frame.data(), frame.size(), &packet), "a delivered frame is a packet");
    // What the far end would make of it, the segmenter takes apart again.
    Segmenter segments;
    Require(segments.Load(header, frame.data(), frame.size()), "a delivered frame has a sound virtio header");
    Require(segments.count() == packets, "a frame holds as many packets as were joined");
    std::vector<uint8_t> out(kMaxPacket);
    for (size_t i = 0; i < segments.count(); ++i) {
      const Segment segment = segments.At(i);
      Require(segment.length <= out.size(), "segment length");
      segments.Write(i, out.data());
      Require(ParsePacket(out.data(), segment.length, &packet), "a segment is a packet");
      delivered.emplace_back(out.begin(), out.begin() + static_cast<long>(segment.length));
    }
  }
  std::shared_ptr<const Policy> policy;
  std::vector<std::vector<uint8_t>> delivered;
};

std::vector<uint8_t> MakePacket(bool ipv6, uint8_t protocol, size_t payload, uint32_t sequence) {
  const size_t ip = ipv6 ? 40 : 20, transport = protocol == kTcp ? 20 : 8;
  std::vector<uint8_t> p(ip + transport + payload);
  for (size_t i = ip; i < p.size(); ++i) p[i] = static_cast<uint8_t>(i * 7 + sequence);
  if (ipv6) {
    p[0] = 0x60;
    Write16(&p[4], transport + payload);
    p[6] = protocol;
    p[7] = 64;
    p[8] = 0xfd, p[23] = 1, p[24] = 0xfd, p[39] = 2;
  } else {
    p[0] = 0x45;
    Write16(&p[2], p.size());
    Write16(&p[4], sequence);
    p[8] = 64, p[9] = protocol;
    p[12] = 10, p[15] = 1, p[16] = 10, p[19] = 2;
    WriteIpv4Checksum(p.data(), 20);
  }
  uint8_t* t = &p[ip];
  Write16(t, 1000);
  Write16(t + 2, 2000);
  if (protocol == kTcp) {
    Write32(t + 4, sequence);
    Write32(t + 8, 1);
    t[12] = 0x50, t[13] = 0x10;
    Write16(t + 14, 500);
    Write16(t + 16, 0);
    Write16(t + 18, 0);
  } else {
    Write16(t + 4, transport + payload);
    Write16(t + 6, 0);
  }
  return p;
}

void Mutate(std::vector<uint8_t>* bytes) {
  if (bytes->empty()) return;
  const uint64_t times = 1 + Pick(6);
  for (uint64_t i = 0; i < times; ++i) {
    const uint64_t kind = Pick(4);
    uint8_t& at = (*bytes)[Pick(bytes->size())];
    if (kind == 0) at ^= static_cast<uint8_t>(1 << Pick(8));
    else if (kind == 1) at = static_cast<uint8_t>(Pick(256));
    else if (kind == 2) at = Pick(2) ? 0xff : 0;
    else if (bytes->size() > 1 && Pick(4) == 0) bytes->resize(1 + Pick(bytes->size()));
  }
}

// Round trip and tampering; what is printed is opened by node:crypto in the test that runs this.
void Aeads() {
  uint8_t key[kKeyLength];
  for (size_t i = 0; i < sizeof key; ++i) key[i] = static_cast<uint8_t>(i);
  for (const Aead aead : {Aead::kAes256Gcm, Aead::kChaCha20Poly1305, Aead::kAegis128L}) {
    if (aead == Aead::kAegis128L && !HasAegis()) continue;
    const Nonce nonce = NonceOf(aead, 7);
    Cipher seal(aead, key, true), open(aead, key, false);
    Require(seal.ok() && open.ok(), "ciphers");
    for (const size_t length : {size_t{0}, size_t{1}, size_t{64}, size_t{1440}, size_t{9000}}) {
      std::vector<uint8_t> text(length + kTagLength), aad(kHeaderLength, 3);
      for (size_t i = 0; i < length; ++i) text[i] = static_cast<uint8_t>(i);
      const std::vector<uint8_t> plain = text;
      Require(seal.Seal(nonce, aad.data(), aad.size(), text.data(), length), "seal");
      std::vector<uint8_t> spoilt = text;
      spoilt[Pick(spoilt.size())] ^= 1;
      Require(!open.Open(nonce, aad.data(), aad.size(), spoilt.data(), length), "tampered text opens");
      spoilt = text;
      Require(!open.Open(NonceOf(aead, 8), aad.data(), aad.size(), spoilt.data(), length), "another counter opens");
      printf("sealed %d %zu ", static_cast<int>(aead), length);
      for (const uint8_t b : text) printf("%02x", b);
      printf("\n");
      Require(open.Open(nonce, aad.data(), aad.size(), text.data(), length), "open");
      Require(memcmp(text.data(), plain.data(), length) == 0, "plaintext");
    }
  }
}

void Replays() {
  ReplayWindow window;
  std::vector<bool> seen(60000);
  uint64_t highest = 0;
  int64_t missing = 0, accepted = 0;
  for (int i = 0; i < 200000; ++i) {
    uint64_t counter = Pick(3) == 0 ? highest + 1 + Pick(40) : (highest > 9000 ? highest - Pick(9000) : Pick(highest + 2));
    if (counter >= seen.size()) break;
    const bool expected = counter > 0 && !seen[counter] && (counter > highest || highest - counter < ReplayWindow::kWindow);
    Require(window.MayAccept(counter) == expected, "the window accepts what a list of all counters would");
    if (!expected) continue;
    missing += window.Accept(counter);
    seen[counter] = true;
    accepted += 1;
    if (counter > highest) highest = counter;
    Require(missing == static_cast<int64_t>(highest) - accepted, "missing are those never accepted");
  }
}

std::vector<uint8_t> PackSome(std::vector<std::vector<uint8_t>>* sent) {
  Packer packer;
  packer.Start(1440);
  const bool ipv6 = Pick(2) == 0;
  const uint8_t protocol = Pick(2) == 0 ? kTcp : kUdp;
  uint32_t sequence = static_cast<uint32_t>(Pick(1000));
  const uint64_t count = 1 + Pick(12);
  const size_t size = Pick(100);
  for (uint64_t i = 0; i < count; ++i) {
    const size_t payload = Pick(5) == 0 ? Pick(100) : size;
    std::vector<uint8_t> packet = MakePacket(ipv6, protocol, payload, sequence);
    sequence += protocol == kTcp ? static_cast<uint32_t>(payload) : 1;
    uint8_t* to = packer.Append(packet.size(), true, 0);
    Require(to != nullptr, "the arena has room");
    memcpy(to, packet.data(), packet.size());
    if (sent != nullptr) sent->push_back(packet);
  }
  std::vector<uint8_t> text;
  for (const auto& datagram : packer.datagrams()) {
    const uint8_t* at = packer.at(datagram.offset) + kHeaderLength;
    text.insert(text.end(), at, at + datagram.text);
  }
  return text;
}

// The transport checksum is open on the way; everything else comes out as it went in.
void Untouched() {
  std::vector<std::vector<uint8_t>> sent;
  std::vector<uint8_t> text = PackSome(&sent);
  Checker checker;
  Unpacker unpacker(&checker);
  const auto result = unpacker.Feed(text.data(), text.size(), 0);
  unpacker.Flush();
  Require(result.malformed == 0 && result.refused == 0, "our own datagrams are sound");
  Require(checker.delivered.size() == sent.size(), "every packet arrives");
  for (size_t i = 0; i < sent.size(); ++i) {
    auto& got = checker.delivered[i];
    Require(got.size() == sent[i].size(), "length");
    Packet packet;
    Require(ParsePacket(got.data(), got.size(), &packet), "packet");
    const size_t field = packet.header + ChecksumOffset(packet.protocol);
    got[field] = got[field + 1] = 0;
    if (packet.version == 4 && sent[i][4] != got[4]) return;
    if (packet.version == 4) {
      // Joined IPv4 packets are numbered from the first.
      memcpy(&got[4], &sent[i][4], 2);
      WriteIpv4Checksum(got.data(), 20);
    }
    Require(memcmp(got.data(), sent[i].data(), got.size()) == 0, "a packet arrives as it was sent");
  }
}

// More than an IP packet may hold becomes several frames, though datagram after datagram continues one flow.
void LongRuns() {
  Checker checker;
  Unpacker unpacker(&checker);
  std::vector<std::vector<uint8_t>> texts(3);
  uint32_t sequence = 0;
  for (auto& text : texts) {
    for (int i = 0; i < 30; ++i) {
      const std::vector<uint8_t> packet = MakePacket(false, kTcp, 1400, sequence);
      sequence += 1400;
      text.insert(text.end(), {static_cast<uint8_t>(packet.size()), static_cast<uint8_t>(packet.size() >> 8), 1, 0});
      text.insert(text.end(), packet.begin(), packet.end());
    }
    Require(unpacker.Feed(text.data(), text.size(), 0).malformed == 0, "sound records");
  }
  unpacker.Flush();
  Require(checker.delivered.size() == 90, "every packet arrives");
}

void FuzzText() {
  std::vector<uint8_t> text = PackSome(nullptr);
  Mutate(&text);
  // A copy of exactly that size, so that a read past its end is seen.
  auto* exact = static_cast<uint8_t*>(malloc(text.size()));
  memcpy(exact, text.data(), text.size());
  Checker checker;
  Unpacker unpacker(&checker);
  unpacker.Feed(exact, text.size(), static_cast<uint8_t>(Pick(4)));
  unpacker.Flush();
  free(exact);
}

void FuzzFrame() {
  std::vector<uint8_t> frame = MakePacket(Pick(2) == 0, Pick(2) == 0 ? kTcp : kUdp, Pick(9000), 5);
  const bool ipv6 = frame[0] == 0x60;
  const uint8_t protocol = ipv6 ? frame[6] : frame[9];
  VnetHeader header{};
  header.flags = kVnetNeedsCsum;
  header.csum_start = ipv6 ? 40 : 20;
  header.csum_offset = static_cast<uint16_t>(ChecksumOffset(protocol));
  header.gso_type = protocol == kUdp ? kGsoUdp : ipv6 ? kGsoTcp6 : kGsoTcp4;
  header.gso_size = static_cast<uint16_t>(1 + Pick(1400));
  if (Pick(2) == 0) {
    std::vector<uint8_t> raw(sizeof header);
    memcpy(raw.data(), &header, sizeof header);
    Mutate(&raw);
    raw.resize(sizeof header);
    memcpy(&header, raw.data(), sizeof header);
  }
  if (Pick(2) == 0) Mutate(&frame);
  auto* exact = static_cast<uint8_t*>(malloc(frame.size()));
  memcpy(exact, frame.data(), frame.size());
  Segmenter segments;
  if (segments.Load(header, exact, frame.size())) {
    for (size_t i = 0; i < segments.count(); ++i) {
      const Segment segment = segments.At(i);
      auto* out = static_cast<uint8_t*>(malloc(segment.length));
      segments.Write(i, out);
      Packet packet;
      Require(ParsePacket(out, segment.length, &packet), "what is cut from a frame is a packet");
      free(out);
    }
  }
  free(exact);
}

void Put32(std::vector<uint8_t>* to, uint32_t value) {
  for (int i = 0; i < 4; ++i) to->push_back(static_cast<uint8_t>(value >> (8 * i)));
}

std::vector<uint8_t> MakePolicy() {
  std::vector<uint8_t> bytes;
  for (int side = 0; side < 2; ++side) {
    Put32(&bytes, Pick(2) == 0 ? kNoService : 1);
    Put32(&bytes, 2);
    for (const uint8_t family : {uint8_t{4}, uint8_t{6}}) {
      const size_t address = family == 4 ? 4 : 16;
      bytes.insert(bytes.end(), {family, static_cast<uint8_t>(Pick(address * 8 + 1)), kAnyAddress, 0});
      const uint32_t routes = static_cast<uint32_t>(Pick(5));
      Put32(&bytes, routes);
      for (uint32_t r = 0; r < routes; ++r) {
        for (size_t i = 0; i < address; ++i) bytes.push_back(static_cast<uint8_t>(Pick(256)));
        Put32(&bytes, r);
      }
    }
  }
  return bytes;
}

void FuzzPolicy() {
  std::vector<uint8_t> bytes = MakePolicy();
  Require(Policy::Parse(bytes.data(), bytes.size()) != nullptr, "a sound policy is taken");
  Mutate(&bytes);
  auto* exact = static_cast<uint8_t*>(malloc(bytes.size()));
  memcpy(exact, bytes.data(), bytes.size());
  if (const auto policy = Policy::Parse(exact, bytes.size())) {
    std::vector<uint8_t> packet = MakePacket(Pick(2) == 0, kUdp, Pick(60), 0);
    if (Pick(2) == 0) {
      // An ICMP error that quotes something.
      const size_t at = packet[0] == 0x60 ? 40 : 20;
      packet[packet[0] == 0x60 ? 6 : 9] = packet[0] == 0x60 ? kIcmp6 : kIcmp;
      packet[at] = static_cast<uint8_t>(Pick(5));
      for (size_t i = at + 8; i < packet.size(); ++i) packet[i] = static_cast<uint8_t>(Pick(256));
    }
    Packet parsed;
    if (ParsePacket(packet.data(), packet.size(), &parsed)) {
      policy->MayArrive(parsed, packet.data(), packet.size());
      policy->Outbound(parsed);
    }
  }
  free(exact);
}

void FuzzSnapshot() {
  TableBuilder builder;
  const std::vector<uint8_t> policy = MakePolicy();
  Require(builder.SetPolicy(1, policy.data(), policy.size()), "policy");
  std::vector<uint8_t> bytes;
  Put32(&bytes, 1);
  Put32(&bytes, 1);
  Put32(&bytes, 0xffffffff);
  Put32(&bytes, 0);
  Put32(&bytes, 1);
  bytes.insert(bytes.end(), {0xdc, 5, 0, 0, 1, 0, 0x80, 0xca});
  for (int i = 0; i < 16; ++i) bytes.push_back(static_cast<uint8_t>(i));
  Put32(&bytes, 0);
  Put32(&bytes, 1);
  bytes.push_back(1);
  Put32(&bytes, 1);
  Put32(&bytes, 77);
  bytes.push_back(1);
  bytes.insert(bytes.end(), 64, 9);
  Put32(&bytes, 1);
  Put32(&bytes, 2);
  Put32(&bytes, 78);
  bytes.insert(bytes.end(), 96, 8);
  Put32(&bytes, 1);
  Put32(&bytes, 3);
  Put32(&bytes, 1000000);
  Put32(&bytes, 0);
  std::shared_ptr<const Table> table;
  Require(builder.Build(bytes.data(), bytes.size(), &table) == 0, "a sound snapshot is taken");
  SendKey* before = table->peers[0].send.get();
  before->sent = 99;
  Require(builder.Build(bytes.data(), bytes.size(), &table) == 0 && table->peers[0].send->sent == 99,
          "a key keeps its counter from table to table");
  Mutate(&bytes);
  // A device is only ever -1 here: descriptors are not the fuzzer's to take.
  if (bytes.size() >= 12) memset(&bytes[8], 0xff, 4);
  auto* exact = static_cast<uint8_t*>(malloc(bytes.size()));
  memcpy(exact, bytes.data(), bytes.size());
  builder.Build(exact, bytes.size(), &table);
  free(exact);
}

// A flow that sends little goes first; one that fills queues does not, until all it had under way has arrived.
void Overtaking() {
  Flows flows;
  uint8_t small[100] = {0x45}, large[1400] = {0x45};
  for (auto* bytes : {small, large}) bytes[9] = kUdp, bytes[12] = 10, bytes[16] = 10;
  Write16(small + 2, sizeof small), Write16(large + 2, sizeof large);
  Write16(large + 20, 7);
  Packet call, bulk;
  Require(ParsePacket(small, sizeof small, &call) && ParsePacket(large, sizeof large, &bulk), "packets");
  constexpr uint64_t kMs = 1'000'000;
  uint64_t now = 1'000 * kMs;
  bool overtakes = true;
  for (int i = 0; i < 1000; ++i, now += kMs / 10) {
    const bool next = flows.MayOvertake(1, bulk, large, sizeof large, now);
    Require(overtakes || !next, "a flow that is large stays large");
    overtakes = next;
    if (i % 10 == 0) Require(flows.MayOvertake(1, call, small, sizeof small, now), "a call is not held up");
  }
  Require(!overtakes, "112 Mbit/s are much");
  Require(!flows.MayOvertake(1, bulk, large, sizeof large, now + 10 * kMs), "what it sent may be under way");
  Require(flows.MayOvertake(1, bulk, large, sizeof large, now + 200 * kMs), "it is small again");
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 2;
  randomness.seed(argc > 2 ? strtoull(argv[2], nullptr, 10) : 1);
  Aeads();
  Replays();
  Overtaking();
  LongRuns();
  for (int i = 0; i < 20; ++i) {
    const std::vector<uint8_t> text = PackSome(nullptr);
    printf("text ");
    for (const uint8_t b : text) printf("%02x", b);
    printf("\n");
  }
  const time_t end = time(nullptr) + static_cast<time_t>(seconds);
  uint64_t rounds = 0;
  do {
    for (int i = 0; i < 50; ++i, ++rounds) {
      Untouched();
      FuzzText();
      FuzzText();
      FuzzFrame();
      FuzzPolicy();
      FuzzSnapshot();
    }
  } while (time(nullptr) < end);
  printf("rounds %llu\n", static_cast<unsigned long long>(rounds));
  return 0;
}
