// The C half of the API: malloc and its family. One function of ours for each, same contract.
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "tracer/preload/bootstrap_arena.h"
#include "tracer/preload/real_functions.h"
#include "tracer/preload/recorder.h"
#include "tracer/preload/forbidden.h"

using namespace alloctape::tracer;  // NOLINT: the file defines the C names of the API
namespace wire = alloctape::wire;
using wire::Op;

#define FRAME __builtin_frame_address(0)

namespace {

// Any acquire that is not on the fast path. `call` is the real function with its arguments.
template <typename Call>
ALLOCTAPE_INLINE void* acquire_slowly(Op op, uint64_t size, uint64_t count, uint64_t alignment,
                                      const void* frame, Call call) {
  if (!real_functions_ready()) {
    if (count) return nullptr;  // the product overflowed
    return bootstrap_allocate(size, alignment);
  }
  Stream* s;
  const Route r = route(true, nullptr, size, frame, &s);
  const void* before = program_break();
  void* p = call();
  if (r != Route::kForwardOnly)
    record_slowly(r, s, acquire_event(op, p, size, count, alignment, acquire_path(p, before)));
  return p;
}

template <typename Call>
ALLOCTAPE_INLINE void release_slowly(Op op, void* p, uint64_t size, uint64_t alignment,
                                     const void* frame, Call call) {
  if (!real_functions_ready()) return;
  Stream* s;
  const Route r = route(false, p, size, frame, &s);
  if (r != Route::kForwardOnly) record_slowly(r, s, release_event(op, p, size, alignment));
  call();
}

ALLOCTAPE_COLD void* slow_malloc(size_t size, const void* frame) {
  return acquire_slowly(Op::kMalloc, size, 0, 0, frame, [&] { return g_real.malloc_(size); });
}
// `overflow`: the product did not fit; the event then carries both factors.
ALLOCTAPE_COLD void* slow_calloc(size_t count, size_t size, size_t bytes, bool overflow,
                                 const void* frame) {
  return acquire_slowly(Op::kCalloc, overflow ? size : bytes, overflow ? count : 0, 0, frame,
                        [&] { return g_real.calloc_(count, size); });
}
ALLOCTAPE_COLD void slow_free(void* p, const void* frame) {
  release_slowly(Op::kFree, p, 0, 0, frame, [&] { g_real.free_(p); });
}

// A block that outlives the search for malloc moves to malloc: an acquire, as far as events go.
void* bootstrap_resize(void* p, size_t size) {
  void* q = real_functions_ready() ? slow_malloc(size, FRAME) : bootstrap_allocate(size);
  if (q) memcpy(q, p, size < bootstrap_size(p) ? size : bootstrap_size(p));
  return q;
}

// realloc and reallocarray. `bytes` is the product, or with `overflow` the element size.
template <typename Call>
ALLOCTAPE_INLINE void* resize(Op op, void* old, size_t bytes, size_t count, const void* frame,
                              Call call) {
  if (in_bootstrap(old)) return count ? nullptr : bootstrap_resize(old, bytes);
  Stream* s = t_stream;
  if (ALLOCTAPE_LIKELY(s->mode == Mode::kActive && op == Op::kRealloc)) {
    const void* before = program_break();
    const uint64_t release = old ? stream_stamp(s) : 0;
    const unsigned old_path = old ? chunk_path(old) : 0;
    void* p = call();
    enter(s);
    const uint64_t stamp = stream_stamp(s);
    const unsigned path = acquire_path(p, before);
    if (old) {
      put_resize(s, op, old, old_path, p, bytes, count, path, release, stamp);
    } else if (const unsigned odd = path & ~unsigned{wire::kPathOtherArena};
               !put_compact(s, wire::Kind::kReallocTo, address(p), bytes,
                            path & wire::kPathOtherArena, odd, stamp) &&
               !put_scaled(s, wire::Kind::kReallocTo, address(p), bytes,
                           path & wire::kPathOtherArena, odd, stamp)) {
      put_odd_acquire(s, op, p, bytes, count, path, stamp);
    }
    leave(s);
    return p;
  }
  if (!real_functions_ready()) {
    return !old && !count ? bootstrap_allocate(bytes) : nullptr;
  }
  const Route r = route(true, old, bytes, frame, &s);
  const uint64_t release = stamp_now();
  const void* before = program_break();
  if (r == Route::kForwardOnly) return call();
  // glibc's reallocarray calls realloc, which is ours again.
  Forwarding forwarding(r, s, op, true, nullptr, bytes, 0, frame);
  void* p = call();
  forwarding.done();
  WideEvent e = acquire_event(op, p, bytes, count, 0, acquire_path(p, before));
  if (old) {
    e.fields |= wire::kFieldOldPointer | wire::kFieldReleaseStamp;
    e.old_pointer = address(old);
    e.release_stamp = release;
    if (p && p != old) e.path |= wire::kPathMoved;
    if (!p && !bytes && !count) e.path = 0;  // released, not failed
  }
  record_slowly(r, s, e);
  return p;
}

}  // namespace

