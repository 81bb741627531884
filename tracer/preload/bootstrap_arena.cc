#include "tracer/preload/bootstrap_arena.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

alignas(4096) unsigned char g_bootstrap[kBootstrapBytes];

namespace {
size_t g_used;
// The word right before a block holds its size, times 8, and the flag by which glibc tells mappings
// of their own: so the fast path of free() leaves it to the slow one without a check for it.
constexpr size_t kHeader = 16;
constexpr size_t kMappedFlag = 2;
size_t* header_of(const void* p) { return reinterpret_cast<size_t*>(const_cast<void*>(p)) - 1; }
}  // namespace

void* bootstrap_allocate(size_t bytes, size_t alignment) {
  if (alignment < 16) alignment = 16;
  if ((alignment & (alignment - 1)) || alignment > 4096 || bytes > kBootstrapBytes) return nullptr;
  // A compare-and-swap rather than an add: a request that does not fit must not use up the rest.
  size_t used = __atomic_load_n(&g_used, __ATOMIC_RELAXED);
  for (;;) {
    const size_t start = (used + kHeader + alignment - 1) & ~(alignment - 1);
    const size_t end = start + ((bytes + 15) & ~size_t{15});
    if (end > kBootstrapBytes) return nullptr;
    if (__atomic_compare_exchange_n(&g_used, &used, end, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      *header_of(g_bootstrap + start) = bytes << 3 | kMappedFlag;
      return g_bootstrap + start;
    }
  }
}

size_t bootstrap_size(const void* p) { return *header_of(p) >> 3; }

}  // namespace alloctape::tracer
