#include "converter/bounded_order.h"

#include <utility>

namespace alloctape::converter {

void BoundedOrder::enter(std::uint32_t lane) {
  if (open_) {
    sequencer_.require(lane, place_);
  } else {
    for (std::uint32_t other = 0; other < bound_.size(); ++other) {
      sequencer_.require(lane, {other, bound_[other]});
    }
    place_ = sequencer_.here(lane);
    open_ = true;
  }
  seen_[lane] = checkpoint_;
}

std::vector<std::uint64_t> BoundedOrder::positions() const {
  std::vector<std::uint64_t> result(sequencer_.lanes());
  for (std::uint32_t lane = 0; lane < result.size(); ++lane) {
    result[lane] = sequencer_.position(lane);
  }
  return result;
}

void BoundedOrder::start(std::uint64_t live_before, std::uint64_t acquired_before,
                         std::uint64_t peak_bytes) {
  ++checkpoint_;
  open_ = false;
  events_ = 0;
  acquired_ = 0;
  const std::uint64_t ceiling = peak_bytes + peak_bytes / 200;
  const std::uint64_t held = live_before + acquired_before;
  allowance_ = ceiling > held ? ceiling - held : 0;
}

void BoundedOrder::next_window(std::uint64_t live_bytes, std::uint64_t peak_bytes) {
  bound_ = std::exchange(last_end_, positions());
  start(std::exchange(live_at_last_end_, live_bytes), acquired_, peak_bytes);
}

void BoundedOrder::meet(std::uint64_t live_bytes, std::uint64_t peak_bytes) {
  last_end_ = bound_ = positions();
  live_at_last_end_ = live_bytes;
  start(live_bytes, 0, peak_bytes);
}

}  // namespace alloctape::converter
