// The slowest calls of a lane: the first that comes to mind when a maximum is large is "was that
// the allocator, a page fault, or the scheduler?", so each is kept with the answer.
//
// In shared memory. One lane writes, the driver reads when the run is over (or has died).
#pragma once

#include <cstdint>

namespace alloctape::simulator {

inline constexpr std::uint32_t kSlowestCalls = 32;
inline constexpr std::uint32_t kUnknownCount = ~std::uint32_t{0};

struct SlowCall {
  std::uint64_t ticks;
  std::uint64_t end_ticks;  // clock at its end
  std::uint64_t op_index;   // API calls of the lane before it
  std::uint64_t position;   // word in the lane
  std::uint64_t size;       // requested bytes; of a release: of the block that went
  std::uint64_t slot;
  std::uint32_t op;        // opcode
  std::uint32_t faults;    // page faults within the call; kUnknownCount
  std::uint32_t switches;  // times the thread lost its CPU within the call; kUnknownCount
  std::uint32_t reserved;
};

// A heap with the fastest of the kept calls on top.
struct SlowCalls {
  std::uint32_t count;
  std::uint32_t reserved;
  SlowCall calls[kSlowestCalls];

  // What a call must exceed to be kept.
  std::uint64_t floor_ticks() const { return count < kSlowestCalls ? 0 : calls[0].ticks; }

  void add(const SlowCall& call) {
    if (count < kSlowestCalls) {
      std::uint32_t i = count++;
      for (; i > 0 && calls[(i - 1) / 2].ticks > call.ticks; i = (i - 1) / 2)
        calls[i] = calls[(i - 1) / 2];
      calls[i] = call;
      return;
    }
    if (call.ticks <= calls[0].ticks) return;
    std::uint32_t i = 0;
    for (;;) {
      std::uint32_t child = 2 * i + 1;
      if (child >= kSlowestCalls) break;
      if (child + 1 < kSlowestCalls && calls[child + 1].ticks < calls[child].ticks) ++child;
      if (calls[child].ticks >= call.ticks) break;
      calls[i] = calls[child];
      i = child;
    }
    calls[i] = call;
  }
};

}  // namespace alloctape::simulator
