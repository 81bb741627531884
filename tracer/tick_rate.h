// How fast the time-stamp counter runs, measured against the kernel's raw clock. The longer the
// object lives, the better its answer.
#pragma once

#include <cstdint>

namespace alloctape::tracer {

class TickRate {
 public:
  TickRate();  // takes the first anchor and waits some milliseconds for the second
  // Ticks per second so far; 0 where there is no such counter.
  std::uint64_t per_second() const;

  static std::uint64_t now_ticks();         // raw time-stamp counter
  static std::uint64_t now_monotonic_ns();  // CLOCK_MONOTONIC

 private:
  struct Anchor {
    std::uint64_t ticks = 0, raw_ns = 0;
  };
  static Anchor take_anchor();
  Anchor first_;
};

}  // namespace alloctape::tracer
