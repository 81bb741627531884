// What a trace is, for `info`: facts of the header and metadata, and counts from decoding.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "formats/trace_file.h"

namespace alloctape::analysis {

// How the recording stands.
enum class RecordingState {
  kRecording,   // the program still runs
  kFinished,    // the tracer's destructor ran
  kStopped,     // a limit was hit; later events were counted, not recorded
  kUnfinished,  // the program is gone without a last word: killed, _exit, exec, or a crash
  kUnknown,     // a value of a later version
};
RecordingState recording_state(const formats::TraceFile& file);
const char* name_of(RecordingState state);

// What the control word says: "recording", "paused", "stopped", or "not started".
const char* control_name(const wire::TraceHeader& header);

struct DecodedCounts {
  std::uint64_t events = 0;      // thread starts and ends included
  std::uint64_t api_events = 0;  // calls of the memory API
  std::uint64_t threads = 0;
  std::uint64_t first_stamp = 0, last_stamp = 0;
  std::uint64_t damaged_blocks = 0;
};
// Decodes every event once, stream by stream. `progress` may be empty; it is told words done.
DecodedCounts count_events(const formats::TraceFile& file,
                           const std::function<void(std::uint64_t)>& progress);

// "2026-11-20 10:19:03 UTC"
std::string utc_time(std::uint64_t realtime_ns);

}  // namespace alloctape::analysis
