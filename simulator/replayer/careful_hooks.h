// What a run does around its calls beyond replaying them: verification, and the books of usable
// bytes. Only the careful variant of the loop has these; the plain one pays nothing for them.
//
// All of it lies outside the timed window.
#pragma once

#include "simulator/replayer/replay_context.h"
#include "simulator/replayer/verifier.h"

namespace alloctape::simulator {

class CarefulHooks {
 public:
  CarefulHooks(Context& context, std::uint32_t lane)
      : c_(context), shared_(lanes_of(context.shared)[lane]), lane_(lane) {}

  // After a call that gave a block. `third`: its alignment argument, where it has one.
  [[gnu::noinline]] void acquired(wire::Op op, std::uint64_t slot, void* block, std::uint64_t size,
                                  std::uint64_t third) {
    if (c_.verifier != nullptr) c_.verifier->acquired(at(op, slot, 1), block, size, third);
    if (c_.usable != nullptr) add_usable(slot, block);
    if (c_.shared->purge_bytes != 0)
      c_.shared->acquired_bytes.fetch_add(size, std::memory_order_relaxed);
  }
  // Before a call that takes a block away.
  [[gnu::noinline]] void releasing(wire::Op op, std::uint64_t slot, void* block) {
    if (c_.verifier != nullptr) c_.verifier->releasing(at(op, slot, 0), block);
    if (c_.usable != nullptr) drop_usable(slot);
  }
  // Around a resize of a block. `now` null: the block stayed what it was; `gone`: it went without
  // a successor.
  [[gnu::noinline]] void resizing(wire::Op op, std::uint64_t slot, void* block) {
    if (c_.verifier != nullptr) c_.verifier->resizing(at(op, slot, 0), block);
  }
  [[gnu::noinline]] void resized(wire::Op op, std::uint64_t slot, void* now, std::uint64_t size) {
    if (c_.verifier != nullptr) c_.verifier->resized(at(op, slot, 1), now, size);
    if (c_.usable != nullptr && now != nullptr) {
      drop_usable(slot);
      add_usable(slot, now);
    }
  }
  [[gnu::noinline]] void gone(std::uint64_t slot) {
    if (c_.usable != nullptr) drop_usable(slot);
  }

 private:
  // `counted`: 1 when the op stands in the lane's counts already.
  Verifier::At at(wire::Op op, std::uint64_t slot, std::uint64_t counted) const {
    std::uint64_t calls = shared_.skipped_ops;
    for (const std::uint64_t n : shared_.ops_by_kind) calls += n;
    return {op, lane_, calls - counted, shared_.current.load(std::memory_order_relaxed), slot};
  }
  void add_usable(std::uint64_t slot, void* block) {
    const std::uint64_t bytes = c_.api->malloc_usable_size_(block);
    c_.usable[slot] = bytes;
    change_usable(static_cast<std::int64_t>(bytes));
  }
  void drop_usable(std::uint64_t slot) {
    change_usable(-static_cast<std::int64_t>(c_.usable[slot]));
    c_.usable[slot] = 0;
  }
  // One writer; relaxed, because whoever adds the lanes up wants a figure, not an order.
  void change_usable(std::int64_t change) {
    shared_.usable_live.store(shared_.usable_live.load(std::memory_order_relaxed) + change,
                              std::memory_order_relaxed);
  }

  Context& c_;
  LaneShared& shared_;
  const std::uint32_t lane_;
};

}  // namespace alloctape::simulator
