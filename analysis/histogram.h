// Counts by powers of two: cheap to fill, small to keep, exact at its edges.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace alloctape::analysis {

// Bucket 0 holds the value 0, bucket i > 0 the values 2^(i-1) .. 2^i - 1.
struct Log2Histogram {
  static constexpr std::size_t kBuckets = 65;
  std::array<std::uint64_t, kBuckets> count{};
  std::array<std::uint64_t, kBuckets> sum{};  // of the values, wrapping

  static std::size_t bucket(std::uint64_t value) { return std::bit_width(value); }
  static std::uint64_t lowest(std::size_t bucket) {
    return bucket == 0 ? 0 : std::uint64_t{1} << (bucket - 1);
  }
  static std::uint64_t highest(std::size_t bucket) {
    return bucket == 0 ? 0 : lowest(bucket) + (lowest(bucket) - 1);
  }
  void add(std::uint64_t value) {
    const std::size_t b = bucket(value);
    ++count[b];
    sum[b] += value;
  }
};

// Durations by powers of ten: below 10 ns, 10 ns .. 100 ns, ..., 1000 s and more.
struct DecadeHistogram {
  static constexpr std::size_t kBuckets = 13;
  std::array<std::uint64_t, kBuckets> count{};

  // Bucket i holds lowest_ns(i) <= ns < lowest_ns(i + 1).
  static constexpr std::uint64_t lowest_ns(std::size_t bucket) {
    std::uint64_t ns = bucket == 0 ? 0 : 1;
    for (std::size_t i = 0; i < bucket; ++i) ns *= 10;
    return ns;
  }
  void add(std::uint64_t ns) {
    std::size_t b = 0;
    std::uint64_t limit = 10;
    while (b + 1 < kBuckets && ns >= limit) {
      ++b;
      limit *= 10;
    }
    ++count[b];
  }
};

}  // namespace alloctape::analysis
