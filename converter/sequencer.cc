#include "converter/sequencer.h"

namespace alloctape::converter {
namespace {

template <typename T>
T value_of(formats::Result<T> result) {
  if (!result) throw WriteFailed{result.error()};
  return *result;
}

}  // namespace

std::uint32_t Sequencer::add_lane() {
  if (graph_.lanes() == Place::kMaxLanes) {
    throw WriteFailed{{formats::ErrorCode::kCorrupt,
                       "more than a million threads at the same time cannot be converted",
                       {},
                       {},
                       {}}};
  }
  graph_.add_lane();
  recent_.emplace_back();
  return writer_.add_lane();
}

bool Sequencer::raise_recent(std::uint32_t lane, Place published) {
  const std::uint64_t now = position(lane);
  for (const RecentWait& wait : recent_[lane].waits) {
    if (wait.end == 0 || wait.other != published.lane || published.position > wait.available ||
        now - wait.end > kReach) {
      continue;
    }
    if (!writer_.raise_wait(lane, wait.end, published.position)) continue;
    // Logged where the lane is now, not at the wait: whoever took over facts of the places between
    // has not taken this one. Less is known than is true.
    graph_.learn(lane, now, published.lane, published.position);
    return true;
  }
  return false;
}

void Sequencer::wait(std::uint32_t lane, Place place) {
  // The position that is published may lie later than the one needed, but never after now.
  const std::uint64_t published = writer_.publish(place.lane, place.position);
  if (raise_recent(lane, {place.lane, published})) return;
  const std::uint64_t at = value_of(writer_.append_wait(lane, place.lane, published));
  graph_.learn(lane, at, place.lane, published);
  RecentWaits& recent = recent_[lane];
  recent.waits[recent.next++ % recent.waits.size()] = {at, position(place.lane), place.lane};
  ++sync_points_;
}

std::uint64_t Sequencer::append(std::uint32_t lane, const formats::Op& op) {
  return value_of(writer_.append(lane, op));
}

void Sequencer::append_time(std::uint32_t lane, std::uint64_t ns) {
  value_of(writer_.append_time(lane, ns));
}

void Sequencer::append_exit(std::uint32_t lane) { value_of(writer_.append_exit(lane)); }

void Sequencer::append_prologue(std::uint64_t slot, std::uint64_t size, bool size_known) {
  value_of(writer_.append_prologue(slot, size, size_known));
}

void Sequencer::spawn(std::uint32_t spawner, std::uint32_t lane) {
  require(spawner, here(lane));
  const std::uint64_t begin = position(spawner);
  value_of(writer_.append_spawn(spawner, lane));
  graph_.learn(lane, position(lane) + 1, spawner, begin);
  recent_[lane] = {};  // the waits of the thread before are over
}

}  // namespace alloctape::converter
