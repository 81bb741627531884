// Latencies as a distribution: a log-linear histogram of clock ticks in shared memory. One lane
// writes it, without atomics; the driver reads it when the run is over (or has died).
//
// Values up to 63 have a bucket each; above, every power of two is cut into 32 equal buckets. A
// bucket is at most 1/32 of its value wide and is reported by its middle: an error of at most 1.6%.
#pragma once

#include <cstdint>

namespace alloctape::simulator {

struct LatencyHistogram {
  static constexpr int kSubBits = 5;
  static constexpr int kTopBit = 43;  // 2^44 ticks: more than an hour at any clock rate we know
  static constexpr std::uint32_t kBuckets = ((kTopBit - kSubBits) << kSubBits) + (2 << kSubBits);

  std::uint64_t sum_ticks;
  std::uint64_t max_ticks;
  std::uint64_t buckets[kBuckets];

  static constexpr std::uint32_t bucket_of(std::uint64_t ticks) {
    if (ticks < (2u << kSubBits)) return static_cast<std::uint32_t>(ticks);
    if (ticks >> (kTopBit + 1)) return kBuckets - 1;
    const int shift = 63 - __builtin_clzll(ticks) - kSubBits;
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(shift) << kSubBits) +
                                      (ticks >> shift));
  }
  static constexpr std::uint64_t bucket_low(std::uint32_t bucket) {
    if (bucket < (2u << kSubBits)) return bucket;
    const std::uint32_t shift = (bucket >> kSubBits) - 1;
    return static_cast<std::uint64_t>(bucket - (shift << kSubBits)) << shift;
  }
  static constexpr double bucket_middle(std::uint32_t bucket) {
    if (bucket < (2u << kSubBits)) return bucket;
    return (static_cast<double>(bucket_low(bucket)) +
            static_cast<double>(bucket_low(bucket + 1) - 1)) /
           2;
  }

  void add(std::uint64_t ticks) {
    ++buckets[bucket_of(ticks)];
    sum_ticks += ticks;
    if (ticks > max_ticks) max_ticks = ticks;
  }
  void merge(const LatencyHistogram& other) {
    for (std::uint32_t i = 0; i < kBuckets; ++i) buckets[i] += other.buckets[i];
    sum_ticks += other.sum_ticks;
    if (other.max_ticks > max_ticks) max_ticks = other.max_ticks;
  }
  std::uint64_t count() const {
    std::uint64_t n = 0;
    for (const std::uint64_t b : buckets) n += b;
    return n;
  }
  // The value that a share of 0 < q <= 1 of all values does not exceed (nearest rank), never above
  // the exact maximum. 0 when empty.
  double quantile(double q) const {
    const std::uint64_t n = count();
    if (n == 0) return 0;
    auto rank = static_cast<std::uint64_t>(q * static_cast<double>(n));
    if (static_cast<double>(rank) < q * static_cast<double>(n)) ++rank;
    if (rank == 0) rank = 1;
    std::uint64_t seen = 0;
    for (std::uint32_t i = 0; i < kBuckets; ++i) {
      seen += buckets[i];
      if (seen >= rank) {
        const double middle = bucket_middle(i);
        const auto top = static_cast<double>(max_ticks);
        return middle < top ? middle : top;
      }
    }
    return static_cast<double>(max_ticks);
  }
};

}  // namespace alloctape::simulator