ALLOCTAPE_EXPORT void* malloc(size_t size) {
  Stream* s = t_stream;
  if (ALLOCTAPE_UNLIKELY(s->mode != Mode::kActive)) return slow_malloc(size, FRAME);
  const void* before = program_break();
  void* p = g_real.malloc_(size);
  record_acquire(s, Op::kMalloc, p, size, before);
  return p;
}

ALLOCTAPE_EXPORT void* calloc(size_t count, size_t size) {
  size_t bytes;
  const bool overflow = __builtin_mul_overflow(count, size, &bytes);
  Stream* s = t_stream;
  if (ALLOCTAPE_UNLIKELY(overflow || s->mode != Mode::kActive))
    return slow_calloc(count, size, bytes, overflow, FRAME);
  const void* before = program_break();
  void* p = g_real.calloc_(count, size);
  record_acquire(s, Op::kCalloc, p, bytes, before);
  return p;
}

ALLOCTAPE_EXPORT void free(void* p) {
  if (in_bootstrap(p)) return;
  Stream* s = t_stream;
  if (ALLOCTAPE_UNLIKELY(s->mode != Mode::kActive)) return slow_free(p, FRAME);
  record_release(s, Op::kFree, p, 0);
  g_real.free_(p);
}

ALLOCTAPE_EXPORT void* realloc(void* p, size_t size) {
  return resize(Op::kRealloc, p, size, 0, FRAME, [&] { return g_real.realloc_(p, size); });
}

ALLOCTAPE_EXPORT void* reallocarray(void* p, size_t count, size_t size) {
  size_t bytes;
  const bool overflow = __builtin_mul_overflow(count, size, &bytes);
  return resize(Op::kReallocarray, p, overflow ? size : bytes, overflow ? count : 0, FRAME,
                [&]() -> void* {
                  auto f = real<void* (*)(void*, size_t, size_t)>(Op::kReallocarray);
                  if (f) return f(p, count, size);
                  if (overflow) {
                    errno = ENOMEM;
                    return nullptr;
                  }
                  return g_real.realloc_(p, bytes);
                });
}

// posix_memalign, aligned_alloc, memalign, valloc, pvalloc: rare enough to have the wide form only.
ALLOCTAPE_EXPORT int posix_memalign(void** out, size_t alignment, size_t size) {
  if (!real_functions_ready()) {
    void* p = bootstrap_allocate(size, alignment);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
  }
  int result = ENOMEM;
  acquire_slowly(Op::kPosixMemalign, size, 0, alignment, FRAME, [&]() -> void* {
    auto f = real<int (*)(void**, size_t, size_t)>(Op::kPosixMemalign);
    result = f(out, alignment, size);
    return result == 0 ? *out : nullptr;
  });
  return result;
}

