// The stamp. Plain rdtsc wherever the kernel itself trusts the TSC; see docs/formats/trace.md,
// "Time".
#pragma once

#include <stdint.h>
#include <time.h>

#include "formats/wire/trace_layout.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

enum class ClockMode : uint32_t { kTsc, kTscStrict, kMonotonic };
ALLOCTAPE_HIDDEN extern ClockMode g_clock_mode;  // set once, before the first stamp
void choose_clock(bool strict);

inline uint64_t monotonic_ns() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

ALLOCTAPE_INLINE uint64_t raw_ticks() {
  if (ALLOCTAPE_LIKELY(g_clock_mode == ClockMode::kTsc)) return __builtin_ia32_rdtsc();
  if (g_clock_mode == ClockMode::kTscStrict) {
    __builtin_ia32_lfence();
    return __builtin_ia32_rdtsc();
  }
  return monotonic_ns();
}

// 32 ticks of a TSC are 8-16 ns: fine enough to order hand-overs between cores, which take tens of
// ns (and equal stamps are put in order by what they do), and 14 bits of them span 130-260 us.
inline constexpr unsigned kTscShift = 5, kMonotonicShift = 4;
inline unsigned clock_shift() {
  return g_clock_mode == ClockMode::kMonotonic ? kMonotonicShift : kTscShift;
}
ALLOCTAPE_INLINE uint64_t stamp_now() {
  return raw_ticks() >>
         (ALLOCTAPE_LIKELY(g_clock_mode != ClockMode::kMonotonic) ? kTscShift : kMonotonicShift);
}

}  // namespace alloctape::tracer
