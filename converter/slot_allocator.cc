#include "converter/slot_allocator.h"

#include <algorithm>

namespace alloctape::converter {

void SlotAllocator::FreeList::drop_front(std::size_t n) {
  begin += n;
  if (begin == entries.size()) {
    entries.clear();
    begin = 0;
  } else if (begin >= 1024 && begin * 2 >= entries.size()) {  // moved once per as many taken
    entries.erase(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(begin));
    begin = 0;
  }
}

// REQUIRES: `to` is ordered after the last of the batch, and has no free slots of its own.
void SlotAllocator::move_batch(std::uint32_t from, std::uint32_t to, std::size_t n) {
  FreeList& source = lanes_[from];
  FreeList& target = lanes_[to];
  target.entries.clear();
  target.begin = 0;
  const std::uint64_t position = sequencer_.position(to);
  for (std::size_t i = n; i-- > 0;) target.push({source.front(i).slot, position});
  source.drop_front(n);
}

bool SlotAllocator::take_batch(std::uint32_t lane) {
  std::uint32_t longest = lane;
  for (std::uint32_t other = 0; other < lanes_.size(); ++other) {
    const FreeList& list = lanes_[other];
    if (other == lane || list.size() < policy_.batch) continue;
    // Half of the list at most: the other lane will want slots, too.
    const std::size_t limit = std::max(policy_.batch, list.size() / 2);
    if (sequencer_.implied(lane, {other, list.front(policy_.batch - 1).position})) {
      std::size_t n = policy_.batch;
      while (n < limit && sequencer_.implied(lane, {other, list.front(n).position})) ++n;
      move_batch(other, lane, n);
      return true;
    }
    if (longest == lane || list.size() > lanes_[longest].size()) longest = other;
  }
  if (longest == lane) return false;
  const std::size_t n = std::max(policy_.batch, lanes_[longest].size() / 2);
  sequencer_.require(lane, {longest, lanes_[longest].front(n - 1).position});
  move_batch(longest, lane, n);
  return true;
}

std::uint64_t SlotAllocator::acquire_elsewhere(std::uint32_t lane) {
  if (slots_ >= slack_limit() && slots_ >= no_search_before_) {
    if (take_batch(lane)) return take(lane);
    no_search_before_ = slots_ + policy_.batch;
  }
  return ++slots_;
}

}  // namespace alloctape::converter
