// Where a thread of the replayer stands, as text in shared memory, written from a signal handler.
#pragma once

#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// Fills in `frames` and `frame_count`, once for a process: further calls do nothing. Allocates
// nothing: the unwinder of libgcc reads the tables of loaded objects through a lock-free look-up.
// Where a stack is too broken to be walked, the walk ends or dies; what was found is kept.
void write_backtrace(SharedHeader& shared);

}  // namespace alloctape::simulator
