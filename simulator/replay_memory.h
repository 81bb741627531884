// From the replayer's closer looks at memory to parts that explain it.
#pragma once

#include "formats/result_json.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// Points, decomposition, what is left after everything was freed, the allocator's own view.
// REQUIRES: the process is gone; `run.baseline_rss_bytes` is known.
void collect_memory(SharedHeader* shared, formats::RunResult& run);

// Sets what the harness itself takes, as measured with an allocator that does nothing, in place of
// the memory before the run, in the decompositions.
void apply_calibration(std::uint64_t harness_bytes, formats::RunResult& run);

}  // namespace alloctape::simulator
