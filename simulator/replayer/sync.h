// How one lane waits for another: progress counters, a short spin, then a futex.
//
// The publisher of a lane is its current thread; there is one at a time, and the threads of a lane
// follow each other through pthread_join, so `position` has a single writer. Anybody may wait.
//
// A sleeper sleeps on a futex word of its own: a lane that many others wait for, each for a
// position of its own, wakes those whose time has come and nobody else. (With one word for all, 63
// consumers of one producer are woken at each batch for the sake of one.)
//
// No wake-up is lost. The waiter w, for position `target` of lane u, in this order:
//     W1  s = w.wake_sequence
//     W2  w.target = target, w.waits_on = u
//     W3  u.wanted = min(u.wanted, target)
//     W4  looks at u.position; done if it has passed the target
//     W5  futex_wait(w.wake_sequence, s)
// and the publisher u, who is one:
//     P1  u.position = p
//     P2  looks at u.wanted; done if it is above p
//     P3  u.wanted = nobody
//     P4  for each w that waits on u: if w.target <= p: w.wake_sequence += 1, futex_wake(w)
//     P5  u.wanted = min(u.wanted, the lowest target of those that were left asleep)
// All of W1-W4 and P1-P5 are seq_cst, so they stand in one total order. Let p be the first
// published position that satisfies the waiter, and suppose that W4 did not see it: then W4 comes
// before P1, so W2 and W3 come before P2. Does P2 find a value <= p? If no P3 has removed the
// registration since W3, yes. If one has (of an earlier publication, p' < target), its P4 came
// after W2, found w with a target above p', and its P5 registered it again, before this P1. So P2
// goes on to P4, which finds w and wakes it: that follows W1, hence the waiter either has not slept
// yet and W5 returns at once, because the sequence is no longer s, or sleeps and is woken. It then
// starts again at W1. A target passed before W1 is seen at W4. What a publisher finds of a wait
// that is over costs a wake-up for nothing, no more.
//
// P1 is also the release and W4 (or the spin) the acquire that order the slots: everything the
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

[[gnu::noinline]] inline void wake_those_due(const LaneTable& lanes, std::uint32_t me,
                                             std::uint64_t position) {
  LaneProgress& mine = lanes[me];
  mine.wanted.exchange(kNobodyWaits, std::memory_order_seq_cst);  // P3
  std::uint64_t left = kNobodyWaits;
  for (std::uint32_t other = 0; other < lanes.count; ++other) {  // P4
    LaneProgress& sleeper = lanes[other];
    if (sleeper.waits_on.load(std::memory_order_seq_cst) != me + 1) continue;
    const std::uint64_t target = sleeper.target.load(std::memory_order_seq_cst);
    if (target <= position) {
      sleeper.wake_sequence.fetch_add(1, std::memory_order_seq_cst);
      futex(&sleeper.wake_sequence, FUTEX_WAKE, 1);
    } else if (target < left) {
      left = target;
    }
  }
  std::uint64_t lowest = mine.wanted.load(std::memory_order_seq_cst);  // P5
  while (left < lowest &&
         !mine.wanted.compare_exchange_weak(lowest, left, std::memory_order_seq_cst)) {
  }
}

inline void publish(const LaneTable& lanes, std::uint32_t me, std::uint64_t position) {
  LaneProgress& mine = lanes[me];
  mine.position.exchange(position, std::memory_order_seq_cst);            // P1
  if (mine.wanted.load(std::memory_order_seq_cst) > position) [[likely]]  // P2
    return;
  wake_those_due(lanes, me, position);
}

struct WaitCounts {
  bool blocked = false;
  std::uint64_t ns = 0;
};

// `spins`: how often to look before sleeping; 0 when there are more lanes than cores, where the one
// waited for may need this very core.
inline WaitCounts wait_for(const LaneTable& lanes, std::uint32_t me, std::uint32_t other,
                           std::uint64_t target, int spins) {
  LaneProgress& lane = lanes[other];
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
  LaneProgress& mine = lanes[me];
  for (;;) {
    const std::uint32_t sequence = mine.wake_sequence.load(std::memory_order_seq_cst);  // W1
    mine.target.store(target, std::memory_order_seq_cst);                               // W2
    mine.waits_on.store(other + 1, std::memory_order_seq_cst);
    std::uint64_t lowest = lane.wanted.load(std::memory_order_seq_cst);  // W3
    while (target < lowest &&
           !lane.wanted.compare_exchange_weak(lowest, target, std::memory_order_seq_cst)) {
    }
    if (lane.position.load(std::memory_order_seq_cst) >= target) break;  // W4
    counts.blocked = true;
    futex(&mine.wake_sequence, FUTEX_WAIT, sequence);  // W5
  }
  mine.waits_on.store(0, std::memory_order_relaxed);  // no order: found or not, nothing is lost
  counts.ns = monotonic_ns() - began;
  return counts;
}

}  // namespace alloctape::simulator
