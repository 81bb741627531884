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
#include "formats/stream_decoder.h"
#include "formats/wire/packed_layout.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::formats {

struct TraceMetadata {
  std::string executable, working_directory, preload, allocator_path, allocator_build_id;
  std::string tracer_version, options, host_kernel;
  std::vector<std::string> command_line;
};

// A user's mark: where in time, by whom, and its text as it stands in the file (it may be no UTF-8).
struct TraceMark {
  std::uint64_t stamp = 0;
  std::uint32_t tid = 0;  // the kernel's thread id; 0 = set from outside
  std::string text;
};

// One block of events; a packed one stands for several of consecutive sequence numbers.
struct BlockRef {
  std::uint64_t offset;       // of the block header
  const std::uint64_t* data;  // the event words: in the mapping, or a copy of a staged tail;
                              // nullptr: packed, see TraceFile::unpack()
  std::uint64_t sequence;
  std::uint64_t first_stamp;
  std::uint32_t words;   // event words present (staging: up to the first zero word)
  std::uint32_t thread;  // packed: smallest thread index in it
  // What is known without looking at the words; the widest range where nothing is.
  std::uint64_t last_stamp = ~std::uint64_t{0};
  std::uint32_t last_thread = ~0u;
  std::uint32_t blocks = 1;  // packed: how many
  std::uint64_t payload_bytes = 0;
  bool packed() const { return data == nullptr; }
};

// What of a trace a reader wants: blocks that are known to have nothing of it are passed over, of the
// others everything is delivered.
struct BlockRange {
  std::uint64_t first_stamp = 0, last_stamp = ~std::uint64_t{0};
  std::uint32_t first_thread = 0, last_thread = ~0u;
  bool may_be_in(const BlockRef& block) const {
    return block.first_stamp <= last_stamp && block.last_stamp >= first_stamp &&
           (!block.packed() || (block.thread <= last_thread && block.last_thread >= first_thread));
  }
};

// The words of a packed block, and what blocks they were.
struct UnpackedBlock {
  std::vector<std::uint64_t> words;
  std::vector<wire::PackedPart> parts;
};

// A block that holds no events: metadata, samples, marks, and what later versions bring.
struct OtherBlock {
  std::uint64_t offset;         // of the block header
  std::uint64_t payload_bytes;  // as much as the file has
};

class TraceFile {
 public:
  static Result<TraceFile> open(const std::string& path);

  const std::string& path() const;
  const wire::TraceHeader& header() const;  // a copy taken at open
  const TraceMetadata& metadata() const;
  std::uint64_t file_bytes() const;
  // Streams in order of their number in the file (numbers of which nothing is there do not count);
  // each its blocks in order of sequence, duplicates resolved, empty ones left out.
  const std::vector<std::vector<BlockRef>>& streams() const;
  const std::vector<wire::RssSample>& rss() const;  // sorted by ticks
  const std::vector<TraceMark>& marks() const;      // sorted by stamp
  std::uint64_t dropped_events() const;  // header plus staging extents
  // Of a ring: what was recorded and then overwritten.
  std::uint64_t overwritten_events() const;
  std::uint64_t overwritten_blocks() const;
  std::uint64_t event_words() const;     // over all streams
  bool truncated() const;                // the file ends inside a block
  // Findings that do not stop reading: gaps in a stream's sequence, blocks that occur twice, junk
  // between blocks. A hole is no finding by itself; the gap that it may leave is. In a ring, missing
  // first blocks are none.
  const std::vector<Error>& warnings() const;

  double ticks_per_second() const;       // derived from anchors when the header does not say
  // Nanoseconds since the start of the trace; saturates at 0 for stamps before it.
  std::uint64_t to_ns(std::uint64_t stamp) const;
  std::uint64_t ticks_to_ns(std::uint64_t raw_ticks) const;
  std::uint64_t ns_to_units(std::uint64_t ns) const;  // a duration, in clock units
  std::uint64_t duration_ns(std::uint64_t raw_ticks) const;

  const std::byte* data() const;  // the mapping, file_bytes() long
  const std::vector<OtherBlock>& other_blocks() const;   // in order of their offsets
  std::uint32_t stream_number(StreamIndex stream) const;  // the number in the file
  // REQUIRES: block.packed()
  Status unpack(const BlockRef& block, UnpackedBlock& result) const;
  // Tells that a block has been read. In a large file its pages then stop counting as resident; they
  // come back when they are read again.
  void release_pages(const BlockRef& block) const;

 private:
  struct State;
  explicit TraceFile(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace alloctape::formats
