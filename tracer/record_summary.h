// What `record` tells at its end: one line for each process image, on the terminal and as JSON.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tracer/image_monitor.h"

namespace alloctape::tracer {

struct ImageSummary {
  std::uint32_t pid = 0;
  std::string program, state, trace_path;
  std::string executable;  // the whole path; empty where the trace does not tell
  std::string went_on_as;  // a program that the process became by exec
  std::string problem;     // why the trace could not be read; then the figures below are void
  std::uint64_t events = 0;
  bool events_exact = true;  // false: estimated from the number of words
  std::uint64_t trace_bytes = 0, dropped_events = 0;
  int stop_errno = 0;     // the limit that ended the recording early; 0 = none
  std::string commanded;  // recording, paused or stopped, as it was last told
  std::uint64_t ring_bytes = 0, overwritten_events = 0;  // 0 = no ring
  std::uint32_t threads = 0;
  std::optional<std::uint64_t> peak_anon_bytes;  // never sampled: nullopt
};

struct RecordSummary {
  std::vector<std::string> arguments;
  int exit_status = 0;
  std::uint64_t wall_ns = 0;
  std::uint64_t ticks_per_second = 0;
  std::vector<ImageSummary> images;
};

// Reads every trace once, to count its events.
std::vector<ImageSummary> summarise(const std::vector<Image>& images,
                                    const std::map<pid_t, int>& wait_statuses);

// The lines for stderr; with the warnings, which stand alone under --quiet.
std::string to_text(const RecordSummary& summary);
std::string warnings_text(const RecordSummary& summary);
std::string to_json(const RecordSummary& summary);

}  // namespace alloctape::tracer
