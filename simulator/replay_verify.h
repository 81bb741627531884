// What a verifying replay found, in words.
#pragma once

#include "formats/result_json.h"
#include "formats/workload_file.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// Fills in `verification`, and makes a run that was otherwise complete a corrupted one. REQUIRES:
// the process is gone, its other results are in `run`.
void collect_verification(SharedHeader* shared, const formats::WorkloadFile& workload,
                          formats::RunResult& run);

}  // namespace alloctape::simulator
