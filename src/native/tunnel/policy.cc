#include "policy.h"

#include <string.h>

#include <algorithm>
#include <numeric>

#include "reader.h"

namespace arctic::tunnel {
namespace {

void Mask(uint8_t* address, size_t length, uint8_t prefix) {
  for (size_t i = 0; i < length; ++i) {
    const int bits = static_cast<int>(prefix) - static_cast<int>(i * 8);
    if (bits <= 0) {
      address[i] = 0;
    } else if (bits < 8) {
      address[i] &= static_cast<uint8_t>(0xff << (8 - bits));
    }
  }
}

}  // namespace

std::shared_ptr<const Policy> Policy::Parse(const uint8_t* bytes, size_t length) {
  Reader in(bytes, length);
  auto policy = std::make_shared<Policy>();
  for (Side* side : {&policy->entries_, &policy->exits_}) {
    side->fallback = in.U32();
    const uint32_t classes = in.U32();
    for (uint32_t i = 0; i < classes && in.ok(); ++i) {
      Class one{};
      one.family = in.U8();
      one.source = in.U8();
      one.dest = in.U8();
      const uint8_t zero = in.U8();
      const uint32_t routes = in.U32();
      if (!in.ok() || (one.family != 4 && one.family != 6) || zero != 0) return nullptr;
      const size_t address = one.family == 4 ? 4 : 16;
      for (const uint8_t prefix : {one.source, one.dest})
        if (prefix != kAnyAddress && prefix > address * 8) return nullptr;
      one.key = (one.source == kAnyAddress ? 0 : address) + (one.dest == kAnyAddress ? 0 : address);
      if (one.key == 0 || routes > in.left() / (one.key + 4)) return nullptr;
      std::vector<uint8_t> keys(routes * one.key);
      std::vector<uint32_t> services(routes);
      for (uint32_t r = 0; r < routes; ++r) {
        in.Copy(keys.data() + r * one.key, one.key);
        services[r] = in.U32();
      }
      const size_t key = one.key;
      bool sorted = true;
      for (uint32_t r = 1; r < routes && sorted; ++r)
        sorted = memcmp(keys.data() + (r - 1) * key, keys.data() + r * key, key) <= 0;
      if (sorted) {
        one.keys = std::move(keys);
        one.services = std::move(services);
        side->classes.push_back(std::move(one));
        continue;
      }
      std::vector<uint32_t> order(routes);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        return memcmp(keys.data() + a * key, keys.data() + b * key, key) < 0;
      });
      one.keys.resize(keys.size());
      one.services.resize(routes);
      for (uint32_t r = 0; r < routes; ++r) {
        memcpy(one.keys.data() + r * key, keys.data() + order[r] * key, key);
        one.services[r] = services[order[r]];
      }
      side->classes.push_back(std::move(one));
    }
  }
  return in.ok() && in.left() == 0 ? policy : nullptr;
}

uint32_t Policy::Side::Find(const uint8_t* source, const uint8_t* dest, size_t address_length) const {
  for (const Class& one : classes) {
    if ((one.family == 4 ? 4u : 16u) != address_length) continue;
    uint8_t wanted[32];
    size_t at = 0;
    if (one.source != kAnyAddress) {
      memcpy(wanted, source, address_length);
      Mask(wanted, address_length, one.source);
      at = address_length;
    }
    if (one.dest != kAnyAddress) {
      memcpy(wanted + at, dest, address_length);
      Mask(wanted + at, address_length, one.dest);
    }
    size_t low = 0, high = one.services.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (memcmp(one.keys.data() + middle * one.key, wanted, one.key) < 0) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low < one.services.size() && memcmp(one.keys.data() + low * one.key, wanted, one.key) == 0)
      return one.services[low];
  }
  return fallback;
}

uint32_t Policy::Outbound(const Packet& packet) const {
  const uint32_t service = entries_.Find(packet.source, packet.dest, packet.address_length);
  return service != kNoService ? service : exits_.Find(packet.dest, packet.source, packet.address_length);
}

uint32_t Policy::Inbound(const Packet& packet) const {
  const uint32_t service = exits_.Find(packet.source, packet.dest, packet.address_length);
  return service != kNoService ? service : entries_.Find(packet.dest, packet.source, packet.address_length);
}

bool Policy::MayArrive(const Packet& packet, const uint8_t* bytes, size_t length) const {
  if (Inbound(packet) != kNoService) return true;
  // Any router on the way may say that a packet did not get through; what it quotes has to be one of ours.
  const size_t quoted = QuotedOffset(packet, bytes, length);
  Packet ours;
  return quoted != 0 && ParseQuoted(bytes + quoted, length - quoted, &ours) && ours.version == packet.version &&
         Outbound(ours) != kNoService;
}

}  // namespace arctic::tunnel