ALLOCTAPE_EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  return acquire_slowly(Op::kAlignedAlloc, size, 0, alignment, FRAME, [&] {
    return real<void* (*)(size_t, size_t)>(Op::kAlignedAlloc)(alignment, size);
  });
}

ALLOCTAPE_EXPORT void* memalign(size_t alignment, size_t size) {
  return acquire_slowly(Op::kMemalign, size, 0, alignment, FRAME, [&] {
    return real<void* (*)(size_t, size_t)>(Op::kMemalign)(alignment, size);
  });
}

ALLOCTAPE_EXPORT void* valloc(size_t size) {
  return acquire_slowly(Op::kValloc, size, 0, 4096, FRAME,
                         [&] { return real<void* (*)(size_t)>(Op::kValloc)(size); });
}

ALLOCTAPE_EXPORT void* pvalloc(size_t size) {
  return acquire_slowly(Op::kPvalloc, size, 0, 4096, FRAME,
                         [&] { return real<void* (*)(size_t)>(Op::kPvalloc)(size); });
}

ALLOCTAPE_EXPORT size_t malloc_usable_size(void* p) {
  if (in_bootstrap(p)) return bootstrap_size(p);
  Stream* s = t_stream;
  if (ALLOCTAPE_LIKELY(s->mode == Mode::kActive && p != nullptr)) {
    const size_t n = g_real.usable_size_(p);
    enter(s);
    const uint64_t stamp = stream_stamp(s);
    const unsigned path = chunk_path(p);
    const unsigned odd = path & wire::kPathMapped;
    if (!put_compact(s, wire::Kind::kUsableSize, address(p), n, path & wire::kPathOtherArena, odd,
                     stamp) &&
        !put_scaled(s, wire::Kind::kUsableSize, address(p), n, path & wire::kPathOtherArena, odd,
                    stamp)) {
      WideEvent e{.op = Op::kMallocUsableSize};
      e.path = path;
      e.fields = wire::kFieldPointer | wire::kFieldValue;
      e.pointer = address(p);
      e.value = n;
      put_wide(s, e, stamp);
    }
    leave(s);
    return n;
  }
  if (!real_functions_ready()) return 0;
  const Route r = route(false, p, 0, FRAME, &s);
  const size_t n = g_real.usable_size_(p);
  if (r != Route::kForwardOnly) {
    WideEvent e = release_event(Op::kMallocUsableSize, p, 0, 0);
    e.fields |= wire::kFieldValue;
    e.value = n;
    record_slowly(r, s, e);
  }
  return n;
}

// C23; glibc 2.36 has neither. Where nobody provides them, free() does what they ask for. They stand
// between Forwarding marks, since an allocator may well call free() from them.
ALLOCTAPE_EXPORT void free_sized(void* p, size_t size) {
  if (in_bootstrap(p) || !real_functions_ready()) return;
  Stream* s;
  const Route r = route(false, p, size, FRAME, &s);
  record_slowly(r, s, release_event(Op::kFreeSized, p, size, 0));
  Forwarding forwarding(r, s, Op::kFreeSized, false, p, size, 0, FRAME);
  if (auto f = real<void (*)(void*, size_t)>(Op::kFreeSized)) f(p, size);
  else g_real.free_(p);
  forwarding.done();
}

ALLOCTAPE_EXPORT void free_aligned_sized(void* p, size_t alignment, size_t size) {
  if (in_bootstrap(p) || !real_functions_ready()) return;
  Stream* s;
  const Route r = route(false, p, size, FRAME, &s);
  record_slowly(r, s, release_event(Op::kFreeAlignedSized, p, size, alignment));
  Forwarding forwarding(r, s, Op::kFreeAlignedSized, false, p, size, alignment, FRAME);
  if (auto f = real<void (*)(void*, size_t, size_t)>(Op::kFreeAlignedSized)) f(p, alignment, size);
  else g_real.free_(p);
  forwarding.done();
}
