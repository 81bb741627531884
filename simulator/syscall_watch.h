// Counts and times the system calls by which an allocator gets, returns and guards memory: a pass
// of its own, since a stopped thread's clock means nothing.
//
// A seccomp filter in the replayer (replayer/syscall_filter.h) stops at the calls of interest
// alone; the driver sees them by ptrace, takes the time from there to the return, and subtracts
// what a call that does nothing takes so (calibrated in the same process).
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "formats/result_json.h"
#include "simulator/replay_collect.h"
#include "simulator/replay_shared.h"

namespace alloctape::simulator {

// Attaches to a replayer that waits for it, and watches it to its end. Calls of the harness itself
// (its futexes, its read-ahead) and those outside the run are left out.
// REQUIRES: the process is a child that was started with `count_syscalls`; same thread throughout.
ProcessEnd watch_syscalls(pid_t pid, SharedHeader* shared, std::uint64_t timeout_ns,
                          formats::SyscallCounts& counts);

}  // namespace alloctape::simulator
