// The index of a trace: where its event blocks are, what times and threads they hold. Internal to
// formats/.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::formats {

struct TraceIndex {
  std::vector<wire::IndexEntry> entries;  // by stream, then sequence
  // All indexed blocks lie from first_block up to end_of_blocks, and nothing else does.
  std::uint64_t first_block = 0, end_of_blocks = 0;
  bool empty() const { return entries.empty(); }
};

// Empty when there is none, or none that holds what an index must; then the blocks are found by
// their headers. What an entry says of its block is checked when the block is read.
TraceIndex read_index(const MappedFile& file, const wire::TraceHeader& header);

}  // namespace alloctape::formats
