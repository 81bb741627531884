// What the replay does to blocks in the program's stead, outside the timed window: see
// docs/measuring.md, "Touching".
#pragma once

#include <cstdint>
#include <cstring>

#include "simulator/replay_shared.h"

namespace alloctape::simulator {

class Touching {
 public:
  Touching(const SharedHeader& h, std::uint64_t page_bytes)
      : mode_(h.touch),
        percent_(h.touch_percent),
        zeroed_(h.touch_zeroed != 0),
        reads_(h.touch_reads != 0),
        page_(page_bytes) {}

  bool writes() const { return mode_ != Touch::kNone; }
  bool writes_zeroed() const { return zeroed_; }
  bool reads() const { return reads_; }

  // Writes to a block of `size` bytes whose first `from` bytes are not new.
  [[gnu::always_inline]] void write(void* block, std::uint64_t from, std::uint64_t size) const {
    if (mode_ == Touch::kNone) return;
    if (mode_ == Touch::kPage && size <= page_) [[likely]] {
      // At most two pages; nearly all blocks of nearly all programs.
      if (from >= size) return;
      auto* p = static_cast<volatile unsigned char*>(block);
      p[from] = kByte;
      const auto at = reinterpret_cast<std::uintptr_t>(block);
      if (((at + from) ^ (at + size - 1)) & ~(page_ - 1)) [[unlikely]]
        p[size - 1] = kByte;
      return;
    }
    write_long(block, from, size);
  }

  // Reads a byte of each page, as a program would that looks at its data before it lets go.
  [[gnu::noinline]] void read(const void* block, std::uint64_t size) const {
    const auto* p = static_cast<const volatile unsigned char*>(block);
    const std::uint64_t end = part(size);
    for (std::uint64_t i = 0; i < end; i = next_page(block, i)) (void)p[i];
  }

 private:
  static constexpr unsigned char kByte = 0xa5;

  std::uint64_t part(std::uint64_t size) const {
    if (mode_ != Touch::kPercent || size == 0) return size;
    const std::uint64_t n = size / 100 * percent_ + size % 100 * percent_ / 100;
    return n != 0 ? n : 1;
  }
  std::uint64_t next_page(const void* block, std::uint64_t i) const {
    const auto at = reinterpret_cast<std::uintptr_t>(block);
    return ((at + i) | (page_ - 1)) + 1 - at;
  }
  [[gnu::noinline]] void write_long(void* block, std::uint64_t from, std::uint64_t size) const {
    const std::uint64_t end = part(size);
    if (from >= end) return;
    auto* p = static_cast<volatile unsigned char*>(block);
    if (mode_ == Touch::kFull) {
      std::memset(static_cast<unsigned char*>(block) + from, kByte, end - from);
      return;
    }
    for (std::uint64_t i = from; i < end; i = next_page(block, i)) p[i] = kByte;
  }

  Touch mode_;
  std::uint32_t percent_;
  bool zeroed_, reads_;
  std::uint64_t page_;
};

}  // namespace alloctape::simulator
