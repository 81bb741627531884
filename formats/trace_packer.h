// Rewrites a trace: event blocks packed (or unpacked), staged tails made ordinary blocks, holes
// left out, an index at the end. What is neither event nor staging is copied as it is.
//
// Thread safety: functions are independent of one another.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "formats/block_packer.h"
#include "formats/result.h"
#include "formats/trace_file.h"

namespace alloctape::formats {

struct PackOptions {
  int level = kDefaultPackLevel;
  bool repack = false;  // also what is packed already; otherwise it is copied
  bool unpack = false;  // the other way: one event block for each that was packed, no index
  // Called with words done, of TraceFile::event_words(); may be empty.
  std::function<void(std::uint64_t)> progress;
  std::function<bool()> cancelled;  // asked now and then: true ends the work with an error
};

struct PackTotals {
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::uint64_t events = 0, words = 0;
  std::uint64_t packed_blocks = 0, copied_blocks = 0, raw_blocks = 0;  // written
};

// Writes to `fd` from offset 0; it is for the caller to make the file and to name it. The events
// that a reader of the new file sees are those that a reader of `trace` sees.
Result<PackTotals> write_packed(const TraceFile& trace, int fd, const PackOptions& options);

// How many words go into one packed block of a trace with so many streams: reading holds one
// unpacked block for each stream.
std::uint64_t packed_block_words(std::uint64_t streams);

}  // namespace alloctape::formats
