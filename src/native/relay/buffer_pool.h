// Input buffers of links: a few are kept for the next, the others go back to the system at once. From the heap, thousands of
// busy links would leave it large for good.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace arctic::relay {

class BufferPool {
 public:
  struct Return {
    BufferPool* pool = nullptr;
    void operator()(uint8_t* buffer) const { pool->Give(buffer); }
  };
  using Buffer = std::unique_ptr<uint8_t[], Return>;

  explicit BufferPool(size_t length) : length_(length) {}
  ~BufferPool() {
    for (uint8_t* buffer : spare_) Release(buffer);
  }
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Empty when the system has no memory.
  Buffer Take() {
    if (spare_.empty()) return Buffer(Acquire(), Return{this});
    uint8_t* buffer = spare_.back();
    spare_.pop_back();
    return Buffer(buffer, Return{this});
  }

 private:
  static constexpr size_t kMostSpare = 64;

  void Give(uint8_t* buffer) {
    if (spare_.size() < kMostSpare) {
      spare_.push_back(buffer);
    } else {
      Release(buffer);
    }
  }
#if defined(__SANITIZE_ADDRESS__)
  // Of the heap, whose bounds the sanitizer watches.
  uint8_t* Acquire() const { return new uint8_t[length_]; }
  void Release(uint8_t* buffer) const { delete[] buffer; }
#else
  uint8_t* Acquire() const {
    void* pages = mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? nullptr : static_cast<uint8_t*>(pages);
  }
  void Release(uint8_t* buffer) const { munmap(buffer, length_); }
#endif

  const size_t length_;
  std::vector<uint8_t*> spare_;
};

}  // namespace arctic::relay
