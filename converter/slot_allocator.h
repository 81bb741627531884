// Slots: the indices that stand for live blocks in a workload, recycled so that the table grows
// with live blocks and not with the trace.
//
// The rule that must hold: a slot is given to lane B only when B's script is already ordered after
// the release that emptied it, in every schedule the sync points allow. So free slots are kept by
// the lane that freed them, where program order is enough. A lane without free slots takes new ones
// while the table is not much larger than it needs to be; then it takes a batch of those that
// another lane freed longest ago: without a sync point if it is ordered after that anyway, else
// with one for the batch.
#pragma once

#include <cstdint>
#include <vector>

#include "converter/sequencer.h"

namespace alloctape::converter {

struct SlotPolicy {
  std::uint64_t slack = 1024;  // slots beyond 125% of the peak in use (and two batches a lane)
  std::size_t batch = 64;      // least number of slots for one sync point
};

class SlotAllocator {
 public:
  explicit SlotAllocator(Sequencer& sequencer, SlotPolicy policy = {})
      : sequencer_(sequencer), policy_(policy) {}

  // A slot that is empty when `lane` goes on; may append a wait to the lane. Never 0.
  std::uint64_t acquire(std::uint32_t lane) {
    if (lane >= lanes_.size()) lanes_.resize(lane + 1);
    if (++in_use_ > peak_in_use_) peak_in_use_ = in_use_;
    return lanes_[lane].empty() ? acquire_elsewhere(lane) : take(lane);
  }
  // A slot that no op has used or will use before: for the prologue.
  std::uint64_t acquire_fresh() {
    if (++in_use_ > peak_in_use_) peak_in_use_ = in_use_;
    return ++slots_;
  }
  // `lane` has emptied the slot with an op that ended at its present position.
  void release(std::uint32_t lane, std::uint64_t slot) {
    if (lane >= lanes_.size()) lanes_.resize(lane + 1);
    lanes_[lane].push({slot, sequencer_.position(lane)});
    --in_use_;
  }

  std::uint64_t slots() const { return slots_; }  // indices given out so far are 1 .. slots()
  std::uint64_t in_use() const { return in_use_; }

 private:
  struct Free {
    std::uint64_t slot;
    std::uint64_t position;  // after which it is empty
  };
  // Free slots of one lane by rising position. The lane itself takes the latest (whose memory is
  // warm in the replay), others the earliest.
  struct FreeList {
    std::vector<Free> entries;
    std::size_t begin = 0;  // entries before it were taken by others

    bool empty() const { return begin == entries.size(); }
    std::size_t size() const { return entries.size() - begin; }
    const Free& front(std::size_t i) const { return entries[begin + i]; }
    void push(Free free) { entries.push_back(free); }
    void drop_front(std::size_t n);
  };

  std::uint64_t take(std::uint32_t lane) {
    const std::uint64_t slot = lanes_[lane].entries.back().slot;
    lanes_[lane].entries.pop_back();
    return slot;
  }
  std::uint64_t acquire_elsewhere(std::uint32_t lane);
  bool take_batch(std::uint32_t lane);
  void move_batch(std::uint32_t from, std::uint32_t to, std::size_t n);
  // What the table may grow to before free slots of other lanes are sought.
  std::uint64_t slack_limit() const {
    return peak_in_use_ + peak_in_use_ / 4 + policy_.slack + 2 * policy_.batch * lanes_.size();
  }

  Sequencer& sequencer_;
  const SlotPolicy policy_;
  std::vector<FreeList> lanes_;
  std::uint64_t slots_ = 0;
  std::uint64_t in_use_ = 0, peak_in_use_ = 0;
  std::uint64_t no_search_before_ =
      0;  // size of the table: a search that failed is not repeated at once
};

}  // namespace alloctape::converter
