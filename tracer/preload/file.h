// The trace file from inside the tracee: claiming space in it and writing to it.
//
// Nothing here may disturb the program: a descriptor that was closed and reused is recognised
// before every write (device and inode); limits are looked up first, and where one is lowered at
// that very moment, SIGXFSZ is blocked and taken back; space that is going to be mapped is
// allocated first, so that a full disk is an error code and never SIGBUS. Errors are -errno. Thread
// safety: all functions.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tracer/preload/image.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

// The error by which a recording ends at --max-size; in the header it stands as EFBIG.
inline constexpr long kMaxSizeReached = -10000;

// Creates the file under the configured pattern; appends .1, .2, ... while the name is taken.
// Returns the descriptor, moved out of the way of the program's own; `path` and `sequence` tell the
// name that was free.
long create_trace_file(char* path, size_t path_capacity, uint32_t* sequence);

// Sees to it that image->fd is the trace's. Its number, or an error.
long ensure_descriptor(Image* image);
// An atomically claimed range of the file that nobody else writes to.
uint64_t claim(Image* image, uint64_t bytes, uint64_t alignment);
// Writes all of it, or returns an error.
long write_at(Image* image, struct iovec* parts, int count, uint64_t offset);
// Reads all of it; what lies behind the end of the file reads as zeros.
long read_at(Image* image, void* to, uint64_t bytes, uint64_t offset);
// Allocates a claimed range for good, so that writing to it cannot run out of space.
long allocate(Image* image, uint64_t offset, uint64_t bytes);
// Maps a freshly claimed, allocated range. 0 and *mapping, or an error.
long map_extent(Image* image, uint64_t bytes, void** mapping);

}  // namespace alloctape::tracer
