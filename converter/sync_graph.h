// Which sync points are needed, and which are implied by others: vector clocks over lanes.
//
// A lane's clock says how far every other lane is known to have come whenever this lane goes on
// from where its script now ends. A wait for (other, position) that the clock already covers is not
// emitted.
//
// Source: vector clocks (Mattern, Fidge), with one difference that matters here: a wait is for a
// position in another lane's *past*, so it must hand on the clock that lane had at that position,
// not the one it has now. Each lane therefore keeps a log of what it learned where.
//
// Why no needed edge is dropped. Call (p, x, v) a fact of lane U: "whenever U has passed p, x has
// passed v", in every schedule that the emitted ops allow. "Passed" means that every op which ends
// at or before the position has been executed.
//   1. A wait in U that ends at p, for (x, v), makes the fact (p, x, v): U cannot pass p before.
//   2. If U also has passed p and (y, v') is a fact of x at some q <= v, then (p, y, v') is a fact
//   of
//      U: passing p implies x >= v >= q, which implies y >= v'.
//   3. A thread started by a spawn op that begins at s in lane S executes nothing before S has
//   passed
//      s; so for its lane L, whose new thread begins at b, (b + 1, S, s) is a fact, and with it S's
//      facts up to s. Not (b, ...): b is also the end of the lane's previous thread, and who waits
//      for that learns nothing about the spawn.
// Facts are never withdrawn, for scripts are only appended to. A clock entry is set by facts at
// positions up to the end of the lane's script alone, so it holds for the next op. Dropping facts
// from the log (it is bounded) only ever costs a sync point that was not needed.
//
// Why nothing deadlocks: ops are appended in the merged order of the recording, and waits are for
// positions already written; the recorded order is a schedule that meets them all.
//
// Memory: one clock entry for each pair of lanes that ever met, and a log of a few entries per
// lane. Lanes are as many as threads ever ran at the same time, whatever their total.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace alloctape::converter {

class SyncGraph {
 public:
  // log_facts: how many facts a lane's log holds before the oldest are summed up.
  explicit SyncGraph(std::size_t log_facts = 512) : log_facts_(log_facts) {}
  void add_lane();
  std::uint32_t lanes() const { return static_cast<std::uint32_t>(lanes_.size()); }

  // How far `other` is known to have come when `lane` goes on.
  std::uint64_t known(std::uint32_t lane, std::uint32_t other) const {
    const auto& clock = lanes_[lane].clock;
    return other < clock.size() ? clock[other] : 0;
  }
  bool implied(std::uint32_t lane, std::uint32_t other, std::uint64_t position) const {
    return lane == other || position <= known(lane, other);
  }
  // `lane` passes `at` only after `other` has passed `position`.
  // REQUIRES: `at` never falls from call to call for one lane.
  void learn(std::uint32_t lane, std::uint64_t at, std::uint32_t other, std::uint64_t position);

 private:
  struct Fact {
    std::uint64_t at;
    std::uint64_t position;
    std::uint32_t other;
  };
  struct Lane {
    std::vector<std::uint64_t> clock;
    std::vector<Fact> log;            // a ring once it is full; by rising `at`
    std::size_t log_begin = 0;        // oldest entry of the ring
    std::vector<std::uint64_t> base;  // what the entries that left the log said, together
    std::uint64_t base_at = 0;        // where the last of them was learned

    const Fact& fact(std::size_t i) const { return log[(log_begin + i) % log.size()]; }
  };

  void raise(std::uint32_t lane, std::uint64_t at, std::uint32_t other, std::uint64_t position);
  // A few full clocks at least: lanes that follow one another within a window or two find each
  // other's facts one by one; who is further behind takes the sum as a whole.
  std::size_t log_capacity() const { return std::max(log_facts_, lanes_.size() * 4); }

  const std::size_t log_facts_;
  std::vector<Lane> lanes_;
};

}  // namespace alloctape::converter
