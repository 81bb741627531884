#include "tracer/preload/bootstrap_arena.h"

#include "tracer/preload/forbidden.h"

namespace alloctape::tracer {

alignas(4096) unsigned char g_bootstrap[kBootstrapBytes];

namespace {
size_t g_used;
constexpr size_t kHeader = 16;  // holds the block's size, right before it
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
      *reinterpret_cast<size_t*>(g_bootstrap + start - kHeader) = bytes;
      return g_bootstrap + start;
    }
  }
}

size_t bootstrap_size(const void* p) {
  return *reinterpret_cast<const size_t*>(static_cast<const unsigned char*>(p) - kHeader);
}

}  // namespace alloctape::tracer
