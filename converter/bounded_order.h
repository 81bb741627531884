// The order `bounded`: extra sync points that keep any lane from running so far ahead of the
// recorded interleaving that the replay's live heap would differ from the recorded one.
//
// The merged events are cut into windows. A lane that goes on in window k does so only after every
// lane has done its part of the windows up to k-2. To need 2(n-1) sync points a window and not
// n(n-1), the first lane to enter a window waits for all others, and they wait for that lane (a
// checkpoint).
//
// How long may a window be? While window k runs, the replay may hold what was live at the end of
// window k-2 plus everything acquired in k-1 and k, and no more. So a window ends where this would
// exceed the highest live heap so far by 0.5% (half of the 1% that
// a replay may be off, for windows that had to be longer): windows are long (kDefaultWindow events)
// wherever the heap is below its peak, and short only where it is at its peak and churns. They are
// never shorter than kMinEventsPerLane events or kMinBytesPerLane acquired bytes for each lane
// (whichever comes first: touching so many bytes costs more than meeting), which bounds the cost,
// and with it the guarantee: heaps of a few thousand small blocks may overshoot by more.
//
// The peak must also be reached. At each event that raises the live heap 0.5% above the last such
// place, all lanes meet (a checkpoint without slack): there the replay holds exactly what the
// original held. From 1 KiB to 100 GiB that is less than 4,000 times.
#pragma once

#include <cstdint>
#include <vector>

#include "converter/sequencer.h"

namespace alloctape::converter {

class BoundedOrder {
 public:
  static constexpr std::uint64_t kDefaultWindow = 4096;

  BoundedOrder(Sequencer& sequencer, std::uint64_t longest_window)
      : sequencer_(sequencer), longest_(longest_window) {}

  // Before each op of `lane`, which will acquire so many bytes: may append waits. A block that
  // alone could lift the heap beyond what a window may is not left to a window: all lanes meet
  // before it.
  void before(std::uint32_t lane, std::uint64_t coming_bytes, std::uint64_t live_bytes,
              std::uint64_t peak_bytes) {
    if (coming_bytes >= kLargeBlock && coming_bytes > peak_bytes / 200 &&
        acquired_ + coming_bytes > allowance_) {
      meet(live_bytes, peak_bytes);
    }
    if (lane >= seen_.size()) seen_.resize(lane + 1);
    if (seen_[lane] != checkpoint_) enter(lane);
  }
  // After each op: bytes it acquired, and the recorded live heap now.
  void after(std::uint64_t acquired_bytes, std::uint64_t live_bytes, std::uint64_t peak_bytes) {
    ++events_;
    acquired_ += acquired_bytes;
    if (live_bytes > barrier_bytes_ + barrier_bytes_ / 200 && long_enough()) {
      barrier_bytes_ = live_bytes;
      meet(live_bytes, peak_bytes);
    } else if (events_ >= longest_ || (acquired_ > allowance_ && long_enough())) {
      next_window(live_bytes, peak_bytes);
    }
  }

 private:
  static constexpr std::uint64_t kMinEventsPerLane = 32;
  static constexpr std::uint64_t kMinBytesPerLane = 64 * 1024;

  static constexpr std::uint64_t kLargeBlock = 8 * 1024;

  bool long_enough() const {
    const std::uint64_t lanes = sequencer_.lanes();
    return events_ >= kMinEventsPerLane * lanes || acquired_ >= kMinBytesPerLane * lanes;
  }
  void enter(std::uint32_t lane);
  void next_window(std::uint64_t live_bytes, std::uint64_t peak_bytes);
  void meet(std::uint64_t live_bytes, std::uint64_t peak_bytes);
  void start(std::uint64_t live_before, std::uint64_t acquired_before, std::uint64_t peak_bytes);
  std::vector<std::uint64_t> positions() const;

  Sequencer& sequencer_;
  const std::uint64_t longest_;
  std::uint64_t events_ = 0, acquired_ = 0;  // of this window
  std::uint64_t allowance_ = 0;              // bytes that may be acquired in it
  std::uint64_t live_at_last_end_ = 0;
  std::uint64_t barrier_bytes_ = 0;      // live heap where all lanes last met at a new peak
  std::vector<std::uint64_t> last_end_;  // position of each lane where the last window ended
  std::vector<std::uint64_t> bound_;     // what must be passed before this window is entered
  std::uint64_t checkpoint_ = 0;
  bool open_ = false;                // some lane stands at the checkpoint
  Place place_;                      // where that lane has waited for all others
  std::vector<std::uint64_t> seen_;  // by lane: the checkpoint it has passed
};

}  // namespace alloctape::converter
