// What was going on when a replay came to a bad end.
#pragma once

#include "formats/result_json.h"
#include "formats/workload_file.h"
#include "simulator/replay_collect.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// REQUIRES: the process is gone, and had not reached Phase::kComplete.
formats::RunFailure describe_failure(SharedHeader* shared, const formats::WorkloadFile& workload,
                                     const ProcessEnd& end);

}  // namespace alloctape::simulator
