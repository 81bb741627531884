// How one lane waits for another: progress counters, a short spin, then a futex.
//
// The publisher of a lane is its current thread; there is one at a time, and the threads of a lane
// follow each other through pthread_join, so `position` has a single writer. Anybody may wait.
//
// No wake-up is lost. The waiter, in this order:
//     W1  s = wake_sequence
//     W2  wanted = min(wanted, target)
//     W3  looks at position; done if it has passed the target
//     W4  futex_wait(wake_sequence, s)
// and the publisher:
//     P1  position = p
//     P2  looks at wanted; done if it is above p
//     P3  wanted = nobody
//     P4  wake_sequence += 1, futex_wake(all)
// All of W1-W3 and P1-P4 are seq_cst, so they stand in one total order. Let p be the first
// published position that satisfies the waiter, and suppose that W3 did not see it: then W3 comes
// before P1, so W2 comes before P2. Either P2 still finds the waiter's registration (some value <=
// target <= p) and goes on to P4; or a P3 has removed it since W2, and this P3 too has its P4
// behind it. In both cases a P4 follows W2, hence follows W1: the waiter either has not slept yet
// and W4 returns at once, because the sequence is no longer s, or sleeps and is woken. It then
// starts again at W1. A target passed before W1 is seen at W3.
//
// P1 is also the release and W3 (or the spin) the acquire that order the slots: everything the
// publishing lane did to a slot, and to the block in it, happens before what the waiter does to it.
//
// Cost: a publisher pays one exchange and a load of the same line; no system call unless somebody
// sleeps on a position that this very publication satisfies.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

#include "simulator/replay_shared.h"

namespace alloctape::simulator {

inline std::uint64_t monotonic_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("" ::: "memory");
#endif
}

inline long futex(std::atomic<std::uint32_t>* word, int op, std::uint32_t value) {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(word), op | FUTEX_PRIVATE_FLAG, value,
                 nullptr, nullptr, 0);
}

inline void publish(LaneProgress& lane, std::uint64_t position) {
  lane.position.exchange(position, std::memory_order_seq_cst);  // P1
  if (lane.wanted.load(std::memory_order_seq_cst) > position) [[likely]]
    return;                                                       // P2
  lane.wanted.exchange(kNobodyWaits, std::memory_order_seq_cst);  // P3
  lane.wake_sequence.fetch_add(1, std::memory_order_seq_cst);     // P4
  futex(&lane.wake_sequence, FUTEX_WAKE, INT_MAX);
}

struct WaitCounts {
  bool blocked = false;
  std::uint64_t ns = 0;
};

// `spins`: how often to look before sleeping; 0 when there are more lanes than cores, where the one
// waited for may need this very core.
inline WaitCounts wait_for(LaneProgress& lane, std::uint64_t target, int spins) {
  // Acquire: pairs with P1.
  if (lane.position.load(std::memory_order_acquire) >= target) [[likely]]
    return {};
  WaitCounts counts;
  const std::uint64_t began = monotonic_ns();
  for (int i = 0; i < spins; ++i) {
    pause_cpu();
    if (lane.position.load(std::memory_order_acquire) >= target) {
      counts.ns = monotonic_ns() - began;
      return counts;
    }
  }
  for (;;) {
    const std::uint32_t sequence = lane.wake_sequence.load(std::memory_order_seq_cst);  // W1
    std::uint64_t lowest = lane.wanted.load(std::memory_order_seq_cst);                 // W2
    while (target < lowest &&
           !lane.wanted.compare_exchange_weak(lowest, target, std::memory_order_seq_cst)) {
    }
    if (lane.position.load(std::memory_order_seq_cst) >= target) break;  // W3
    counts.blocked = true;
    futex(&lane.wake_sequence, FUTEX_WAIT, sequence);  // W4
  }
  counts.ns = monotonic_ns() - began;
  return counts;
}

}  // namespace alloctape::simulator
