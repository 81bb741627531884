// Writes a trace file from events: for tests, golden files, generated traces and imports. The tracer
// has its own encoder (it lives in the tracee); both follow docs/formats/trace.md, and a test holds
// them together.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/event.h"
#include "formats/result.h"
#include "formats/trace_file.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::formats {

class TraceWriter {
 public:
  struct Options {
    std::uint32_t pid = 1, parent_pid = 0;
    std::uint64_t ticks_per_second = 1'000'000'000;
    std::uint32_t clock_shift = 0;
    wire::ClockKind clock_kind = wire::ClockKind::kMonotonicNs;
    std::uint64_t features = 0;
    TraceMetadata metadata;
    std::uint32_t block_words = 8192;  // flush a stream's block when it holds this many words
    bool stage_tails = false;          // leave each stream's last block as an active staging extent,
                                       // as a killed program does
    std::uint64_t ring_bytes = 0;  // event blocks go to a ring of so many bytes, rounded down to
                                   // whole slots; at least one
    std::uint64_t reset_stamp = 0;
  };
  // Creates (or truncates) the file.
  static Result<TraceWriter> create(const std::string& path, const Options& options);
  TraceWriter(TraceWriter&&) noexcept;
  ~TraceWriter();
  // Appends to a stream. Events of one stream must come with stamps that never fall. A change of
  // event.thread within a stream needs a thread_start event first. Chooses compact or wide itself.
  // A release_stamp of 0 stands for the stamp. What event.notes has bits for goes ahead as notes.
  Status append(StreamIndex stream, const Event& event);
  Status add_rss(const std::vector<wire::RssSample>& samples);
  Status add_mark(const TraceMark& mark);
  Status finish();  // flushes all streams

 private:
  struct State;
  explicit TraceWriter(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

}  // namespace alloctape::formats
