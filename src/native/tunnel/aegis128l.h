// AEGIS-128L with a tag of 128 bits (draft-irtf-cfrg-aegis-aead, section 2), by the processor's AES instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace arctic::tunnel {

constexpr size_t kAegisKeyLength = 16;
constexpr size_t kAegisNonceLength = 16;
constexpr size_t kAegisTagLength = 16;

// Whether this processor can, and does: the draft's own example is worked once before the first use.
bool HasAegis();

// Time and memory accesses depend on lengths alone. False where there is no AEGIS.
bool AegisSeal(const uint8_t key[kAegisKeyLength], const uint8_t nonce[kAegisNonceLength], const uint8_t* aad,
               size_t aad_length, uint8_t* text, size_t length, uint8_t tag[kAegisTagLength]);
// False, with the text wiped, unless the tag fits.
bool AegisOpen(const uint8_t key[kAegisKeyLength], const uint8_t nonce[kAegisNonceLength], const uint8_t* aad,
               size_t aad_length, uint8_t* text, size_t length, const uint8_t tag[kAegisTagLength]);

}  // namespace arctic::tunnel
