// Sizes in powers of two, for what is told apart by the size of a block: class 0 is up to 16 bytes,
// each further class twice as much, the last one open-ended.
#pragma once

#include <cstdint>

namespace alloctape::simulator {

inline constexpr std::uint32_t kSizeClasses = 24;

constexpr std::uint32_t size_class(std::uint64_t size) {
  if (size <= 16) return 0;
  const auto c = static_cast<std::uint32_t>(64 - __builtin_clzll((size - 1) >> 4));
  return c < kSizeClasses ? c : kSizeClasses - 1;
}
// Smallest and largest size of a class; the last class has no largest (0).
constexpr std::uint64_t class_from(std::uint32_t c) {
  return c == 0 ? 0 : (std::uint64_t{8} << c) + 1;
}
constexpr std::uint64_t class_to(std::uint32_t c) {
  return c == kSizeClasses - 1 ? 0 : std::uint64_t{16} << c;
}

}  // namespace alloctape::simulator
