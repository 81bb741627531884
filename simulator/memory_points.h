// Closer looks at a replay's memory, at a few points of the run: in shared memory, as the replayer
// takes them.
#pragma once

#include <cstdint>

namespace alloctape::simulator {

enum class Moment : std::uint32_t {
  kGrowing,  // the live bytes have reached another share of the recorded peak
  kEnd,      // after the last op
  kFreed,    // after everything that was still live has been released
  kSettled,  // and after the pause that was asked for
};

struct MemoryPoint {
  Moment moment;
  std::uint32_t has_usable;  // 1: usable_bytes is known
  std::uint64_t ns;          // CLOCK_MONOTONIC
  std::uint64_t live_bytes, usable_bytes;
  std::uint64_t anon_bytes, lazy_free_bytes, huge_bytes;  // smaps_rollup
  std::uint64_t vm_bytes;
  std::uint64_t mapped_bytes;  // the program's own mappings, where they were written to
};
inline constexpr std::uint32_t kMemoryPoints = 16;
// Shares of the recorded live peak at which one is taken.
inline constexpr double kGrowingShares[] = {0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 1};

// What the allocator says of itself.
struct NamedFigure {
  char name[56];
  std::uint64_t value;
};
inline constexpr std::uint32_t kViewFigures = 24;
struct AllocatorView {
  std::uint32_t count;
  char source[28];  // the function that was asked
  NamedFigure figures[kViewFigures];
};

// One call of mallopt.
struct MalloptCall {
  std::int32_t parameter, value;
};
inline constexpr std::uint32_t kMalloptCalls = 16;

}  // namespace alloctape::simulator
