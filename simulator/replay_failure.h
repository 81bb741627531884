// What was going on when a replay came to a bad end.
#pragma once

#include <cstdint>
#include <optional>

#include "formats/result_json.h"
#include "formats/workload_file.h"
#include "simulator/replay_collect.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// REQUIRES: the process is gone, and had not reached Phase::kComplete.
formats::RunFailure describe_failure(SharedHeader* shared, const formats::WorkloadFile& workload,
                                     const ProcessEnd& end);

// The lane that crashed, or the one that others wait for; kNoLane when nobody can be named.
std::uint32_t guilty_lane(SharedHeader* shared, const formats::WorkloadFile& workload);

// Index in the trace of the thread that ran at a position of a lane.
std::optional<std::uint64_t> thread_at(const formats::WorkloadFile& workload, std::uint32_t lane,
                                       std::uint64_t position);

}  // namespace alloctape::simulator
