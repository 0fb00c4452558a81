// Reads little-endian fields; past the end it gives zeros and is no longer ok.
#pragma once

#include <string.h>

#include <cstddef>
#include <cstdint>

namespace arctic::tunnel {

class Reader {
 public:
  Reader(const uint8_t* bytes, size_t length) : bytes_(bytes), left_(length) {}
  bool ok() const { return ok_; }
  size_t left() const { return left_; }
  uint8_t U8() { return static_cast<uint8_t>(Little(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Little(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Little(4)); }
  uint64_t U64() { return Little(8); }
  void Copy(void* to, size_t length) {
    if (length > left_) {
      ok_ = false;
      left_ = 0;
      memset(to, 0, length);
      return;
    }
    memcpy(to, bytes_, length);
    bytes_ += length;
    left_ -= length;
  }

 private:
  uint64_t Little(size_t length) {
    uint8_t raw[8] = {};
    Copy(raw, length);
    uint64_t value = 0;
    for (size_t i = length; i > 0; --i) value = value << 8 | raw[i - 1];
    return value;
  }

  const uint8_t* bytes_;
  size_t left_;
  bool ok_ = true;
};

}  // namespace arctic::tunnel
