#include "aegis128l.h"

#include <openssl/crypto.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace arctic::tunnel {

#if defined(__x86_64__)
namespace {

#define AEGIS_TARGET __attribute__((target("aes,sse2")))
#define AEGIS_INLINE AEGIS_TARGET inline __attribute__((always_inline))

constexpr size_t kBlock = 32;

alignas(16) constexpr uint8_t kC0[16] = {0x00, 0x01, 0x01, 0x02, 0x03, 0x05, 0x08, 0x0d,
                                         0x15, 0x22, 0x37, 0x59, 0x90, 0xe9, 0x79, 0x62};
alignas(16) constexpr uint8_t kC1[16] = {0xdb, 0x3d, 0x18, 0x55, 0x6d, 0xc2, 0x2f, 0xf1,
                                         0x20, 0x11, 0x31, 0x42, 0x73, 0xb5, 0x28, 0xdd};

struct State {
  __m128i s[8];
};

AEGIS_INLINE __m128i Load(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
AEGIS_INLINE void Store(uint8_t* to, __m128i value) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value); }

AEGIS_INLINE void Update(State& state, __m128i m0, __m128i m1) {
  __m128i* s = state.s;
  const __m128i last = s[7];
  s[7] = _mm_aesenc_si128(s[6], s[7]);
  s[6] = _mm_aesenc_si128(s[5], s[6]);
  s[5] = _mm_aesenc_si128(s[4], s[5]);
  s[4] = _mm_aesenc_si128(s[3], _mm_xor_si128(s[4], m1));
  s[3] = _mm_aesenc_si128(s[2], s[3]);
  s[2] = _mm_aesenc_si128(s[1], s[2]);
  s[1] = _mm_aesenc_si128(s[0], s[1]);
  s[0] = _mm_aesenc_si128(last, _mm_xor_si128(s[0], m0));
}

AEGIS_INLINE void Start(State& state, const uint8_t* key_bytes, const uint8_t* nonce_bytes) {
  const __m128i key = Load(key_bytes), nonce = Load(nonce_bytes), c0 = Load(kC0), c1 = Load(kC1);
  state.s[0] = state.s[4] = _mm_xor_si128(key, nonce);
  state.s[1] = state.s[3] = c1;
  state.s[2] = c0;
  state.s[5] = state.s[7] = _mm_xor_si128(key, c0);
  state.s[6] = _mm_xor_si128(key, c1);
  for (int i = 0; i < 10; ++i) Update(state, nonce, key);
}

AEGIS_INLINE void Absorb(State& state, const uint8_t* aad, size_t length) {
  for (; length >= kBlock; aad += kBlock, length -= kBlock) Update(state, Load(aad), Load(aad + 16));
  if (length == 0) return;
  uint8_t padded[kBlock] = {};
  memcpy(padded, aad, length);
  Update(state, Load(padded), Load(padded + 16));
}

AEGIS_INLINE void KeyStream(const State& state, __m128i* z0, __m128i* z1) {
  const __m128i* s = state.s;
  *z0 = _mm_xor_si128(_mm_xor_si128(s[6], s[1]), _mm_and_si128(s[2], s[3]));
  *z1 = _mm_xor_si128(_mm_xor_si128(s[2], s[5]), _mm_and_si128(s[6], s[7]));
}

AEGIS_INLINE __m128i Finish(State& state, size_t aad_length, size_t length) {
  const __m128i lengths = _mm_set_epi64x(static_cast<long long>(length * 8), static_cast<long long>(aad_length * 8));
  const __m128i mixed = _mm_xor_si128(state.s[2], lengths);
  for (int i = 0; i < 7; ++i) Update(state, mixed, mixed);
  __m128i tag = state.s[0];
  for (int i = 1; i < 7; ++i) tag = _mm_xor_si128(tag, state.s[i]);
  return tag;
}

AEGIS_TARGET void Seal(const uint8_t* key, const uint8_t* nonce, const uint8_t* aad, size_t aad_length, uint8_t* text,
                       size_t length, uint8_t* tag) {
  State state;
  Start(state, key, nonce);
  Absorb(state, aad, aad_length);
  __m128i z0, z1;
  size_t left = length;
  for (; left >= kBlock; text += kBlock, left -= kBlock) {
    KeyStream(state, &z0, &z1);
    const __m128i t0 = Load(text), t1 = Load(text + 16);
    Store(text, _mm_xor_si128(t0, z0));
    Store(text + 16, _mm_xor_si128(t1, z1));
    Update(state, t0, t1);
  }
  if (left > 0) {
    uint8_t padded[kBlock] = {};
    memcpy(padded, text, left);
    KeyStream(state, &z0, &z1);
    const __m128i t0 = Load(padded), t1 = Load(padded + 16);
    Store(padded, _mm_xor_si128(t0, z0));
    Store(padded + 16, _mm_xor_si128(t1, z1));
    memcpy(text, padded, left);
    Update(state, t0, t1);
  }
  Store(tag, Finish(state, aad_length, length));
}

