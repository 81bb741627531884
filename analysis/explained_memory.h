// Whether the calls that a trace holds explain the memory that its process used: what shows, after
// a recording, that an allocator went unnoticed.
//
// Compared are the growth of anonymous RSS, from the first sample to the largest, and the most that
// was live up to then. Allocators keep freed memory, so the largest live heap *before* the sample
// is what RSS may rightly hold; a quarter more and kOverheadPerBlock are granted for their
// overhead.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "formats/trace_file.h"

namespace alloctape::analysis {

struct ExplainedMemory {
  static constexpr std::uint64_t kOverheadPerBlock = 32;
  static constexpr std::uint64_t kMinGapBytes = 16 << 20;

  std::uint64_t rss_growth_bytes = 0;
  // When the sum of both was largest:
  std::uint64_t live_bytes = 0, live_blocks = 0;
  std::uint64_t mapped_bytes = 0;  // by the program itself; known with kFeatureMaps only

  std::uint64_t explained_bytes() const {
    return live_bytes + live_bytes / 4 + live_blocks * kOverheadPerBlock + mapped_bytes;
  }
  // Less than half is explained, and the rest is no trifle.
  bool too_little() const {
    const std::uint64_t explained = explained_bytes();
    return explained < rss_growth_bytes / 2 && rss_growth_bytes - explained > kMinGapBytes;
  }
};

// Why the two cannot be compared, without looking at events: a reason for JSON ("no_samples"), or
// nullptr when they can.
const char* why_not_comparable(const formats::TraceFile& file);

// Walks the heap. nullopt when the recording turns out to have been paused: what is live is not
// known then. `progress` may be empty; it is told event words done.
std::optional<ExplainedMemory> explain_memory(const formats::TraceFile& file,
                                              const std::function<void(std::uint64_t)>& progress);

// For the user, when too_little(): what is amiss, likely reasons, and what to do.
std::string warning_text(const ExplainedMemory& memory, const formats::TraceFile& file);

}  // namespace alloctape::analysis
