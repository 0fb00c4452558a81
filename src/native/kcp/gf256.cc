#include "gf256.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace arctic::kcp {
namespace {

constexpr unsigned kPolynomial = 0x11d;

struct Tables {
  uint8_t exponent[510], logarithm[256];
  // Products of a factor with the low and the high half of a byte: what PSHUFB looks up.
  alignas(16) uint8_t low[256][16], high[256][16];

  Tables() {
    unsigned value = 1;
    logarithm[0] = 0;
    for (unsigned power = 0; power < 255; power += 1) {
      exponent[power] = exponent[power + 255] = static_cast<uint8_t>(value);
      logarithm[value] = static_cast<uint8_t>(power);
      value <<= 1;
      if (value > 255) value ^= kPolynomial;
    }
    for (unsigned factor = 0; factor < 256; factor += 1) {
      for (unsigned half = 0; half < 16; half += 1) {
        low[factor][half] = Multiply(static_cast<uint8_t>(factor), static_cast<uint8_t>(half));
        high[factor][half] = Multiply(static_cast<uint8_t>(factor), static_cast<uint8_t>(half << 4));
      }
    }
  }

  uint8_t Multiply(uint8_t a, uint8_t b) const { return a == 0 || b == 0 ? 0 : exponent[logarithm[a] + logarithm[b]]; }
};

const Tables& tables() {
  static const Tables all;
  return all;
}

void AddScalar(uint8_t factor, const uint8_t* from, uint8_t* to, size_t length) {
  const uint8_t* low = tables().low[factor];
  const uint8_t* high = tables().high[factor];
  for (size_t at = 0; at < length; at += 1) to[at] ^= static_cast<uint8_t>(low[from[at] & 15] ^ high[from[at] >> 4]);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) size_t AddAvx2(uint8_t factor, const uint8_t* from, uint8_t* to, size_t length) {
  const __m256i low = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(tables().low[factor])));
  const __m256i high = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(tables().high[factor])));
  const __m256i mask = _mm256_set1_epi8(15);
  size_t at = 0;
  for (; at + 32 <= length; at += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at));
    const __m256i product =
        _mm256_xor_si256(_mm256_shuffle_epi8(low, _mm256_and_si256(bytes, mask)),
                         _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi64(bytes, 4), mask)));
    auto* sum = reinterpret_cast<__m256i*>(to + at);
    _mm256_storeu_si256(sum, _mm256_xor_si256(_mm256_loadu_si256(sum), product));
  }
  return at;
}

__attribute__((target("ssse3"))) size_t AddSsse3(uint8_t factor, const uint8_t* from, uint8_t* to, size_t length) {
  const __m128i low = _mm_load_si128(reinterpret_cast<const __m128i*>(tables().low[factor]));
  const __m128i high = _mm_load_si128(reinterpret_cast<const __m128i*>(tables().high[factor]));
  const __m128i mask = _mm_set1_epi8(15);
  size_t at = 0;
  for (; at + 16 <= length; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    const __m128i product = _mm_xor_si128(_mm_shuffle_epi8(low, _mm_and_si128(bytes, mask)),
                                          _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi64(bytes, 4), mask)));
    auto* sum = reinterpret_cast<__m128i*>(to + at);
    _mm_storeu_si128(sum, _mm_xor_si128(_mm_loadu_si128(sum), product));
  }
  return at;
}

size_t AddVector(uint8_t factor, const uint8_t* from, uint8_t* to, size_t length) {
  if (__builtin_cpu_supports("avx2")) return AddAvx2(factor, from, to, length);
  if (__builtin_cpu_supports("ssse3")) return AddSsse3(factor, from, to, length);
  return 0;
}
#else
size_t AddVector(uint8_t, const uint8_t*, uint8_t*, size_t) { return 0; }
#endif

}  // namespace

uint8_t GfMultiply(uint8_t a, uint8_t b) { return tables().Multiply(a, b); }

uint8_t GfInverse(uint8_t a) { return tables().exponent[255 - tables().logarithm[a]]; }

void GfMultiplyAdd(uint8_t factor, const uint8_t* from, uint8_t* to, size_t length) {
  if (factor == 0) return;
  const size_t done = AddVector(factor, from, to, length);
  AddScalar(factor, from + done, to + done, length - done);
}

}  // namespace arctic::kcp
