// From the shared memory of a replay to its result.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/result_json.h"
#include "formats/workload_file.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// How the process ended, as the driver saw it.
struct ProcessEnd {
  bool timed_out = false;  // killed by us
  std::optional<int> signal;
  std::optional<int> exit_code;
};

// A look at the process from outside.
struct OutsideSample {
  std::uint64_t ns;  // CLOCK_MONOTONIC
  std::uint64_t anon_bytes, vm_bytes;
};

// Fills in everything but candidate, workload path and round. `memory`: the descriptor of `shared`.
// REQUIRES: the process is gone.
void collect(SharedHeader* shared, int memory, const formats::WorkloadFile& workload,
             const ProcessEnd& end, const std::vector<OutsideSample>& outside,
             formats::RunResult& result);

// Sum of the lanes' positions: grows as long as any op finishes. `total`: what it will be.
std::uint64_t words_done(SharedHeader* shared);

}  // namespace alloctape::simulator
