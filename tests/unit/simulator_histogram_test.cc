#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "simulator/latency_histogram.h"
#include "simulator/size_class.h"
#include "simulator/slow_calls.h"

namespace alloctape::simulator {
namespace {

using H = LatencyHistogram;

TEST(LatencyHistogram, BucketsCoverEveryValueOnceAndInOrder) {
  EXPECT_EQ(H::bucket_low(0), 0u);
  for (std::uint32_t bucket = 0; bucket + 1 < H::kBuckets; ++bucket) {
    const std::uint64_t low = H::bucket_low(bucket), next = H::bucket_low(bucket + 1);
    ASSERT_LT(low, next);
    ASSERT_EQ(H::bucket_of(low), bucket);
    ASSERT_EQ(H::bucket_of(next - 1), bucket);
  }
}

TEST(LatencyHistogram, TheMiddleOfABucketIsWithinThreePercentOfItsValues) {
  for (std::uint64_t value = 1; value < (std::uint64_t{1} << 42); value += value / 97 + 1) {
    const double middle = H::bucket_middle(H::bucket_of(value));
    ASSERT_NEAR(middle, static_cast<double>(value), 0.03 * static_cast<double>(value)) << value;
  }
}

TEST(LatencyHistogram, ValuesBeyondTheTopStayInTheLastBucketAndTheMaximumIsExact) {
  auto h = std::make_unique<H>();
  h->add(~std::uint64_t{0} / 2);
  EXPECT_EQ(h->buckets[H::kBuckets - 1], 1u);
  EXPECT_EQ(h->max_ticks, ~std::uint64_t{0} / 2);
}

TEST(LatencyHistogram, QuantilesOfASkewedSampleAreWithinThreePercent) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> skewed(4, 2);
  auto h = std::make_unique<H>();
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 100'000; ++i) {
    values.push_back(static_cast<std::uint64_t>(skewed(random)) + 1);
    h->add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double q : {0.01, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto rank = static_cast<std::size_t>(q * static_cast<double>(values.size()) + 0.999999);
    const auto exact = static_cast<double>(values[std::max<std::size_t>(rank, 1) - 1]);
    EXPECT_NEAR(h->quantile(q), exact, 0.03 * exact + 0.5) << q;
  }
  EXPECT_LE(h->quantile(1), static_cast<double>(h->max_ticks));
}

TEST(LatencyHistogram, MergingAddsUp) {
  auto a = std::make_unique<H>(), b = std::make_unique<H>();
  for (std::uint64_t v = 0; v < 1000; ++v) (v % 3 ? a : b)->add(v);
  a->merge(*b);
  EXPECT_EQ(a->count(), 1000u);
  EXPECT_EQ(a->sum_ticks, 999u * 500);
  EXPECT_EQ(a->max_ticks, 999u);
}

TEST(LatencyHistogram, AnEmptyOneHasNoQuantiles) {
  auto h = std::make_unique<H>();
  EXPECT_EQ(h->quantile(0.5), 0);
}

TEST(SizeClass, EverySizeLiesInItsClass) {
  for (const std::uint64_t size : {0ull, 1ull, 16ull, 17ull, 32ull, 33ull, 4096ull, 4097ull,
                                   (1ull << 26), (1ull << 26) + 1, 1ull << 40}) {
    const std::uint32_t c = size_class(size);
    EXPECT_GE(size, class_from(c)) << size;
    EXPECT_TRUE(class_to(c) == 0 || size <= class_to(c)) << size;
    EXPECT_TRUE(c == 0 || class_from(c) == class_to(c - 1) + 1) << size;
  }
}

TEST(SlowCalls, TheSlowestOfManyAreKept) {
  SlowCalls kept{};
  std::uint64_t value = 1;
  for (int i = 0; i < 1000; ++i) {
    value = value * 17 % 1009;  // 1 .. 1008, each at most once in 1008 steps
    SlowCall call{};
    call.ticks = value;
    if (value > kept.floor_ticks()) kept.add(call);
  }
  std::vector<std::uint64_t> ticks;
  for (const SlowCall& call : kept.calls) ticks.push_back(call.ticks);
  std::sort(ticks.begin(), ticks.end());
  EXPECT_EQ(kept.count, kSlowestCalls);
  EXPECT_EQ(ticks.front(), kept.floor_ticks());
  std::vector<std::uint64_t> all;
  value = 1;
  for (int i = 0; i < 1000; ++i) all.push_back(value = value * 17 % 1009);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(ticks, std::vector<std::uint64_t>(all.end() - kSlowestCalls, all.end()));
}

}  // namespace
}  // namespace alloctape::simulator
