// Recorded threads laid into lanes: a lane is a script of threads that ran one after another. There
// are as many lanes as threads ever ran at the same time, whatever their total.
//
// Lane 0 is the first thread that recorded, the process's main thread, and no other. A later thread
// takes the lane whose thread ended longest ago (so that its end is likely known to whoever starts
// the new one), or a new lane. Nothing records who started a thread: the lane with the latest event
// is taken to have done it.
//
// The exit op of a thread is written when its lane is needed again, or at the end: events may still
// come after thread_end (destructors of thread-local objects).
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "converter/sequencer.h"

namespace alloctape::converter {

class Lanes {
 public:
  explicit Lanes(Sequencer& sequencer) : sequencer_(sequencer) {}

  // The lane of a thread's events; a thread not seen before starts here, at `stamp`.
  std::uint32_t lane_of(std::uint32_t thread, std::uint64_t stamp) {
    if (thread == last_thread_) return last_lane_;
    return look_up(thread, stamp);
  }
  // One op of the API, of `thread`, was appended to the lane.
  void count_op(std::uint32_t lane, std::uint32_t thread) {
    Lane& state = lanes_[lane];
    ++state.ops;
    if (state.thread != thread) ++late_ops_;
    latest_ = lane;
  }
  void end_thread(std::uint32_t thread, std::uint64_t stamp);

  // True when `interval` has passed since it last was, or since the recording's first event.
  bool mark_due(std::uint32_t lane, std::uint64_t stamp, std::uint64_t interval) {
    std::uint64_t& last = lanes_[lane].last_mark;
    if (stamp < last + interval) return false;
    last = stamp;
    return true;
  }

  // Writes the missing exits. Threads whose end was not recorded stay until the last op of the
  // recording is done. Returns the thread table, by start, with stamps for times.
  std::vector<wire::ThreadEntry> finish(std::uint64_t last_stamp);

  std::uint64_t threads() const { return table_.size(); }
  std::uint64_t unended_threads() const { return unended_; }  // after finish
  // Ops of threads that had ended and whose lane another thread had taken: they went to that
  // thread.
  std::uint64_t late_ops() const { return late_ops_; }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  struct Lane {
    std::uint64_t entry = 0;  // index in table_ of the thread that has the lane
    std::uint64_t ops = 0;    // in its time
    std::uint32_t thread = 0;
    std::uint64_t last_mark = 0;
    bool ended = false;  // its thread_end was recorded; the exit is not written yet
  };

  std::uint32_t look_up(std::uint32_t thread, std::uint64_t stamp);
  std::uint32_t* slot_of(std::uint32_t thread);
  std::uint32_t start_thread(std::uint32_t thread, std::uint64_t stamp);
  std::uint32_t spawner() const;
  std::uint32_t free_lane(std::uint32_t except);
  void write_exit(std::uint32_t lane);

  Sequencer& sequencer_;
  std::vector<Lane> lanes_;
  std::vector<wire::ThreadEntry> table_;
  std::vector<std::uint32_t> by_thread_;                            // lane, by thread index; kNone
  std::unordered_map<std::uint32_t, std::uint32_t> by_far_thread_;  // indices beyond kDenseThreads
  std::deque<std::uint32_t> free_;  // lanes whose thread ended, longest ago first
  // Wider than a thread index: no thread at first, whatever index a trace comes up with.
  std::uint64_t last_thread_ = ~std::uint64_t{0};
  std::uint32_t last_lane_ = 0;
  std::uint32_t latest_ = 0;  // lane of the latest op
  std::uint64_t unended_ = 0, late_ops_ = 0;
};

}  // namespace alloctape::converter
