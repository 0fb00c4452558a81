// The KCP core without sockets, under a virtual clock: `core SECONDS SEED`. Built with sanitizers. Every check that fails
// ends the program; what it prints is what was done.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>

#include "../../../src/native/kcp/gf256.h"
#include "virtual_link.h"

using namespace arctic::kcp;
using namespace arctic::kcp::test;

namespace {

void Check(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "failed: %s\n", what);
  abort();
}

uint8_t ByteAt(uint32_t flow, uint64_t at) { return static_cast<uint8_t>((at * 2654435761u >> 7) ^ flow * 101 ^ at); }

// The field's laws, and the vector code against the definition.
void TestField() {
  for (unsigned a = 1; a < 256; a += 1) Check(GfMultiply(static_cast<uint8_t>(a), GfInverse(static_cast<uint8_t>(a))) == 1, "inverse");
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; round += 1) {
    const size_t length = random() % 200;
    std::vector<uint8_t> from(length), to(length), expected(length);
    const uint8_t factor = static_cast<uint8_t>(random());
    for (size_t i = 0; i < length; i += 1) {
      from[i] = static_cast<uint8_t>(random());
      to[i] = static_cast<uint8_t>(random());
      expected[i] = to[i] ^ GfMultiply(factor, from[i]);
    }
    GfMultiplyAdd(factor, from.data(), to.data(), length);
    Check(to == expected, "multiply and add");
  }
}

// Any k of k + m shards give back the k, also when the group ended early; fewer do not.
void TestCode(std::mt19937_64& random) {
  const size_t count = 1 + random() % kMostData, parities = 1 + random() % kMostParity;
  std::vector<std::vector<uint8_t>> data(count), wholes(count);
  ParityEncoder encoder(kMostText);
  encoder.Begin(parities);
  for (size_t i = 0; i < count; i += 1) {
    data[i].resize(1 + random() % kMostText);
    for (uint8_t& byte : data[i]) byte = static_cast<uint8_t>(random());
    encoder.Add(i, data[i].data(), data[i].size());
  }
  std::vector<size_t> order(count + parities);
  for (size_t i = 0; i < order.size(); i += 1) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  const size_t kept = random() % 8 == 0 ? count - 1 : count + random() % (parities + 1);
  Shard shards[kMostData], parity[kMostParity];
  for (size_t i = 0; i < kept; i += 1) {
    const size_t one = order[i];
    if (one < count) {
      shards[one] = {data[one].data(), data[one].size()};
    } else {
      parity[one - count] = {encoder.shard(one - count), encoder.length()};
    }
  }
  std::vector<std::vector<uint8_t>> out;
  std::vector<uint8_t*> targets;
  std::vector<size_t> missing;
  for (size_t i = 0; i < count; i += 1) {
    if (shards[i].bytes == nullptr) missing.push_back(i);
  }
  out.assign(missing.size(), std::vector<uint8_t>(encoder.length()));
  for (auto& one : out) targets.push_back(one.data());
  const bool recovered = RecoverShards(shards, count, parity, parities, encoder.length(), targets.data());
  Check(recovered == (kept >= count || missing.size() <= kept - (count - missing.size())), "enough shards give the rest, too few do not");
  if (!recovered) return;
  for (size_t i = 0; i < missing.size(); i += 1) {
    std::vector<uint8_t> expected = data[missing[i]];
    expected.resize(encoder.length());
    Check(out[i] == expected, "a recovered shard is the one that was lost");
  }
}

// One of those that this processor has.
Suite AnySuite(std::mt19937_64& random) {
  return random() % 2 == 0 && arctic::relay::HasSuite(Suite::kAegis128L) ? Suite::kAegis128L : Suite::kAes256Gcm;
}

