// Finding the blocks of a trace: one pass over the block headers, duplicates resolved, staged tails
// taken. Internal to formats/.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/result.h"
#include "formats/trace_file.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::formats {

struct TraceScan {
  std::vector<std::vector<BlockRef>> streams;
  std::vector<std::uint32_t> stream_numbers;  // of each of them, in the file
  std::vector<OtherBlock> others;
  std::vector<std::unique_ptr<std::uint64_t[]>>
      staged_copies;  // what some BlockRef::data point into
  std::vector<wire::RssSample> rss;
  std::vector<TraceMark> marks;
  TraceMetadata metadata;
  std::uint64_t dropped_events = 0;  // of staging extents
  std::uint64_t event_words = 0;
  // Of a ring, where more than the header counts had to be left out.
  std::uint64_t overwritten_events = 0, overwritten_blocks = 0;
  bool truncated = false;
  // A stream has its staged tail, but not the block before it. In a trace that is being written
  // this means that the block reached the file after the file was mapped: map it again.
  bool tail_without_body = false;
  std::vector<Error> warnings;
};

// REQUIRES: header has been checked, header.header_bytes is a multiple of kBlockAlign.
TraceScan scan_trace(const MappedFile& file, const wire::TraceHeader& header);

}  // namespace alloctape::formats
