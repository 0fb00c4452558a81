// Feeds bytes to every decoder of the native relay. `LLVMFuzzerTestOneInput` is libFuzzer's entry; driver.cc calls the
// same function where there is no clang.
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "../../../src/native/relay/commands.h"
#include "../../../src/native/relay/frames.h"
#include "../../../src/native/relay/link_keys.h"

using namespace arctic::relay;

namespace {

void Require(bool holds) {
  if (!holds) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size: a read past its end is found.
  const std::vector<uint8_t> bytes(data, data + size);
  Header header;
  if (size >= kHeaderLength && DecodeHeader(bytes.data(), &header)) {
    Require(header.length <= kMaxPayload);
    uint8_t again[kHeaderLength];
    EncodeHeader(header.type, header.length, again);
    Require(memcmp(again, bytes.data(), sizeof again) == 0);
  }
  Open open;
  if (DecodeOpen(bytes.data(), size, &open)) {
    uint8_t again[kMaxOpen];
    Require(EncodeOpen(open, again) == size && memcmp(again, bytes.data(), size) == 0);
    Service service;
    service.id = open.service;
    service.peer = "peer";
    service.rules.push_back({std::nullopt, Prefix{open.destination, static_cast<uint8_t>(open.destination.width * 8)}});
    Require(service.Allows("peer", open) == (open.destination_port != 0 && open.destination.width == open.source.width));
    Require(!service.Allows("other", open));
  }
  SessionId id;
  Nonce nonce;
  Suite suite;
  if (size >= kHelloLength && DecodeHello(bytes.data(), &id, &nonce, &suite)) {
    uint8_t again[kHelloLength];
    EncodeHello(id, nonce, suite, again);
    Require(memcmp(again, bytes.data(), sizeof again) == 0);
  }
  if (size >= kWelcomeLength && DecodeWelcome(bytes.data(), &nonce, &suite)) {
    uint8_t again[kWelcomeLength];
    EncodeWelcome(nonce, suite, again);
    Require(memcmp(again, bytes.data(), sizeof again) == 0);
  }
  DecodeCommand(bytes.data(), size);
  if (size >= kHeaderLength + kTagLength && size <= kMaxFrame) {
    // A forged frame never opens.
    for (const Suite one : {Suite::kAes256Gcm, Suite::kAegis128L}) {
      Direction direction(Key{}, Direction::Use::kOpen, one);
      std::vector<uint8_t> frame = bytes;
      Require(!direction.OpenFrame(frame.data(), static_cast<uint32_t>(size - kHeaderLength - kTagLength)));
    }
  }
  return 0;
}
