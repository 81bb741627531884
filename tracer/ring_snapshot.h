// A copy of a flight recorder's trace as it was at one moment, taken while the program goes on.
//
// Thread safety: one thread for each call.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace alloctape::tracer {

struct RingSnapshot {
  std::string path;
  std::uint64_t events = 0;              // in the copy, meta events included
  std::uint64_t overwritten_events = 0;  // made before the moment, and not in the copy
  std::uint64_t overwritten_blocks = 0;
  std::uint64_t lost_blocks = 0;  // of these: overwritten while they were being copied
  std::uint64_t bytes = 0;        // of the file, holes included
  // events + overwritten_events is what was made until that moment. False: the ring turned round
  // while it was copied, or the program was killed in the middle of a block.
  bool exact = true;
};

// Copies the trace behind `trace_fd` (read and write) to a new file. Throws ControlError: it has no
// ring, or the copy cannot be written; then there is none.
RingSnapshot save_ring(int trace_fd, const std::string& path);

// Where a copy of this trace goes by default: x.atrace -> x.dump1.atrace, or 2, 3, ... while the
// name is taken.
std::string snapshot_path(const std::string& trace_path);

}  // namespace alloctape::tracer
