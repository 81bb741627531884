// Counts by powers of two: cheap to fill, small to keep, exact at its edges.
#pragma once

#include <algorithm>
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

// Durations with quantiles: 32 buckets to each power of two, so that a quantile is right within 3%.
// 15 KiB.
class QuantileHistogram {
 public:
  void add(std::uint64_t value) {
    ++count_;
    sum_ += static_cast<double>(value);
    max_ = value > max_ ? value : max_;
    ++buckets_[index(value)];
  }
  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  // The smallest value that at least this share of the values does not exceed.
  std::uint64_t quantile(double share) const {
    const double wanted = share * static_cast<double>(count_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += buckets_[i];
      if (seen != 0 && static_cast<double>(seen) >= wanted) return std::min(highest(i), max_);
    }
    return max_;
  }

 private:
  static constexpr unsigned kSubBits = 5;
  static constexpr std::uint64_t kSub = 1 << kSubBits;
  static constexpr std::size_t kBuckets = (64 - kSubBits + 1) << kSubBits;
  // Exact below 32; above, the leading bit and the five after it.
  static std::size_t index(std::uint64_t value) {
    if (value < kSub) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kSubBits - 1;
    return (static_cast<std::size_t>(shift) << kSubBits) + (value >> shift);
  }
  static std::uint64_t highest(std::size_t i) {
    if (i < kSub) return i;
    const std::size_t shift = (i >> kSubBits) - 1;
    return (((i & (kSub - 1)) + kSub + 1) << shift) - 1;
  }

  std::uint64_t count_ = 0, max_ = 0;
  double sum_ = 0;
  std::array<std::uint64_t, kBuckets> buckets_{};
};

}  // namespace alloctape::analysis
