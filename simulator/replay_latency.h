// Latencies of a replay: from the lanes' histograms to figures by function and size.
#pragma once

#include "formats/result_json.h"
#include "formats/workload_file.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// REQUIRES: the process is gone, the run was timed. `memory`: the descriptor of `shared`.
void collect_latency(SharedHeader* shared, int memory, const formats::WorkloadFile& workload,
                     double ns_per_tick, formats::RunResult& run);

}  // namespace alloctape::simulator
