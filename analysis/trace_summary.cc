#include "analysis/trace_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <sstream>
#include <unordered_set>

#include "formats/wire/opcodes.h"

namespace alloctape::analysis {
namespace {

// A process is the one that was recorded when its pid and its start time fit; pids are used again.
bool still_runs(const wire::TraceHeader& header) {
  std::ifstream in(fmt::format("/proc/{}/stat", header.pid));
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  // The second field, the name in parentheses, may hold anything; the third follows the last one.
  const std::size_t close = text.rfind(')');
  if (close == std::string::npos) return false;
  std::istringstream fields(text.substr(close + 1));
  std::string field;
  for (int number = 3; number <= 22 && fields >> field; ++number) {
    if (number == 3 && (field == "Z" || field == "X")) return false;
    if (number == 22) {
      return std::strtoull(field.c_str(), nullptr, 10) == header.process_start_ticks;
    }
  }
  return false;
}

}  // namespace

RecordingState recording_state(const formats::TraceFile& file) {
  switch (file.header().state) {
    case wire::TraceState::kRecording:
      return still_runs(file.header()) ? RecordingState::kRecording : RecordingState::kUnfinished;
    case wire::TraceState::kFinished:
      return RecordingState::kFinished;
    case wire::TraceState::kStopped:
      return RecordingState::kStopped;
  }
  return RecordingState::kUnknown;
}

const char* name_of(RecordingState state) {
  switch (state) {
    case RecordingState::kRecording:
      return "recording";
    case RecordingState::kFinished:
      return "finished";
    case RecordingState::kStopped:
      return "stopped";
    case RecordingState::kUnfinished:
      return "unfinished";
    case RecordingState::kUnknown:
      break;
  }
  return "unknown";
}

const char* control_name(const wire::TraceHeader& header) {
  switch (wire::control_state(header.control)) {
    case wire::ControlState::kRecord:
      return "recording";
    case wire::ControlState::kPaused:
      return "paused";
    case wire::ControlState::kStopped:
      return "stopped";
    case wire::ControlState::kNone:
      break;
  }
  return "not started";
}

DecodedCounts count_events(const formats::TraceFile& file,
                           const std::function<void(std::uint64_t)>& progress) {
  constexpr std::uint64_t kProgressEvents = 1 << 20;
  DecodedCounts counts;
  std::unordered_set<std::uint32_t> threads;
  std::uint64_t words_before = 0;
  for (std::size_t i = 0; i < file.streams().size(); ++i) {
    formats::StreamDecoder decoder(file, formats::StreamIndex{static_cast<std::uint32_t>(i)});
    formats::Event event;
    bool first_of_stream = true;
    std::uint32_t last_thread = 0;
    for (;;) {
      if (!decoder.next(event)) {
        if (decoder.error() == nullptr) break;
        ++counts.damaged_blocks;
        if (!decoder.skip_block()) break;
        continue;
      }
      counts.first_stamp =
          counts.events == 0 ? event.stamp : std::min(counts.first_stamp, event.stamp);
      counts.last_stamp = std::max(counts.last_stamp, event.stamp);
      ++counts.events;
      counts.api_events += wire::is_api_op(event.op);
      const auto thread = static_cast<std::uint32_t>(event.thread);
      if (first_of_stream || thread != last_thread) threads.insert(thread);
      first_of_stream = false;
      last_thread = thread;
      if (progress && counts.events % kProgressEvents == 0) {
        progress(words_before + decoder.words_done());
      }
    }
    words_before += decoder.words_done();
  }
  counts.threads = threads.size();
  return counts;
}

std::string utc_time(std::uint64_t realtime_ns) {
  if (realtime_ns == 0) return "-";
  const auto seconds = static_cast<std::time_t>(realtime_ns / 1'000'000'000);
  std::tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) return "-";
  char text[64];
  if (std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) return "-";
  return text;
}

}  // namespace alloctape::analysis
