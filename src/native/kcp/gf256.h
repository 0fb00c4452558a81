// Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, the field of the Reed-Solomon code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace arctic::kcp {

uint8_t GfMultiply(uint8_t a, uint8_t b);
// `a` is not 0.
uint8_t GfInverse(uint8_t a);
// to[i] += factor * from[i]; the two do not overlap.
void GfMultiplyAdd(uint8_t factor, const uint8_t* from, uint8_t* to, size_t length);

}  // namespace arctic::kcp
