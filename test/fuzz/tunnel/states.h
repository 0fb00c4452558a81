// What the threads keep between packets, driven by an input and held against a model that is too slow or too large for them.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <deque>
#include <unordered_set>
#include <vector>

#include "../../../src/native/tunnel/datagram.h"
#include "../../../src/native/tunnel/flows.h"
#include "../../../src/native/tunnel/replay.h"
#include "../../../src/native/tunnel/shaper.h"
#include "../../../src/native/tunnel/table.h"

namespace arctic::tunnel {

inline void Require(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "violated: %s\n", what);
  abort();
}

// Frames come out as they went in, whatever their lengths and however many wait.
inline void Waiting(const uint8_t* bytes, size_t length) {
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

// The window accepts what a list of all counters would, and knows how many are missing.
inline void Counters(const uint8_t* bytes, size_t length) {
  constexpr uint64_t kFarEnd = 8192;
  ReplayWindow window;
  std::unordered_set<uint64_t> seen;
  uint64_t highest = 0;
  int64_t missing = 0;
  for (size_t i = 0; i + 2 <= length; i += 2) {
    const uint64_t counter = highest + static_cast<uint64_t>(static_cast<int16_t>(bytes[i] << 8 | bytes[i + 1]));
    if (counter > kLastCounter) continue;
    const bool expected = counter != 0 && seen.count(counter) == 0 && (counter > highest || highest - counter < kFarEnd);
    Require(window.MayAccept(counter) == expected, "a counter is accepted once, within the window");
    if (!expected) continue;
    missing += window.Accept(counter);
    seen.insert(counter);
    if (counter > highest) highest = counter;
    Require(window.highest() == highest, "highest");
    Require(missing == static_cast<int64_t>(highest - seen.size()), "missing are those never accepted");
  }
}

// Packets come out of datagrams as they went in; those of a datagram are marked alike, and it fits the path if it can.
inline void Packing(const uint8_t* bytes, size_t length) {
  constexpr size_t kMost = 1440;
  static Packer packer;
  packer.Start(kMost);
  std::deque<std::pair<size_t, uint8_t>> wanted;
  for (size_t i = 0; i + 3 <= length; i += 3) {
    const size_t packet = 1 + (size_t{bytes[i]} << 8 | bytes[i + 1]) % 2000;
    const uint8_t tos = bytes[i + 2] & 3;
    uint8_t* to = packer.Append(packet, false, tos);
    if (to == nullptr) break;
    memset(to, tos, packet);
    wanted.emplace_back(packet, tos);
  }
  size_t free_from = 0;
  for (const Packer::Datagram& datagram : packer.datagrams()) {
    Require(datagram.offset >= free_from, "datagrams do not overlap");
    free_from = datagram.offset + datagram.text + kOverhead;
    const uint8_t* text = packer.at(datagram.offset) + kHeaderLength;
    size_t at = 0, packets = 0;
    while (at < datagram.text) {
      Require(!wanted.empty(), "no more packets than came");
      const auto [packet, tos] = wanted.front();
      wanted.pop_front();
      Require((size_t{text[at + 1]} << 8 | text[at]) == packet && text[at + kRecordHeader] == tos, "in their order");
      Require(tos == datagram.tos, "a datagram is marked as its packets are");
      at += kRecordHeader + packet;
      packets += 1;
    }
    Require(at == datagram.text && packets > 0, "records fill a datagram");
    Require(datagram.text <= kMost || packets == 1, "only what is too long by itself is too long");
  }
  Require(wanted.empty(), "every packet is in a datagram");
}

// Packets wait for their turn and are refused only when as many wait as the rate carries in 60 ms; none is held for longer than
// the rate asks, and no more leave than it allows.
inline void Shaping(const uint8_t* bytes, size_t length) {
  if (length < 2) return;
  const uint64_t rate = 1 + (uint64_t{bytes[0]} << 8 | bytes[1]) * 20'000;
  const double per_ns = static_cast<double>(rate) / 8e9;
  const size_t limit = std::max<size_t>(24 * 1500, static_cast<size_t>(per_ns * 60e6));
  Shaper shaper;
  shaper.SetRate(rate);
  std::deque<size_t> wanted;
  const uint64_t start = 1'000'000'000;
  uint64_t now = start;
  size_t waiting = 0, gone = 0, largest = 0;
  const auto leave = [&] {
    while (const Shaper::Queued* packet = shaper.Front(now)) {
      Require(!wanted.empty() && packet->bytes.size() == wanted.front(), "in their order");
      gone += wanted.front();
      waiting -= wanted.front();
      wanted.pop_front();
      shaper.Pop();
    }
    const double allowed = std::max(3000.0, per_ns * 50e6) + per_ns * static_cast<double>(now - start);
    Require(static_cast<double>(gone) <= allowed + static_cast<double>(largest) + 1, "no more than the rate allows");
  };
  for (size_t i = 2; i + 3 <= length; i += 3) {
    const size_t packet = 1 + (size_t{bytes[i]} << 8 | bytes[i + 1]) % 9000;
    now += bytes[i + 2] * uint64_t{50'000};
    const bool room = waiting == 0 || waiting + packet <= limit;
    Require(shaper.Push({std::vector<uint8_t>(packet), false, 0}, now) == room, "a packet waits while there is room");
    if (room) {
      wanted.push_back(packet);
      waiting += packet;
      largest = std::max(largest, packet);
    }
    leave();
  }
  while (!wanted.empty()) {
    const size_t before = gone;
    now += shaper.Wait() + 1'000;
    leave();
    Require(gone > before, "a packet leaves when it may");
  }
  Require(shaper.empty(), "nothing is left");
}

}  // namespace arctic::tunnel
