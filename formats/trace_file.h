// Reading a trace: header, metadata, blocks and events of one .atrace file.
//
// The file is hostile until proven otherwise: every length and count is checked before use, and
// memory is bounded by a small fraction of the file's size. A truncated file is a valid prefix: what
// is whole is delivered, and truncated() tells. A live file (its program still running) is read as
// the prefix that was published when it was opened.
//
// Thread safety: a TraceFile is immutable after open(); decoders are single-threaded, and any number
// of them may run side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/event.h"
#include "formats/mapped_file.h"
#include "formats/result.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::formats {

struct TraceMetadata {
  std::string executable, working_directory, preload, allocator_path, allocator_build_id;
  std::string tracer_version, options, host_kernel;
  std::vector<std::string> command_line;
};

struct BlockRef {
  std::uint64_t offset;      // of the block header
  std::uint64_t sequence;
  std::uint64_t first_stamp;
  std::uint32_t words;       // event words present (staging: up to the first zero word)
  std::uint32_t thread;
};

class TraceFile {
 public:
  static Result<TraceFile> open(const std::string& path);

  const std::string& path() const;
  const wire::TraceHeader& header() const;  // a copy taken at open
  const TraceMetadata& metadata() const;
  std::uint64_t file_bytes() const;
  // Streams in order of index; each its blocks in order of sequence (duplicates resolved).
  const std::vector<std::vector<BlockRef>>& streams() const;
  const std::vector<wire::RssSample>& rss() const;  // sorted by ticks
  std::uint64_t dropped_events() const;  // header plus staging extents
  std::uint64_t event_words() const;     // over all streams
  bool truncated() const;                // the file ends inside a block
  // Findings that do not stop reading: gaps in a stream's sequence, holes, junk between blocks.
  const std::vector<Error>& warnings() const;

  double ticks_per_second() const;       // derived from anchors when the header does not say
  // Nanoseconds since the start of the trace; saturates at 0 for stamps before it.
  std::uint64_t to_ns(std::uint64_t stamp) const;
  std::uint64_t ticks_to_ns(std::uint64_t raw_ticks) const;
  std::uint64_t ns_to_units(std::uint64_t ns) const;  // a duration, in clock units

  const std::byte* data() const;  // the mapping, file_bytes() long

 private:
  TraceFile();
  struct State;
  std::shared_ptr<const State> state_;
};

// Decodes one stream, block by block. next() returns false at the end of the stream or at a corrupt
// word; error() tells them apart. Corruption ends the block, not the stream: skip_block() goes on with
// the next one.
class StreamDecoder {
 public:
  StreamDecoder(const TraceFile& file, StreamIndex stream);
  bool next(Event& event);
  const Error* error() const;  // nullptr: no error
  bool skip_block();           // false: no more blocks
 private:
  // (implementation detail: mapping, block cursor, window table, thread, stamp)
};

}  // namespace alloctape::formats
