// One recorded event, decoded.
#pragma once

#include <cstdint>

#include "formats/wire/event_word.h"
#include "formats/wire/opcodes.h"

namespace alloctape::formats {

enum class ThreadIndex : std::uint32_t {};  // threads in order of birth; 0 is the first to record
enum class StreamIndex : std::uint32_t {};  // a run of blocks, written by one thread at a time

// What notes ahead of the event told: only then do usable, old_usable, duration_ticks mean
// something.
enum EventNote : std::uint8_t { kNoteUsable = 1, kNoteOldUsable = 2, kNoteDuration = 4 };

// Times are clock units of the trace (TraceFile::to_ns converts). Sizes are requested bytes.
struct Event {
  wire::Op op = wire::Op::kNone;
  std::uint16_t path = 0;    // wire::Path bits; kPathMoved is set for realloc that moved
  std::uint16_t fields = 0;  // wire::Field bits that were present or are implied
  std::uint8_t notes = 0;    // EventNote bits
  ThreadIndex thread{0};
  std::uint64_t stamp = 0;          // release: before the call; acquire, resize, query: after it
  std::uint64_t release_stamp = 0;  // resize: before the call; elsewhere equal to stamp
  std::uint64_t pointer = 0;        // acquired (0 = failed), released, queried; resize: the result
  std::uint64_t old_pointer = 0;    // resize: the argument, 0 = NULL
  std::uint64_t size = 0;        // acquire, resize: requested bytes (count * size; saturated when
                                 // the product overflows); sized release: the size passed
  std::uint64_t count = 0;       // calloc, reallocarray: first argument, 0 = not recorded
  std::uint64_t alignment = 0;   // 0 = none passed
  std::uint64_t value = 0;       // malloc_usable_size: the answer. thread_start: the kernel's tid.
                                 // Where count was recorded: the element size
  std::uint64_t offset = 0;      // byte offset of its first word in the file
  std::uint64_t usable = 0;      // acquire, resize: usable bytes of the block returned
  std::uint64_t old_usable = 0;  // release, resize: usable bytes of the block passed
  std::uint64_t duration_ticks = 0;  // of the call, raw ticks

  bool failed() const { return path & wire::kPathFailed; }
};

}  // namespace alloctape::formats
