// The scripts of all lanes as they are being written, with just the sync points they need.
//
// A hand-over of many blocks needs one sync point, not one for each: when a wait is needed and the
// lane has waited for the same lane shortly before, the earlier wait is raised to cover this one,
// too. That is sound (what is needed later is waited for earlier) and cannot deadlock as long as
// the other lane had, in recorded order, passed the new position when the earlier wait was made.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "converter/sync_graph.h"
#include "formats/workload_writer.h"

namespace alloctape::converter {

// Thrown through the walk when the workload cannot be written; convert() catches it.
struct WriteFailed {
  formats::Error error;
};

// Where an op ended: what others wait for.
struct Place {
  std::uint32_t lane = 0;
  std::uint64_t position = 0;  // 0: before everything

  // For Block::user, which has one word for it.
  static constexpr int kPositionBits = 44;
  static constexpr std::uint64_t kMaxPosition = (std::uint64_t{1} << kPositionBits) - 1;
  static constexpr std::uint32_t kMaxLanes = 1u << (64 - kPositionBits);
  std::uint64_t packed() const {
    return static_cast<std::uint64_t>(lane) << kPositionBits | position;
  }
  static Place unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> kPositionBits), word & kMaxPosition};
  }
};

class Sequencer {
 public:
  explicit Sequencer(formats::WorkloadWriter& writer) : writer_(writer) {}

  std::uint32_t add_lane();
  std::uint32_t lanes() const { return graph_.lanes(); }
  std::uint64_t position(std::uint32_t lane) const { return writer_.position(lane); }
  Place here(std::uint32_t lane) const { return {lane, position(lane)}; }

  bool implied(std::uint32_t lane, Place place) const {
    return graph_.implied(lane, place.lane, place.position);
  }
  // What `lane` appends from now on happens after `place`.
  void require(std::uint32_t lane, Place place) {
    if (!implied(lane, place)) wait(lane, place);
  }
  std::uint64_t append(std::uint32_t lane, const formats::Op& op);
  void append_time(std::uint32_t lane, std::uint64_t ns);
  void append_exit(std::uint32_t lane);
  void append_prologue(std::uint64_t slot, std::uint64_t size, bool size_known);
  // Starts the next thread of `lane` from `spawner`, after the lane's previous thread has ended.
  void spawn(std::uint32_t spawner, std::uint32_t lane);
  std::uint64_t sync_points() const { return sync_points_; }

 private:
  // A wait that may still be raised.
  struct RecentWait {
    std::uint64_t end = 0;        // the lane's position after it; 0: none
    std::uint64_t available = 0;  // how far the other lane had come then
    std::uint32_t other = 0;
  };
  struct RecentWaits {
    std::array<RecentWait, 4> waits;
    unsigned next = 0;
  };
  // Words over which a later need may be moved to an earlier wait: what the replay loses in
  // freedom.
  static constexpr std::uint64_t kReach = 512;

  void wait(std::uint32_t lane, Place place);
  bool raise_recent(std::uint32_t lane, Place published);

  formats::WorkloadWriter& writer_;
  SyncGraph graph_;
  std::vector<RecentWaits> recent_;  // by lane
  std::uint64_t sync_points_ = 0;
};

}  // namespace alloctape::converter
