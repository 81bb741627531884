// `--verify`: holds every answer of the allocator against what the C standard promises.
//
//   a new block    is aligned, overlaps no live block, has at least the usable size that was asked
//                  for, and is zero where calloc promises that; it is then filled with a pattern
//   at its end     (release, resize, end of the run) the pattern is still there
//   after realloc  so is the part that must have been kept
//
// A fault is written down with its op, and the replay goes on. All of it happens outside the timed
// window, in harness memory, and under one lock: a verifying run says nothing about speed.
//
// A block leaves the books before its release is called, and enters them after its acquire has
// returned: while it is in them the allocator may not give its bytes to anybody.
//
// Thread safety: any thread may call, each for blocks that are its own at that moment.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/wire/opcodes.h"
#include "simulator/replay_shared.h"
#include "simulator/replayer/live_intervals.h"

namespace alloctape::simulator {

class Verifier {
 public:
  // The op that is looked at, for the verdict.
  struct At {
    wire::Op op;
    std::uint32_t lane;
    std::uint64_t op_index, position, slot;
  };
  using UsableSize = std::size_t (*)(void*);

  // `nodes`: one for each slot, zeroed. `usable` may be null: then it is not asked.
  Verifier(FaultList& faults, IntervalNode* nodes, UsableSize usable, std::size_t page_bytes)
      : faults_(faults), nodes_(nodes), live_(nodes), usable_(usable), page_(page_bytes) {}

  // `alignment`: as asked for; 0 where the call has none.
  void acquired(const At& at, void* block, std::uint64_t size, std::uint64_t alignment);
  void releasing(const At& at, void* block);
  // realloc: before the call and after it; `now` null: it failed, and the block is what it was.
  void resizing(const At& at, void* block);
  void resized(const At& at, void* now, std::uint64_t size);
  // What is still live when the run is over.
  void check_rest(std::uint64_t slots);

 private:
  void lock() {
    while (lock_.exchange(1, std::memory_order_acquire) != 0) wait_a_little();
  }
  void unlock() { lock_.store(0, std::memory_order_release); }
  static void wait_a_little();
  void enter(const At& at, void* block, std::uint64_t size, std::uint64_t alignment);
  void check_contents(const At& at, const IntervalNode& node, Fault fault, std::uint64_t length);
  std::uint64_t due_alignment(wire::Op op, std::uint64_t size, std::uint64_t asked) const;
  void report(const At& at, FoundFault fault);

  FaultList& faults_;
  IntervalNode* nodes_;
  LiveIntervals live_;
  UsableSize usable_;
  std::size_t page_;
  std::atomic<std::uint32_t> lock_{0};
  std::atomic<std::uint64_t> next_key_{1};
};

}  // namespace alloctape::simulator