// Writes the tag that the text should have had.
AEGIS_TARGET void Decrypt(const uint8_t* key, const uint8_t* nonce, const uint8_t* aad, size_t aad_length, uint8_t* text,
                          size_t length, uint8_t* tag) {
  State state;
  Start(state, key, nonce);
  Absorb(state, aad, aad_length);
  __m128i z0, z1;
  size_t left = length;
  for (; left >= kBlock; text += kBlock, left -= kBlock) {
    KeyStream(state, &z0, &z1);
    const __m128i t0 = _mm_xor_si128(Load(text), z0), t1 = _mm_xor_si128(Load(text + 16), z1);
    Store(text, t0);
    Store(text + 16, t1);
    Update(state, t0, t1);
  }
  if (left > 0) {
    uint8_t padded[kBlock] = {};
    memcpy(padded, text, left);
    KeyStream(state, &z0, &z1);
    Store(padded, _mm_xor_si128(Load(padded), z0));
    Store(padded + 16, _mm_xor_si128(Load(padded + 16), z1));
    memset(padded + left, 0, kBlock - left);
    memcpy(text, padded, left);
    Update(state, Load(padded), Load(padded + 16));
  }
  Store(tag, Finish(state, aad_length, length));
}

// Test vector 5 of the draft's appendix A.2: text and additional data of more than one block, neither a multiple of one.
bool WorksTheExample() {
  const uint8_t key[16] = {0x10, 0x01}, nonce[16] = {0x10, 0x00, 0x02};
  const uint8_t sealed[40] = {0xb3, 0x10, 0x52, 0xad, 0x1c, 0xca, 0x4e, 0x29, 0x1a, 0xbc, 0xf2, 0xdf, 0x35, 0x02,
                              0xe6, 0xbd, 0xb1, 0xbf, 0xd6, 0xdb, 0x36, 0x79, 0x8b, 0xe3, 0x60, 0x7b, 0x1f, 0x94,
                              0xd3, 0x44, 0x78, 0xaa, 0x7e, 0xde, 0x7f, 0x7a, 0x99, 0x0f, 0xec, 0x10};
  const uint8_t wanted[16] = {0x75, 0x42, 0xa7, 0x45, 0x73, 0x30, 0x14, 0xf9,
                              0x47, 0x44, 0x17, 0xb3, 0x37, 0x39, 0x95, 0x07};
  uint8_t aad[42], text[40], tag[16];
  for (size_t i = 0; i < sizeof aad; ++i) aad[i] = static_cast<uint8_t>(i);
  for (size_t i = 0; i < sizeof text; ++i) text[i] = static_cast<uint8_t>(0x10 + i);
  Seal(key, nonce, aad, sizeof aad, text, sizeof text, tag);
  if (memcmp(text, sealed, sizeof text) != 0 || memcmp(tag, wanted, sizeof tag) != 0) return false;
  if (!AegisOpen(key, nonce, aad, sizeof aad, text, sizeof text, wanted)) return false;
  for (size_t i = 0; i < sizeof text; ++i)
    if (text[i] != 0x10 + i) return false;
  return true;
}

}  // namespace

bool HasAegis() {
  static const bool has = __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse2") && WorksTheExample();
  return has;
}

bool AegisSeal(const uint8_t key[kAegisKeyLength], const uint8_t nonce[kAegisNonceLength], const uint8_t* aad,
               size_t aad_length, uint8_t* text, size_t length, uint8_t tag[kAegisTagLength]) {
  Seal(key, nonce, aad, aad_length, text, length, tag);
  return true;
}

bool AegisOpen(const uint8_t key[kAegisKeyLength], const uint8_t nonce[kAegisNonceLength], const uint8_t* aad,
               size_t aad_length, uint8_t* text, size_t length, const uint8_t tag[kAegisTagLength]) {
  uint8_t fitting[kAegisTagLength];
  Decrypt(key, nonce, aad, aad_length, text, length, fitting);
  if (CRYPTO_memcmp(fitting, tag, sizeof fitting) == 0) return true;
  OPENSSL_cleanse(text, length);
  OPENSSL_cleanse(fitting, sizeof fitting);
  return false;
}

#else

// Not written for this processor: AES-256-GCM serves.
bool HasAegis() { return false; }
bool AegisSeal(const uint8_t*, const uint8_t*, const uint8_t*, size_t, uint8_t*, size_t, uint8_t*) { return false; }
bool AegisOpen(const uint8_t*, const uint8_t*, const uint8_t*, size_t, uint8_t*, size_t, const uint8_t*) { return false; }

#endif

}  // namespace arctic::tunnel
