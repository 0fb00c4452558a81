#include "reed_solomon.h"

#include <string.h>

#include <utility>

#include "gf256.h"

namespace arctic::kcp {
namespace {

// Rows and columns of the Cauchy matrix are named by different elements of the field.
uint8_t Row(size_t parity) { return static_cast<uint8_t>(0x80 + parity); }
uint8_t Column(size_t data) { return static_cast<uint8_t>(data); }

}  // namespace

uint8_t Coefficient(size_t parity, size_t data) {
  return GfMultiply(GfInverse(Row(parity) ^ Column(data)), Row(0) ^ Column(data));
}

void ParityEncoder::Begin(size_t parity) {
  parity_ = parity < kMostParity ? parity : kMostParity;
  length_ = 0;
  sums_.assign(parity_ * room_, 0);
}

void ParityEncoder::Add(size_t index, const uint8_t* bytes, size_t length) {
  for (size_t row = 0; row < parity_; row += 1) {
    GfMultiplyAdd(Coefficient(row, index), bytes, sums_.data() + row * room_, length);
  }
  if (length > length_) length_ = length;
}

bool RecoverShards(const Shard* data, size_t count, const Shard* parity, size_t parities, size_t length, uint8_t* const* out) {
  size_t missing[kMostParity], rows[kMostParity], wanted = 0, found = 0;
  for (size_t index = 0; index < count; index += 1) {
    if (data[index].bytes != nullptr) continue;
    if (wanted == kMostParity) return false;
    missing[wanted++] = index;
  }
  for (size_t row = 0; row < parities && found < wanted; row += 1) {
    if (parity[row].bytes != nullptr) rows[found++] = row;
  }
  if (found < wanted) return false;
  if (length == 0) return false;
  // What is left of each parity once the shards that are there have been taken out, times the inverse of the rest.
  uint8_t matrix[kMostParity][2 * kMostParity] = {};
  for (size_t r = 0; r < wanted; r += 1) {
    for (size_t c = 0; c < wanted; c += 1) matrix[r][c] = Coefficient(rows[r], missing[c]);
    matrix[r][wanted + r] = 1;
  }
  for (size_t pivot = 0; pivot < wanted; pivot += 1) {
    size_t from = pivot;
    while (from < wanted && matrix[from][pivot] == 0) from += 1;
    if (from == wanted) return false;
    if (from != pivot) {
      for (size_t c = 0; c < 2 * wanted; c += 1) std::swap(matrix[pivot][c], matrix[from][c]);
    }
    const uint8_t scale = GfInverse(matrix[pivot][pivot]);
    for (size_t c = 0; c < 2 * wanted; c += 1) matrix[pivot][c] = GfMultiply(matrix[pivot][c], scale);
    for (size_t r = 0; r < wanted; r += 1) {
      const uint8_t factor = matrix[r][pivot];
      if (r != pivot && factor != 0) GfMultiplyAdd(factor, matrix[pivot], matrix[r], 2 * wanted);
    }
  }
  std::vector<uint8_t> rest(wanted * length);
  for (size_t r = 0; r < wanted; r += 1) {
    uint8_t* sum = rest.data() + r * length;
    const Shard& shard = parity[rows[r]];
    memcpy(sum, shard.bytes, shard.length < length ? shard.length : length);
    for (size_t index = 0; index < count; index += 1) {
      if (data[index].bytes == nullptr) continue;
      const size_t bytes = data[index].length < length ? data[index].length : length;
      GfMultiplyAdd(Coefficient(rows[r], index), data[index].bytes, sum, bytes);
    }
  }
  for (size_t m = 0; m < wanted; m += 1) {
    memset(out[m], 0, length);
    for (size_t r = 0; r < wanted; r += 1) GfMultiplyAdd(matrix[m][wanted + r], rest.data() + r * length, out[m], length);
  }
  return true;
}

size_t ParityFor(size_t data, double loss, double residual) {
  if (loss <= 0) return 0;
  for (size_t parity = 0; parity < kMostParity; parity += 1) {
    // P(at most `parity` of data + parity are lost), by the terms of the binomial distribution.
    const double shards = static_cast<double>(data + parity);
    double term = 1, sum = 0;
    for (size_t i = 0; i < data + parity; i += 1) term *= 1 - loss;
    for (size_t lost = 0; lost <= parity; lost += 1) {
      sum += term;
      term *= (shards - static_cast<double>(lost)) / static_cast<double>(lost + 1) * loss / (1 - loss);
    }
    if (1 - sum <= residual) return parity;
  }
  return kMostParity;
}

}  // namespace arctic::kcp
