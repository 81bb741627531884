// The trace file from inside the tracee: claiming space in it and writing to it.
//
// Nothing here may disturb the program: a descriptor that was closed and reused is recognised before
// every write (device and inode), limits are looked up before they can raise SIGXFSZ, and space that
// is going to be mapped is allocated first, so that a full disk is an error code and never SIGBUS.
// Errors are -errno. Thread safety: all functions.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tracer/preload/image.h"
#include "tracer/preload/law.h"

namespace alloctape::tracer {

// Creates the file under the configured pattern; appends .1, .2, ... while the name is taken.
// Returns the descriptor, moved out of the way of the program's own; `path` and `sequence` tell the
// name that was free.
long create_trace_file(char* path, size_t path_capacity, uint32_t* sequence);

// An atomically claimed range of the file that nobody else writes to.
uint64_t claim(Image* image, uint64_t bytes, uint64_t alignment);
// Writes all of it, or returns an error.
long write_at(Image* image, struct iovec* parts, int count, uint64_t offset);
// Maps a freshly claimed, allocated range. 0 and *mapping, or an error.
long map_extent(Image* image, uint64_t bytes, void** mapping);

}  // namespace alloctape::tracer
