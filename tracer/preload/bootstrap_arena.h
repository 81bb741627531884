// Memory for what the dynamic linker asks of malloc while it is being asked where malloc is. A bump
// arena in .bss: its blocks are never given back, and every interposed function knows them. Such
// calls are the tracer's own doing, so they are no events.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tracer/preload/law.h"

namespace alloctape::tracer {

inline constexpr size_t kBootstrapBytes = 64 * 1024;
ALLOCTAPE_HIDDEN extern unsigned char g_bootstrap[kBootstrapBytes];

ALLOCTAPE_INLINE bool in_bootstrap(const void* p) {
  return ALLOCTAPE_UNLIKELY(
      reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(g_bootstrap) < kBootstrapBytes);
}
// nullptr when it is full or the alignment is no power of two. The memory is zero.
void* bootstrap_allocate(size_t bytes, size_t alignment = 16);
size_t bootstrap_size(const void* p);  // REQUIRES: in_bootstrap(p)

}  // namespace alloctape::tracer
