#include "converter/lanes.h"

#include <algorithm>
#include <utility>

namespace alloctape::converter {
namespace {

// Thread indices are given out from 0, so a vector serves; a hostile trace may state any.
constexpr std::uint32_t kDenseThreads = 1u << 20;

}  // namespace

std::uint32_t* Lanes::slot_of(std::uint32_t thread) {
  if (thread >= kDenseThreads) return &by_far_thread_.try_emplace(thread, kNone).first->second;
  if (thread >= by_thread_.size()) {
    by_thread_.resize(std::max<std::size_t>(thread + 1, by_thread_.size() * 2), kNone);
  }
  return &by_thread_[thread];
}

std::uint32_t Lanes::look_up(std::uint32_t thread, std::uint64_t stamp) {
  std::uint32_t& lane = *slot_of(thread);
  if (lane == kNone) lane = start_thread(thread, stamp);
  last_thread_ = thread;
  last_lane_ = lane;
  return lane;
}

// A lane that can execute a spawn op now.
std::uint32_t Lanes::spawner() const {
  if (!lanes_[latest_].ended) return latest_;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (!lanes_[lane].ended) return lane;
  }
  return latest_;  // its exit is not written yet: it started this thread before it ended
}

std::uint32_t Lanes::free_lane(std::uint32_t except) {
  const auto it =
      std::find_if(free_.begin(), free_.end(), [except](std::uint32_t l) { return l != except; });
  if (it == free_.end()) return kNone;
  const std::uint32_t lane = *it;
  free_.erase(it);
  return lane;
}

std::uint32_t Lanes::start_thread(std::uint32_t thread, std::uint64_t stamp) {
  std::uint32_t lane = kNone;
  if (lanes_.empty()) {
    lane = sequencer_.add_lane();
    lanes_.emplace_back();
  } else {
    const std::uint32_t from = spawner();
    lane = free_lane(from);
    if (lane == kNone) {
      lane = sequencer_.add_lane();
      lanes_.emplace_back();
    } else {
      write_exit(lane);
    }
    sequencer_.spawn(from, lane);
  }
  Lane& state = lanes_[lane];
  state.entry = table_.size();
  state.ops = 0;
  state.thread = thread;
  state.ended = false;
  state.last_mark = std::max(state.last_mark, table_.empty() ? stamp : table_[0].start_ns);
  table_.push_back({.thread = thread,
                    .lane = lane,
                    .first_word = sequencer_.position(lane),
                    .start_ns = stamp,
                    .end_ns = stamp});
  return lane;
}

void Lanes::end_thread(std::uint32_t thread, std::uint64_t stamp) {
  const std::uint32_t lane = lane_of(thread, stamp);
  Lane& state = lanes_[lane];
  if (state.ended || table_[state.entry].thread != thread) return;
  table_[state.entry].end_ns = stamp;
  state.ended = true;
  if (lane != 0) free_.push_back(lane);
}

void Lanes::write_exit(std::uint32_t lane) {
  sequencer_.append_exit(lane);
  wire::ThreadEntry& entry = table_[lanes_[lane].entry];
  entry.end_word = sequencer_.position(lane);
  entry.ops = lanes_[lane].ops;
}

std::vector<wire::ThreadEntry> Lanes::finish(std::uint64_t last_stamp) {
  if (lanes_.empty())
    look_up(0, last_stamp);  // an empty recording: a main thread that does nothing
  const Place last_op = sequencer_.here(latest_);
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (!lanes_[lane].ended) {
      ++unended_;
      table_[lanes_[lane].entry].end_ns = last_stamp;
      sequencer_.require(lane, last_op);
    }
    write_exit(lane);
  }
  return std::move(table_);
}

}  // namespace alloctape::converter
