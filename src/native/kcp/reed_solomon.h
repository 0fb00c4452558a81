// A systematic Reed-Solomon code: data shards travel as they are, parity shards are combinations of them. Any k of the
// k + m shards of a group give the k data shards. The matrix is Cauchy's, its columns scaled so that the first parity is
// the plain sum; every square part of it can be inverted, so a group may end early with fewer data or parity shards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace arctic::kcp {

constexpr size_t kMostData = 64;
constexpr size_t kMostParity = 48;

uint8_t Coefficient(size_t parity, size_t data);

// Sums up the parity of a group while its data shards pass by; shorter shards count as padded with zeros.
class ParityEncoder {
 public:
  explicit ParityEncoder(size_t shard_room) : room_(shard_room) {}
  void Begin(size_t parity);
  void Add(size_t index, const uint8_t* bytes, size_t length);
  size_t parity() const { return parity_; }
  // Of every parity shard: that of the longest data shard.
  size_t length() const { return length_; }
  const uint8_t* shard(size_t index) const { return sums_.data() + index * room_; }

 private:
  size_t room_, parity_ = 0, length_ = 0;
  std::vector<uint8_t> sums_;
};

struct Shard {
  const uint8_t* bytes = nullptr;
  size_t length = 0;
};

// Fills in the data shards that are missing (null) among `count`; `parity` has null where one is missing, too. Each
// recovered shard has `length` bytes at `out[i]`, in the order of the missing. False when too few parities are there.
bool RecoverShards(const Shard* data, size_t count, const Shard* parity, size_t parities, size_t length, uint8_t* const* out);

// Fewest parity shards for `data` shards so that, when each is lost with `loss`, a group cannot be recovered with at
// most `residual` probability. At most kMostParity.
size_t ParityFor(size_t data, double loss, double residual);

}  // namespace arctic::kcp