// Flows in both directions over a link that loses, reorders and repeats: every byte arrives once and in order.
void TestFlows(uint64_t seed, uint64_t* bytes_moved) {
  std::mt19937_64 random(seed);
  LinkSettings link;
  link.bytes_per_us = 0.2 + static_cast<double>(random() % 400) / 10;
  link.delay_us = static_cast<int64_t>(random() % 120'000);
  link.queue_us = 2'000 + static_cast<int64_t>(random() % 100'000);
  link.loss = random() % 3 == 0 ? 0 : static_cast<double>(random() % 30) / 100;
  link.repeat = random() % 2 == 0 ? 0 : 0.05;
  link.reorder = random() % 2 == 0 ? 0 : 0.1;
  Settings settings;
  settings.rekey_datagrams = random() % 2 == 0 ? 1 << 20 : 50;
  settings.silence = 60'000'000;
  settings.suite = AnySuite(random);
  VirtualPair pair(link, seed, settings);
  struct Flow {
    Stream* stream;
    uint64_t sent = 0, received = 0, wanted = 0;
  };
  std::map<std::pair<int, uint32_t>, Flow> flows;
  const int count = 1 + static_cast<int>(random() % 20);
  for (int i = 0; i < count; i += 1) {
    Stream* stream = pair.end(0).Open();
    stream->owner = &pair;
    // An acceptor knows of a conversation from its first segment.
    const uint64_t to = 1 + random() % 300'000;
    flows[{0, stream->conversation}] = {stream, 0, 0, to};
    flows[{1, stream->conversation}] = {nullptr, 0, 0, random() % 300'000};
  }
  std::vector<uint8_t> buffer(70'000);
  const int64_t limit = 400'000'000;
  for (;;) {
    bool done = true;
    for (auto& [key, flow] : flows) {
      Association& from = pair.end(key.first);
      while (flow.stream != nullptr && flow.sent < flow.wanted && from.Writable(flow.stream)) {
        const uint64_t part = std::min<uint64_t>(flow.wanted - flow.sent, 1 + random() % (random() % 4 == 0 ? 3 : 60'000));
        for (uint64_t i = 0; i < part; i += 1) buffer[i] = ByteAt(key.second * 2 + static_cast<uint32_t>(key.first), flow.sent + i);
        from.Write(flow.stream, buffer.data(), part);
        flow.sent += part;
      }
      if (flow.stream != nullptr) flow.stream->told_writable = false;
    }
    for (int which : {0, 1}) {
      Association& end = pair.end(which);
      if (end.dead()) fprintf(stderr, "seed %lu, %s\n", seed, end.reason());
      Check(!end.dead(), "no association dies");
      for (Stream* stream : end.opened) {
        stream->owner = &pair;
        flows[{which, stream->conversation}].stream = stream;
      }
      end.opened.clear();
      end.writable.clear();
      Check(end.killed.empty(), "nobody gives up a flow");
      while (!end.readable.empty()) {
        Stream* stream = end.readable.back();
        end.readable.pop_back();
        stream->told_readable = false;
        Flow& flow = flows[{1 - which, stream->conversation}];
        // Sometimes a slow reader.
        const size_t room = random() % 5 == 0 ? 1 + random() % 3000 : buffer.size();
        const size_t got = end.Peek(stream, buffer.data(), room);
        for (size_t i = 0; i < got; i += 1) {
          Check(buffer[i] == ByteAt(stream->conversation * 2 + static_cast<uint32_t>(1 - which), flow.received + i), "every byte is right");
        }
        end.Consume(stream, got, pair.now());
        flow.received += got;
        *bytes_moved += got;
        if (stream->receive.readable()) {
          stream->told_readable = true;
          end.readable.insert(end.readable.begin(), stream);
          if (room < 3000) break;
        }
      }
    }
    for (auto& [key, flow] : flows) done = done && flow.received == flow.wanted;
    if (done) break;
    Check(pair.Step(limit), "everything arrives in time");
  }
  for (auto& [key, flow] : flows) pair.end(key.first).Finish(flow.stream);
  while (pair.end(0).streams() + pair.end(1).streams() > 0) Check(pair.Step(limit), "nothing is left behind");
}

// Readers that have stopped: what is held stays bounded, the association lives, others go on, and what waits is whole.
void TestSlowReaders() {
  constexpr int kSlow = 400;
  constexpr uint64_t kEach = 600'000;
  LinkSettings link;
  link.bytes_per_us = 1000;
  link.delay_us = 1'000;
  VirtualPair pair(link, 1);
  Association& from = pair.end(0);
  Association& to = pair.end(1);
  std::vector<uint8_t> bytes(70'000);
  std::map<uint32_t, std::pair<uint64_t, uint64_t>> moved;
  std::vector<Stream*> sending;
  const auto write = [&] {
    for (Stream* stream : sending) {
      uint64_t& sent = moved[stream->conversation].first;
      while (sent < kEach && from.Writable(stream)) {
        const uint64_t part = std::min<uint64_t>(kEach - sent, bytes.size());
        for (uint64_t i = 0; i < part; i += 1) bytes[i] = ByteAt(stream->conversation, sent + i);
        from.Write(stream, bytes.data(), part);
        sent += part;
      }
      stream->told_writable = true;
    }
    from.writable.clear();
  };
  const auto open = [&] {
    sending.push_back(from.Open());
    sending.back()->owner = &pair;
    return sending.back()->conversation;
  };
  // Reads those numbered from `first` on until they have everything.
  const auto read = [&](uint32_t first) {
    for (Stream* stream : to.opened) stream->owner = &pair;
    to.opened.clear();
    std::vector<Stream*> left;
    for (Stream* stream : to.readable) {
      if (stream->conversation < first) {
        left.push_back(stream);
        continue;
      }
      stream->told_readable = false;
      uint64_t& received = moved[stream->conversation].second;
      while (const size_t got = to.Peek(stream, bytes.data(), bytes.size())) {
        for (size_t i = 0; i < got; i += 1) Check(bytes[i] == ByteAt(stream->conversation, received + i), "every byte is right");
        to.Consume(stream, got, pair.now());
        received += got;
      }
    }
    to.readable = std::move(left);
  };
  const auto live = [&](uint32_t first, int64_t until, bool all) {
    for (;;) {
      write();
      read(first);
      Check(!from.dead() && !to.dead() && to.killed.empty(), "slow readers close nothing");
      Check(to.held() < 4 * 65536 / 2, "what is held stays bounded");
      bool done = true;
      for (auto& [number, of] : moved) done = done && (number < first || of.second == kEach);
      if (all && done) return;
      if (!pair.Step(until)) {
        Check(!all, "everything arrives in time");
        return;
      }
    }
  };
  for (int i = 0; i < kSlow; i += 1) open();
  live(kSlow + 1, 10'000'000, false);
  Check(to.held() > 10'000, "they are held up");
  const uint32_t quick = open();
  live(quick, 60'000'000, true);
  live(1, 600'000'000, true);
}

// Flows that are given up before anything of them has left: however many, the others do not suffer.
void TestGivenUp() {
  constexpr int kMany = 20'000;
  LinkSettings link;
  link.bytes_per_us = 1000;
  link.delay_us = 1'000;
  link.loss = 0.02;
  link.reorder = 0.1;
  VirtualPair pair(link, 1);
  Association& from = pair.end(0);
  Association& to = pair.end(1);
  uint8_t bytes[100] = {};
  uint64_t received = 0, wanted = 0;
  std::vector<Stream*> over;
  const auto live = [&](int64_t until) {
    do {
      from.writable.clear();
      for (Stream* stream : to.opened) stream->owner = &pair;
      to.opened.clear();
      for (Stream* stream : to.readable) {
        stream->told_readable = false;
        const size_t got = to.Peek(stream, bytes, sizeof bytes);
        to.Consume(stream, got, pair.now());
        received += got;
        over.push_back(stream);
      }
      to.readable.clear();
      // What is repeated of it comes to nobody.
      for (Stream* stream : over) to.Finish(stream);
      over.clear();
      while (!to.killed.empty()) {
        Stream* stream = to.killed.back();
        to.killed.pop_back();
        to.Kill(stream);
      }
      Check(!from.dead() && !to.dead(), "what is given up early closes nothing");
    } while (pair.Step(until));
  };
  for (int i = 0; i < kMany; i += 1) {
    Stream* early = from.Open();
    early->owner = &pair;
    from.Write(early, bytes, sizeof bytes);
    from.Kill(early);
    if (i % 50 != 0) continue;
    Stream* stream = from.Open();
    stream->owner = &pair;
    from.Write(stream, bytes, sizeof bytes);
    wanted += sizeof bytes;
    live(pair.now() + 2'000);
    from.Finish(stream);
  }
  live(pair.now() + 5'000'000);
  Check(received == wanted, "the others arrive");
}

void Churn(Association& end, std::mt19937_64& random) {
  for (Stream* stream : end.opened) stream->owner = &end;
  end.opened.clear();
  std::vector<Stream*> lists;
  while (!end.killed.empty()) {
    Stream* stream = end.killed.back();
    end.killed.pop_back();
    end.Kill(stream);
  }
  uint8_t bytes[4096];
  while (!end.readable.empty()) {
    Stream* stream = end.readable.back();
    end.readable.pop_back();
    stream->told_readable = false;
    end.Consume(stream, end.Peek(stream, bytes, 1 + random() % sizeof bytes), 0);
    if (random() % 4 == 0) end.Write(stream, bytes, 1 + random() % 3000);
    if (random() % 16 == 0) {
      if (random() % 2 == 0) {
        end.Kill(stream);
      } else {
        end.Finish(stream);
      }
    }
  }
  end.writable.clear();
}

// A member that says anything, well sealed: nothing but this association may suffer.
void TestHostile(uint64_t seed) {
  std::mt19937_64 random(seed);
  Settings settings;
  settings.suite = AnySuite(random);
  auto victim = std::make_unique<Association>(random() % 2 == 0, KeyOf(1), KeyOf(2), 7, 0, 1000, settings);
  Sealer sealer(KeyOf(2), settings.suite);
  Batch batch;
  int64_t now = 0;
  uint64_t counter = 1, control = 1;
  for (int round = 0; round < 400 && !victim->dead(); round += 1) {
    uint8_t datagram[kMostDatagram];
    DatagramHeader header;
    header.type = static_cast<Type>(1 + random() % 3);
    header.association = 7;
    size_t used = 0;
    uint8_t* text = datagram + kHeader;
    while (used + kSegmentHeader < kMostText && random() % 4 != 0) {
      SegmentHeader segment;
      segment.conversation = static_cast<uint32_t>(random() % 6);
      segment.command = static_cast<Command>(81 + random() % 7);
      segment.window = static_cast<uint16_t>(random());
      segment.time = static_cast<uint32_t>(random());
      segment.number = random() % 8 == 0 ? static_cast<uint32_t>(random()) : static_cast<uint32_t>(random() % 2000);
      segment.una = static_cast<uint32_t>(random() % 2000);
      if (segment.command == Command::kClose && random() % 32 != 0) segment.command = Command::kPush;
      if (segment.command == Command::kAck) {
        if (used + 2 * kSegmentHeader + 8 * Ack::kMostWords > kMostText) break;
        Ack ack;
        ack.largest = random() % 4 == 0 ? random() : random() % 600;
        ack.received = random() % 1000;
        ack.received_bytes = random() % 1'000'000;
        ack.words = 1 + random() % Ack::kMostWords;
        for (uint64_t& bits : ack.bits) bits = random();
        segment.length = static_cast<uint32_t>(EncodeAck(ack, text + used + kSegmentHeader));
      } else if (segment.command == Command::kPush) {
        segment.length = static_cast<uint32_t>(1 + random() % std::min<size_t>(500, kMostText - used - kSegmentHeader));
      }
      EncodeSegment(segment, text + used);
      used += kSegmentHeader + segment.length;
      if (used > kMostText) return;
    }
    if (random() % 3 == 0 && used > 0) text[random() % used] ^= static_cast<uint8_t>(1 << random() % 8);
    if (header.type == Type::kControl) {
      header.counter = kControlBit | control++;
    } else {
      counter += random() % 3 == 0 ? random() % 50 : 1;
      header.counter = counter + 120;
      header.index = static_cast<uint8_t>(random() % (header.type == Type::kData ? kMostData : kMostParity));
      if (header.type == Type::kParity) header.data = static_cast<uint8_t>(1 + random() % kMostData);
    }
    Check(sealer.Seal(header, datagram, used), "sealed");
    now += static_cast<int64_t>(random() % 5000);
    victim->Receive(datagram, kHeader + used + kTag, now);
    if (!victim->dead()) Churn(*victim, random);
    batch.Clear();
    victim->Send(now, &batch);
    (void)victim->NextAt(now);
  }
}

// Whoever has no key: nothing is believed, whatever the bytes are.
void TestStranger(std::mt19937_64& random) {
  Settings settings;
  settings.suite = AnySuite(random);
  VirtualPair pair({}, 1, settings);
  Batch batch;
  Stream* stream = pair.end(0).Open();
  uint8_t hello[] = "hello";
  pair.end(0).Write(stream, hello, sizeof hello);
  pair.end(0).Send(0, &batch);
  std::vector<uint8_t> genuine(batch.bytes(), batch.bytes() + batch.length(0));
  for (int round = 0; round < 300; round += 1) {
    std::vector<uint8_t> bytes = genuine;
    if (random() % 4 == 0) bytes.resize(random() % (2 * kMostDatagram));
    if (!bytes.empty()) bytes[random() % bytes.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    if (bytes == genuine) continue;
    Check(!pair.end(1).Receive(bytes.data(), bytes.size(), 0), "what was changed is refused");
  }
  std::vector<uint8_t> copy = genuine;
  Check(pair.end(1).Receive(copy.data(), copy.size(), 0), "what was not is taken");
  copy = genuine;
  Check(!pair.end(1).Receive(copy.data(), copy.size(), 0), "once");
}

// The handshake proves the key, and only the key.
void TestHandshake(std::mt19937_64& random) {
  Hello hello;
  hello.association = static_cast<uint32_t>(random());
  hello.session.fill(static_cast<uint8_t>(random()));
  hello.nonce.fill(static_cast<uint8_t>(random()));
  Check(!OffersAegis(KeyOf(1), true, hello.session, hello.nonce), "a random nonce offers nothing");
  if (random() % 2 == 0) {
    OfferAegis(KeyOf(1), true, hello.session, &hello.nonce);
    Check(OffersAegis(KeyOf(1), true, hello.session, hello.nonce), "the offer");
    Check(!OffersAegis(KeyOf(2), true, hello.session, hello.nonce) && !OffersAegis(KeyOf(1), false, hello.session, hello.nonce),
          "an offer to somebody else");
  }
  uint8_t bytes[kHelloLength], answer[kWelcomeLength];
  EncodeHello(hello, KeyOf(1), true, bytes);
  Hello read;
  Check(PeekHello(bytes, sizeof bytes, &read) && read.association == hello.association && read.nonce == hello.nonce, "HELLO");
  Check(ProveHello(bytes, KeyOf(1), true) && !ProveHello(bytes, KeyOf(2), true) && !ProveHello(bytes, KeyOf(1), false), "proof of HELLO");
  Secrets secrets;
  Nonce nonce;
  nonce.fill(9);
  DeriveSecrets(KeyOf(1), hello.session, true, hello.nonce, nonce, &secrets);
  Check(secrets.to_acceptor != secrets.to_dialer, "a key each way");
  const Suite suite = random() % 2 == 0 ? Suite::kAegis128L : Suite::kAes256Gcm;
  EncodeWelcome({hello.association, 5, nonce, suite}, bytes, secrets, answer);
  Welcome welcome;
  Check(PeekWelcome(answer, sizeof answer, &welcome) && welcome.acceptor == 5 && ProveWelcome(answer, bytes, secrets), "WELCOME");
  Check(welcome.suite == suite, "the suite chosen");
  const size_t at = random() % sizeof answer;
  answer[at] ^= static_cast<uint8_t>(1 << random() % 8);
  Check(!PeekWelcome(answer, sizeof answer, &welcome) || !ProveWelcome(answer, bytes, secrets), "a changed WELCOME");
  bytes[random() % sizeof bytes] ^= static_cast<uint8_t>(1 << random() % 8);
  Check(!PeekHello(bytes, sizeof bytes, &read) || !ProveHello(bytes, KeyOf(1), true), "a changed HELLO");
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 5;
  const uint64_t first = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
  TestField();
  TestSlowReaders();
  TestGivenUp();
  const clock_t end = clock() + static_cast<clock_t>(seconds * CLOCKS_PER_SEC);
  uint64_t rounds = 0, bytes = 0;
  do {
    std::mt19937_64 random(first + rounds);
    for (int i = 0; i < 10; i += 1) TestCode(random);
    TestHandshake(random);
    TestStranger(random);
    for (uint64_t i = 0; i < 5; i += 1) TestHostile(first * 1000 + rounds * 5 + i);
    TestFlows(first + rounds, &bytes);
    rounds += 1;
  } while (clock() < end);
  printf("rounds %lu, %lu bytes carried\n", rounds, bytes);
}
