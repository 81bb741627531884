// What the harness itself costs, measured in the process and with the loop that are about to run.
#pragma once

#include "simulator/replayer/replay_context.h"

namespace alloctape::simulator {

// Fills in timer_overhead_ticks, harness_op_ns and sample_ns of the context's shared header.
void calibrate(Context& context);

}  // namespace alloctape::simulator
