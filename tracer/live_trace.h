// A trace that its program may still be writing, from outside.
//
// Thread safety: all functions, across processes too.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "formats/wire/event_word.h"
#include "formats/wire/trace_layout.h"

namespace alloctape::tracer {

// Sets the control word to the next generation with this state; kNone: with the state that it has.
// Returns false, and does nothing, where the state is the same already, or the image is not
// recording yet.
bool set_control(wire::TraceHeader* header, wire::ControlState state);

// Appends a block, header and all, at a range claimed for it. False: errno tells why, and a hole is
// left, which readers step over.
bool append_block(int fd, wire::TraceHeader* header, std::string block);

// Words of the record that begins with this word, which is not 0. (Others of a wide record may be.)
inline std::size_t record_words(std::uint64_t first) {
  const bool wide = wire::word_kind(first) == wire::Kind::kWide;
  return wide && wire::wide_words(first) > 1 ? wire::wide_words(first) : 1;
}

// All of it, or false with errno.
bool read_fully(int fd, void* data, std::size_t bytes, std::uint64_t offset);
bool write_fully(int fd, const void* data, std::size_t bytes, std::uint64_t offset);

}  // namespace alloctape::tracer
