// What the plain library and the one of `record --mmap` know of each other.
#pragma once

#include <stdint.h>

namespace alloctape::tracer {

// Defined in interpose_maps.cc, so that its address tells which of the two libraries this is.
void maps_are_recorded() __attribute__((weak, visibility("hidden")));

}  // namespace alloctape::tracer
