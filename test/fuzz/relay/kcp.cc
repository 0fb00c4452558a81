// A member plays a script of datagrams to a KCP association, sealed with the right key or not. libFuzzer's entry; driver.cc
// where there is no clang.
// Script: one byte (bit 0: the association is the dialer's), then again and again: how (bits 0-1 type, bit 2 not sealed, bit 3
// sent twice, bit 4 the owner reads, bit 5 it writes, bit 6 it lets go, bit 7 time passes), skip, index, data, length (two
// bytes), text.
#include <stdint.h>
#include <string.h>

#include <algorithm>

#include "../../../src/native/kcp/association.h"

using namespace arctic;
using namespace arctic::kcp;

namespace {

Key KeyOf(uint8_t fill) {
  Key key;
  key.fill(fill);
  return key;
}

enum How : uint8_t { kType = 3, kOpenly = 4, kTwice = 8, kReads = 16, kWrites = 32, kLetsGo = 64, kLater = 128 };

void Decode(const uint8_t* bytes, size_t length) {
  Hello hello;
  if (PeekHello(bytes, length, &hello)) (void)ProveHello(bytes, KeyOf(1), true);
  Welcome welcome;
  (void)PeekWelcome(bytes, length, &welcome);
  DatagramHeader header;
  (void)DecodeHeader(bytes, length, &header);
  Ack ack;
  (void)DecodeAck(bytes, length, &ack);
}

void Own(Association& end, uint8_t how, int64_t now) {
  uint8_t bytes[4096] = {};
  for (Stream* stream : end.opened) stream->owner = &end;
  end.opened.clear();
  while (!end.killed.empty()) {
    Stream* stream = end.killed.back();
    end.killed.pop_back();
    end.Kill(stream);
  }
  while (!end.readable.empty()) {
    Stream* stream = end.readable.back();
    end.readable.pop_back();
    stream->told_readable = false;
    if ((how & kReads) != 0) end.Consume(stream, end.Peek(stream, bytes, sizeof bytes), now);
    if ((how & kWrites) != 0) end.Write(stream, bytes, 2000);
    if ((how & kLetsGo) != 0) {
      if ((how & kWrites) != 0) {
        end.Finish(stream);
      } else {
        end.Kill(stream);
      }
    }
  }
  end.writable.clear();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Decode(data, size);
  if (size < 1) return 0;
  Settings settings;
  if ((data[0] & 2) != 0 && arctic::relay::HasSuite(Suite::kAegis128L)) settings.suite = Suite::kAegis128L;
  Association end((data[0] & 1) != 0, KeyOf(1), KeyOf(2), 7, 0, 1000, settings);
  Sealer sealer(KeyOf(2), settings.suite);
  Batch batch;
  int64_t now = 0;
  uint64_t counter = 1, control = 1;
  if (end.dialer()) {
    Stream* stream = end.Open();
    stream->owner = &end;
    const uint8_t hello[] = "hello";
    end.Write(stream, hello, sizeof hello);
  }
  for (size_t at = 1; at + 6 <= size && !end.dead();) {
    const uint8_t how = data[at], skip = data[at + 1];
    DatagramHeader header;
    header.type = static_cast<Type>(std::max<int>(how & kType, 1));
    header.association = 7;
    header.index = static_cast<uint8_t>(data[at + 2] % 32);
    header.data = static_cast<uint8_t>(data[at + 3] % 32);
    const size_t length = std::min({static_cast<size_t>(Load16(data + at + 4)), size - at - 6, kMostText});
    if (header.type == Type::kControl) {
      header.counter = kControlBit | control++;
    } else {
      counter += 1 + skip % 64;
      header.counter = counter + 64;
    }
    uint8_t datagram[kMostDatagram], copy[kMostDatagram];
    memcpy(datagram + kHeader, data + at + 6, length);
    at += 6 + length;
    if ((how & kOpenly) != 0) {
      EncodeHeader(header, datagram);
      memset(datagram + kHeader + length, 0, kTag);
    } else if (!sealer.Seal(header, datagram, length)) {
      return 0;
    }
    const size_t whole = kHeader + length + kTag;
    memcpy(copy, datagram, whole);
    end.Receive(datagram, whole, now);
    if ((how & kTwice) != 0 && !end.dead()) end.Receive(copy, whole, now);
    if (!end.dead()) Own(end, how, now);
    batch.Clear();
    end.Send(now, &batch);
    now += (how & kLater) != 0 ? 1000 * (1 + static_cast<int64_t>(skip)) : 100;
    (void)end.NextAt(now);
  }
  return 0;
}
