// Trace -> workload. Streams: memory in proportion to live blocks, lanes and threads, never to the
// length of the trace.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "converter/bounded_order.h"
#include "converter/map_script.h"
#include "converter/slot_allocator.h"
#include "formats/heap_walk.h"
#include "formats/result.h"
#include "formats/trace_file.h"
#include "formats/wire/workload_layout.h"

namespace alloctape::converter {

struct ConvertOptions {
  wire::SyncOrder order = wire::SyncOrder::kBounded;
  std::uint64_t window_events = BoundedOrder::kDefaultWindow;  // bounded: longest window
  SlotPolicy slots;
  bool maps = true;          // the program's own mappings become ops, where the trace has them
  std::string tool_version;  // for the provenance
  // Called now and then with words read so far, of TraceFile::event_words(); may be empty.
  std::function<void(std::uint64_t)> progress;
};

// What a conversion did, and what it met.
struct ConvertSummary {
  std::uint64_t events = 0;  // of the trace: ops, and thread starts and ends, forks, marks
  std::uint64_t ops = 0;
  std::uint64_t threads = 0, lanes = 0, slots = 0;
  std::uint64_t unended_threads = 0;  // no end recorded: the process ended before they did
  std::uint64_t sync_points = 0;
  // Of the workload, in recorded order: requested bytes. Blocks of the prologue whose size the trace
  // tells are live from the start; the others count once a resize has told their size.
  std::uint64_t peak_live_bytes = 0, peak_live_blocks = 0, end_live_bytes = 0, end_live_blocks = 0;
  std::uint64_t recorded_ns = 0;
  std::uint64_t workload_bytes = 0, trace_bytes = 0;
  std::uint64_t prologue_blocks = 0;  // lived before the recording, or inherited through fork
  std::uint64_t prologue_unknown_blocks = 0;  // of them, those whose size had to be guessed
  std::uint64_t prologue_bytes = 0;           // of the others
  std::uint64_t freed_in_gaps = 0;  // freed while recording was paused: the workload frees them where
                                    // their address is used again
  bool inherited = false;         // the image was forked from another: that is where they come from
  formats::OrderCounts order;     // inversions repaired, unrepairable; unseen releases, queries
  std::uint64_t lost_blocks = 0;  // by unrepairable inversions: never freed in the workload
  std::uint64_t failed_calls = 0;
  std::uint64_t null_releases = 0, null_queries = 0;
  std::uint64_t reallocs_to_zero = 0, reallocs_from_null = 0;
  MapSummary maps;
  std::uint64_t forks = 0, marks = 0;
  std::uint64_t late_ops = 0;  // came after another thread had taken their thread's lane
  std::uint64_t dropped_events = 0, corrupt_blocks = 0;
  std::string first_corruption;
  bool truncated = false;
  double wall_seconds = 0;
};

// Writes a temporary file beside `output` and renames it at the end: after a failure there is
// nothing new under that name. A symbolic link is followed; what is no regular file is an error.
formats::Result<ConvertSummary> convert(const formats::TraceFile& trace, const std::string& output,
                                        const ConvertOptions& options = {});

}  // namespace alloctape::converter
