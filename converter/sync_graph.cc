#include "converter/sync_graph.h"

#include <algorithm>

namespace alloctape::converter {
namespace {

void raise_entry(std::vector<std::uint64_t>& clock, std::uint32_t other, std::uint64_t position) {
  if (other >= clock.size()) clock.resize(other + 1);
  clock[other] = std::max(clock[other], position);
}

}  // namespace

void SyncGraph::add_lane() { lanes_.emplace_back(); }

void SyncGraph::raise(std::uint32_t lane_index, std::uint64_t at, std::uint32_t other,
                      std::uint64_t position) {
  if (implied(lane_index, other, position)) return;
  Lane& lane = lanes_[lane_index];
  raise_entry(lane.clock, other, position);
  const Fact fact{at, position, other};
  if (lane.log.size() < log_capacity() && lane.log_begin == 0) {
    lane.log.push_back(fact);
    return;
  }
  Fact& oldest = lane.log[lane.log_begin];
  raise_entry(lane.base, oldest.other, oldest.position);
  lane.base_at = oldest.at;
  oldest = fact;
  lane.log_begin = (lane.log_begin + 1) % lane.log.size();
}

void SyncGraph::learn(std::uint32_t lane_index, std::uint64_t at, std::uint32_t other_index,
                      std::uint64_t position) {
  const std::uint64_t known_before = known(lane_index, other_index);
  if (implied(lane_index, other_index, position)) return;
  raise(lane_index, at, other_index, position);
  // The other lane's facts up to `position`; those up to known_before were taken over with it.
  const Lane& other = lanes_[other_index];
  if (position < other.base_at) return;  // the base may say more than was true at `position`
  if (known_before < other.base_at) {
    for (std::uint32_t x = 0; x < other.base.size(); ++x) {
      raise(lane_index, at, x, other.base[x]);
    }
  }
  std::size_t low = 0, high = other.log.size();
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (other.fact(middle).at <= known_before) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  for (; low < other.log.size() && other.fact(low).at <= position; ++low) {
    const Fact fact = other.fact(low);
    raise(lane_index, at, fact.other, fact.position);
  }
}

}  // namespace alloctape::converter
