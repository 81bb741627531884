#include "tracer/tick_rate.h"

#include <time.h>

#include <algorithm>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace alloctape::tracer {
namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
constexpr std::uint64_t kFirstSpanNs = 5'000'000;  // an error of 50 ns in it is 10 ppm
constexpr int kAnchorTries = 9;

std::uint64_t clock_ns(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * kNsPerSecond +
         static_cast<std::uint64_t>(t.tv_nsec);
}

}  // namespace

std::uint64_t TickRate::now_ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return 0;
#endif
}

std::uint64_t TickRate::now_monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }

// An interrupt between the two clocks would spoil the pair: the tightest of a few is taken.
TickRate::Anchor TickRate::take_anchor() {
  Anchor best;
  std::uint64_t best_width = ~std::uint64_t{0};
  for (int i = 0; i < kAnchorTries; ++i) {
    const std::uint64_t before = now_ticks();
    const std::uint64_t ns = clock_ns(CLOCK_MONOTONIC_RAW);
    const std::uint64_t width = now_ticks() - before;
    if (width >= best_width) continue;
    best_width = width;
    best = {before + width / 2, ns};
  }
  return best;
}

TickRate::TickRate() : first_(take_anchor()) {
  timespec pause{0, static_cast<long>(kFirstSpanNs)};
  nanosleep(&pause, nullptr);
}

std::uint64_t TickRate::per_second() const {
  const Anchor now = take_anchor();
  const std::uint64_t ns = std::max<std::uint64_t>(now.raw_ns - first_.raw_ns, 1);
  const double rate =
      static_cast<double>(now.ticks - first_.ticks) * kNsPerSecond / static_cast<double>(ns);
  return static_cast<std::uint64_t>(rate + 0.5);
}

}  // namespace alloctape::tracer
