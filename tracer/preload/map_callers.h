// Whose call of mmap is this: the program's own, or the allocator's?
#pragma once

#include "tracer/preload/law.h"

namespace alloctape::tracer {

// Whether code at `caller` belongs to the object that provides malloc, or to one that it needs
// directly (tbbmalloc's proxy keeps its allocator in a second library). What these map is the heap,
// which malloc's own events tell about. REQUIRES: real_functions_ready() has returned true.
// Async-signal-safe once it has been called; takes the dynamic linker's (recursive) lock before.
bool is_allocator_code(const void* caller);

}  // namespace alloctape::tracer
